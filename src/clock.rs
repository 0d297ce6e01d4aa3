//! The program's source of time: the system's clock, or a test clock that stands still until it is advanced.
//!
//! Instants (`now`) follow the database's clock, so that replicas on machines with different clocks agree. Between two
//! comparisons they go on with this machine's monotonic clock, which never steps; durations (`monotonic`, `sleep`) follow
//! it too. Ids are made here too, so that an
//! id and its row can carry the same instant.
//!
//! Must not import any other module than `domain`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::domain::id::{Id, IdSource, Prefix};
use crate::domain::timestamp::Timestamp;

/// A clock and its source of ids. Clones are the same clock.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    source: Source,
    /// The database's clock minus this machine's, in microseconds. 0 until the two are compared, and for a test clock.
    /// The heartbeat writes it (`agree_with`), all tasks read it. `Relaxed`: no other memory depends on its value.
    offset: AtomicI64,
    /// The database's clock minus `monotonic`, in microseconds; [`UNKNOWN`] until the two are compared, and for a test
    /// clock. Written and read as `offset` is.
    anchor: AtomicI64,
    ids: IdSource,
}

/// No value of an anchor.
const UNKNOWN: i64 = i64::MIN;

enum Source {
    System {
        start: Instant,
        /// Microseconds added to the system's clock, to test replicas whose clocks are wrong or step.
        skew: AtomicI64,
    },
    Test {
        /// The instant that the clock showed when it was made.
        origin: Timestamp,
        /// Time by which `advance` has moved the clock. A watch channel, because it wakes the sleepers.
        elapsed: watch::Sender<Duration>,
    },
}

impl Clock {
    /// Makes a clock that shows the system's time. Its monotonic time begins now, and its source of ids is its own;
    /// only clones share both.
    pub fn system() -> Self {
        Self::system_with_skew(0)
    }

    /// Makes a system clock that is ahead by `skew` microseconds, as on a machine whose clock is wrong.
    pub fn system_with_skew(skew: i64) -> Self {
        Self::with(Source::System {
            start: Instant::now(),
            skew: AtomicI64::new(skew),
        })
    }

    /// Makes a test clock that shows `origin` until [`Clock::advance`] moves it.
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
            anchor: AtomicI64::new(UNKNOWN),
            ids: IdSource::default(),
        }))
    }

    /// Returns the present instant by the database's clock, as far as that is known.
    ///
    /// The time since the last comparison is measured by the monotonic clock. With this machine's clock a step of an hour
    /// would count until the next comparison: retries were due an hour late, and leases of other processes had ended.
    pub fn now(&self) -> Timestamp {
        match self.0.anchor.load(Ordering::Relaxed) {
            UNKNOWN => Timestamp(self.own()),
            anchor => Timestamp(anchor + self.monotonic().as_micros() as i64),
        }
    }

    /// Returns the earlier of the database's clock and this machine's. Rows are removed for good by this instant, so
    /// that a single clock that is far ahead removes nothing.
    pub fn agreed_now(&self) -> Timestamp {
        self.now().min(Timestamp(self.own()))
    }

    /// Returns this machine's clock, in microseconds since the Unix epoch.
    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    fn own(&self) -> i64 {
        match &self.0.source {
            Source::System { skew, .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                since.as_micros() as i64 + skew.load(Ordering::Relaxed)
            }
            Source::Test { origin, elapsed } => origin.plus(*elapsed.borrow()).unix_micros(),
        }
    }

    /// Returns the time since this clock was made. It never steps.
    pub fn monotonic(&self) -> Duration {
        match &self.0.source {
            Source::System { start, .. } => start.elapsed(),
            Source::Test { elapsed, .. } => *elapsed.borrow(),
        }
    }

    /// Returns a new id that is greater than every earlier id of this clock.
    pub fn new_id(&self, prefix: Prefix) -> String {
        self.0.ids.next(prefix, self.now())
    }

    /// Returns a new id for an instant that was read before, for rows that must carry the same instant.
    pub fn new_id_at(&self, prefix: Prefix, at: Timestamp) -> String {
        self.0.ids.next(prefix, at)
    }

    /// Returns a new id of its type, as [`Clock::new_id_at`] does.
    pub fn new_typed_id_at<I: Id>(&self, at: Timestamp) -> I {
        self.0.ids.next_typed(at)
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

    /// Waits for a length of time by [`Clock::monotonic`].
    pub async fn sleep(&self, for_: Duration) {
        self.sleep_until(self.monotonic() + for_).await;
    }

    /// Follows the database's clock from now on; `database` is what it shows at this moment. Returns how far it is
    /// ahead of this machine's clock, in microseconds. A test clock keeps its own time, and 0 is returned.
    pub fn agree_with(&self, database: Timestamp) -> i64 {
        match &self.0.source {
            Source::System { .. } => {
                let offset = database.unix_micros() - self.own();
                self.0.offset.store(offset, Ordering::Relaxed);
                let anchor = database.unix_micros() - self.monotonic().as_micros() as i64;
                self.0.anchor.store(anchor, Ordering::Relaxed);
                offset
            }
            Source::Test { .. } => 0,
        }
    }

    /// Returns how far the database's clock was ahead of this machine's when they were last compared, in microseconds.
    pub fn offset(&self) -> i64 {
        self.0.offset.load(Ordering::Relaxed)
    }

    /// Steps this machine's clock as a system clock sees it, by so many microseconds. The monotonic clock goes on.
    ///
    /// # Panics
    /// Panics if this is a test clock.
    pub fn step(&self, micros: i64) {
        match &self.0.source {
            Source::System { skew, .. } => _ = skew.fetch_add(micros, Ordering::Relaxed),
            Source::Test { .. } => panic!("a test clock is advanced"),
        }
    }

    /// Moves a test clock forward and wakes the tasks that sleep on it.
    ///
    /// # Panics
    /// Panics if this is a system clock.
    pub fn advance(&self, by: Duration) {
        match &self.0.source {
            Source::Test { elapsed, .. } => elapsed.send_modify(|now| *now += by),
            Source::System { .. } => panic!("only a test clock can be advanced"),
        }
    }
}
