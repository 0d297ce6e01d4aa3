//! Decides whether the database is away, as this process sees it, so that an outage is two lines of the log: the
//! database is gone, and it is back. The failures of all loops and requests meanwhile are logged at `debug`.
//!
//! Loops and the API report their failures here, and each commit reports that there was an answer. On Postgres the
//! heartbeat decides: as long as it goes on, only single connections have broken. Each of these is found when it is
//! used next, so an outage ends only after three seconds with answers and without such a failure.
//!
//! The state is a static, because the log belongs to the process too. Any task writes it, under a lock; commits first
//! read the flag `is_on` without the lock, so that they pay nothing while all is well.
//!
//! Must not decide what a loop does during an outage.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::backend::is_absent;
use super::pool::TURN_DEADLINE;
use crate::error::Error;

/// Failures that are further apart than this are separate, and answers that go on for this long end an outage. The
/// queue usually has four connections and uses an idle one at least once a second, so it finds broken ones at shorter
/// intervals.
const QUIET: Duration = Duration::from_secs(3);
/// Failures that go on for this long are an outage even if heartbeats succeed: the heartbeat has a connection of its
/// own.
const LONG: Duration = Duration::from_secs(5);

static OUTAGE: Outage = Outage {
    is_on: AtomicBool::new(false),
    seen: Mutex::new(Seen {
        failing_since: None,
        failed_at: None,
        answered_at: None,
        beat_at: None,
    }),
};

struct Outage {
    /// Whether there is an outage. Written under the lock of `seen`, read by every commit without it. `Relaxed`: a
    /// commit that reads an old value only reports its answer a moment too late, or for nothing.
    is_on: AtomicBool,
    seen: Mutex<Seen>,
}

/// The failures and answers that were reported so far.
#[derive(Default)]
struct Seen {
    /// When the present series of failures began. `None` means that there is none.
    failing_since: Option<Instant>,
    /// When the last failure came.
    failed_at: Option<Instant>,
    /// When the first answer after the last failure came. `None` means that there was none yet.
    answered_at: Option<Instant>,
    /// When the last heartbeat was answered. `None` before the first one, and on SQLite.
    beat_at: Option<Instant>,
}

/// Logs a failure of work that will be tried again: at `debug` if an outage or a broken connection explains it, else as
/// a warning.
pub fn note_failure(err: &Error, what: impl Display) {
    log(err, what, OUTAGE.explains(err, false, Instant::now()));
}

/// Logs a failed heartbeat, as [`note_failure`] does.
pub fn note_missed_beat(err: &Error, what: impl Display) {
    log(err, what, OUTAGE.explains(err, true, Instant::now()));
}

fn log(err: &Error, what: impl Display, is_explained: bool) {
    if is_explained {
        tracing::debug!(%err, "{what}");
    } else {
        tracing::warn!(%err, "{what}");
    }
}

/// Returns whether there is an outage. It is still on for three seconds after answers have returned.
pub fn is_on() -> bool {
    OUTAGE.is_on.load(Ordering::Relaxed)
}

/// Notes that a write has committed.
pub(crate) fn note_answer() {
    if is_on() {
        OUTAGE.answered(Instant::now());
    }
}

/// Notes that a heartbeat has committed.
pub(crate) fn note_beat() {
    OUTAGE.seen().beat_at = Some(Instant::now());
    note_answer();
}

impl Seen {
    /// Returns whether no beat was answered for as long as a statement waits for a connection. If so, a wait that ended
    /// without a connection means more than that all connections were busy.
    fn is_silent(&self, now: Instant) -> bool {
        self.beat_at
            .is_some_and(|at| now.saturating_duration_since(at) > TURN_DEADLINE)
    }
}

impl Outage {
    /// Returns whether an outage or a broken connection explains a failure that came at `now`. Begins an outage if the
    /// failure shows one.
    fn explains(&self, err: &Error, is_beat: bool, now: Instant) -> bool {
        let mut seen = self.seen();
        let is_on = self.is_on.load(Ordering::Relaxed);
        if !is_absent(err).unwrap_or_else(|| is_on || seen.is_silent(now)) {
            return false;
        }
        let past = |at: Instant| now.saturating_duration_since(at);
        if !is_on && seen.failed_at.is_none_or(|at| past(at) > QUIET) {
            seen.failing_since = None;
        }
        let since = *seen.failing_since.get_or_insert(now);
        seen.failed_at = Some(now);
        seen.answered_at = None;
        let is_certain = is_beat || seen.beat_at.is_none() || seen.is_silent(now) || past(since) >= LONG;
        if !is_on && is_certain {
            self.is_on.store(true, Ordering::Relaxed);
            tracing::warn!(%err, "the database is gone; what needs it is tried again until it is back");
        }
        true
    }

