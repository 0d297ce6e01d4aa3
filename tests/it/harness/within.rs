//! Waiting in tests: a condition is polled until a deadline, never slept for.

use std::time::{Duration, Instant};

/// How long a test waits for what must happen at once; generous, because many tests share the machine.
pub const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
/// Between two polls no more than this counts as waiting: a machine that stood still has not made anything late.
const COUNTED_AT_MOST: Duration = Duration::from_secs(1);

/// What is left of a deadline.
pub struct Patience {
    left: Duration,
    seen: Instant,
}

impl Patience {
    pub fn of(deadline: Duration) -> Self {
        Self {
            left: deadline,
            seen: Instant::now(),
        }
    }

    /// Waits a moment; answers whether the deadline is over.
    pub async fn is_over(&mut self) -> bool {
        tokio::time::sleep(POLL).await;
        let waited = self.seen.elapsed().min(COUNTED_AT_MOST);
        self.left = self.left.saturating_sub(waited);
        self.seen = Instant::now();
        self.left.is_zero()
    }
}

/// Polls `look` until it answers something.
///
/// # Panics
/// After `deadline`, naming `what` did not happen.
pub async fn within<T>(deadline: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut patience = Patience::of(deadline);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(!patience.is_over().await, "after {deadline:?} still not so: {what}");
    }
}
