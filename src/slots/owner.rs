//! The owner id with which this process leases deliveries, and until when it may: other processes take over the leases of
//! an owner whose heartbeat stands still. Must not beat: the dispatcher's heartbeat does.

use std::sync::Arc;
use std::time::Duration;

/// A process whose last committed beat is older than this may have been declared dead: it leases nothing until it
/// has a new owner id. Below the 4 s after which peers take over.
pub const BEAT_IS_LATE: Duration = Duration::from_secs(3);

pub(super) struct Owner {
    pub id: Arc<str>,
    /// When its last beat committed (monotonic); none: it needs no beat (SQLite).
    pub beat_at: Option<Duration>,
}

impl Owner {
    /// Returns whether this process may lease at `now`: not while its peers may have declared it dead.
    pub fn may_lease(&self, now: Duration) -> bool {
        self.beat_at.is_none_or(|at| now.saturating_sub(at) < BEAT_IS_LATE)
    }
}