    /// Notes an answer, and ends the outage if there were answers and no failures for long enough.
    fn answered(&self, now: Instant) {
        let mut seen = self.seen();
        let Some(since) = seen.failing_since else { return };
        let answered_at = *seen.answered_at.get_or_insert(now);
        if now.saturating_duration_since(answered_at) < QUIET || !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        self.is_on.store(false, Ordering::Relaxed);
        seen.failing_since = None;
        let away = answered_at.saturating_duration_since(since);
        tracing::warn!(away_seconds = away.as_secs_f64(), "the database is back");
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};

    use super::*;

    /// An outage apart from the process's, and the instant from which its times are counted in seconds.
    struct Watch(Outage, Instant);

    impl Watch {
        /// Makes one for Postgres, with the first beat at 0.
        fn new() -> Self {
            let watch = Self::of_sqlite();
            watch.beat(0);
            watch
        }

        fn of_sqlite() -> Self {
            let (is_on, seen) = (AtomicBool::new(false), Mutex::default());
            Self(Outage { is_on, seen }, Instant::now())
        }

        fn at(&self, seconds: u64) -> Instant {
            self.1 + Duration::from_secs(seconds)
        }

        fn beat(&self, seconds: u64) {
            self.0.seen().beat_at = Some(self.at(seconds));
            self.0.answered(self.at(seconds));
        }

        /// Returns whether a failure at this time is explained, and whether there is an outage after it.
        fn fails(&self, err: DbErr, is_beat: bool, seconds: u64) -> (bool, bool) {
            let is_explained = self.0.explains(&err.into(), is_beat, self.at(seconds));
            (is_explained, self.is_on())
        }

        fn is_on(&self) -> bool {
            self.0.is_on.load(Ordering::Relaxed)
        }
    }

    fn broken() -> DbErr {
        DbErr::Conn(RuntimeErr::Internal("broken".to_owned()))
    }

    const BUSY: DbErr = DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);

    #[test]
    fn an_outage_begins_with_a_missed_beat_and_lasts_until_answers_go_on_without_a_failure() {
        let watch = Watch::new();
        assert_eq!(watch.fails(broken(), false, 1), (true, false));
        assert_eq!(watch.fails(broken(), true, 1), (true, true));
        assert_eq!(watch.fails(BUSY, false, 2), (true, true));
        watch.beat(5);
        assert_eq!(
            watch.fails(broken(), false, 6),
            (true, true),
            "another broken connection is found"
        );
        watch.beat(9);
        assert!(watch.is_on(), "not for long enough");
        watch.beat(12);
        assert!(!watch.is_on());
    }

    #[test]
    fn while_beats_go_on_it_takes_failures_that_go_on() {
        let watch = Watch::new();
        assert_eq!(
            watch.fails(BUSY, false, 1),
            (false, false),
            "the connections are only all taken"
        );
        assert_eq!(watch.fails(broken(), false, 1), (true, false));
        watch.beat(9);
        assert_eq!(watch.fails(broken(), false, 10), (true, false), "another one");
        watch.beat(12);
        assert_eq!(watch.fails(broken(), false, 12), (true, false));
        watch.beat(15);
        assert_eq!(watch.fails(broken(), false, 15), (true, true), "for five seconds");
    }

    #[test]
    fn a_silent_host_is_an_outage_and_so_is_any_absence_on_sqlite() {
        let watch = Watch::new();
        assert_eq!(
            watch.fails(BUSY, false, 6),
            (true, true),
            "no beat for longer than a connection is waited for"
        );
        let watch = Watch::of_sqlite();
        assert_eq!(watch.fails(BUSY, false, 1), (false, false));
        assert_eq!(watch.fails(broken(), false, 1), (true, true));
    }

    #[test]
    fn a_fault_of_ours_is_no_outage() {
        assert_eq!(
            Watch::new().fails(DbErr::Custom("a bug".to_owned()), true, 1),
            (false, false)
        );
    }
}
