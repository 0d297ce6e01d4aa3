//! The owner id with which this process leases deliveries, and whether it may lease now: other processes take over the
//! leases of an owner whose heartbeat stands still. Must not send beats: the dispatcher's heartbeat does.

use std::sync::Arc;
use std::time::Duration;

/// The age of the last committed beat from which a process may have been declared dead. It then leases nothing until it
/// has a new owner id. Less than the 4 s after which other processes take over.
pub const BEAT_IS_LATE: Duration = Duration::from_secs(3);

/// The present owner id and its last beat.
pub(super) struct Owner {
    pub id: Arc<str>,
    /// When its last committed beat was sent, by the monotonic clock. `None` means that it needs no beats (SQLite).
    pub beat_at: Option<Duration>,
}

impl Owner {
    /// Returns whether this process may lease at `now`. It may not if other processes may have declared it dead.
    pub fn may_lease(&self, now: Duration) -> bool {
        self.beat_at.is_none_or(|at| now.saturating_sub(at) < BEAT_IS_LATE)
    }
}
