//! Time as the program sees it: the system's clock, or a test clock that stands until it is advanced.
//! Ids are made here too, so that an id and its instant come from the same reading. Imports nothing above domain.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::domain::id::{IdSource, Prefix};
use crate::domain::timestamp::Timestamp;

#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    source: Source,
    /// Microseconds to add so that replicas with different clocks agree: the database's clock less ours.
    offset: AtomicI64,
    ids: IdSource,
}

enum Source {
    System {
        start: Instant,
        skew: i64,
    },
    Test {
        origin: Timestamp,
        elapsed: watch::Sender<Duration>,
    },
}

impl Clock {
    pub fn system() -> Self {
        Self::system_with_skew(0)
    }

    /// A system clock that is wrong by `skew` microseconds: what a replica with a bad clock sees.
    pub fn system_with_skew(skew: i64) -> Self {
        Self::with(Source::System {
            start: Instant::now(),
            skew,
        })
    }

    /// A clock that shows `origin` until [`Clock::advance`] moves it.
    pub fn test(origin: Timestamp) -> Self {
        Self::with(Source::Test {
            origin,
            elapsed: watch::Sender::new(Duration::ZERO),
        })
    }

    fn with(source: Source) -> Self {
        Self(Arc::new(Inner {
            source,
            offset: AtomicI64::new(0),
            ids: IdSource::default(),
        }))
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.own() + self.offset())
    }

    /// The instant that has passed by both the database's clock and this machine's own. What is removed for good goes by
    /// it: one clock that is far ahead removes nothing.
    pub fn agreed_now(&self) -> Timestamp {
        Timestamp(self.own() + self.offset().min(0))
    }

    /// What this machine's clock shows, in microseconds.
    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    fn own(&self) -> i64 {
        match &self.0.source {
            Source::System { skew, .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                since.as_micros() as i64 + skew
            }
            Source::Test { origin, elapsed } => origin.plus(*elapsed.borrow()).unix_micros(),
        }
    }

    /// Time since this clock was made; never steps.
    pub fn monotonic(&self) -> Duration {
        match &self.0.source {
            Source::System { start, .. } => start.elapsed(),
            Source::Test { elapsed, .. } => *elapsed.borrow(),
        }
    }

    /// A new id, above every earlier one of this clock.
    pub fn new_id(&self, prefix: Prefix) -> String {
        self.0.ids.next(prefix, self.now())
    }

    /// A new id at an instant read before, for rows that must carry the same instant.
    pub fn new_id_at(&self, prefix: Prefix, at: Timestamp) -> String {
        self.0.ids.next(prefix, at)
    }

    /// Waits until [`Clock::monotonic`] has reached `at`.
    pub async fn sleep_until(&self, at: Duration) {
        match &self.0.source {
            Source::System { start, .. } => tokio::time::sleep_until((*start + at).into()).await,
            Source::Test { elapsed, .. } => {
                let mut elapsed = elapsed.subscribe();
                let _ = elapsed.wait_for(|now| *now >= at).await;
            }
        }
    }

    pub async fn sleep(&self, for_: Duration) {
        self.sleep_until(self.monotonic() + for_).await;
    }

    /// Takes over what the database's clock showed just now; a test clock keeps its own time.
    /// Answers how far the two were apart, in microseconds.
    pub fn agree_with(&self, database: Timestamp) -> i64 {
        match &self.0.source {
            Source::System { .. } => {
                let offset = database.unix_micros() - self.own();
                self.0.offset.store(offset, Ordering::Relaxed);
                offset
            }
            Source::Test { .. } => 0,
        }
    }

    /// How far the database's clock is ahead of this machine's, in microseconds, as far as is known.
    pub fn offset(&self) -> i64 {
        self.0.offset.load(Ordering::Relaxed)
    }

    /// Moves a test clock on and wakes its sleepers.
    ///
    /// # Panics
    /// On a system clock.
    pub fn advance(&self, by: Duration) {
        match &self.0.source {
            Source::Test { elapsed, .. } => elapsed.send_modify(|now| *now += by),
            Source::System { .. } => panic!("only a test clock can be advanced"),
        }
    }
}
