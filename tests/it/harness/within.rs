//! Waiting in tests: polls a condition until it holds or a deadline ends, instead of sleeping for a fixed time.

use std::time::{Duration, Instant};

/// How long a test waits for something that should happen at once. Generous, because many tests share the machine.
pub const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
/// The most that counts as waiting between two polls: while the whole machine stands still, no deadline moves.
const COUNTED_AT_MOST: Duration = Duration::from_secs(1);

/// The time that is left until a deadline.
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

    /// Waits for one poll interval and returns whether the deadline has passed.
    pub async fn is_over(&mut self) -> bool {
        tokio::time::sleep(POLL).await;
        let waited = self.seen.elapsed().min(COUNTED_AT_MOST);
        self.left = self.left.saturating_sub(waited);
        self.seen = Instant::now();
        self.left.is_zero()
    }
}

/// Polls `look` until it returns something, and returns that.
///
/// # Panics
/// If `deadline` passes before; `what` names the thing that did not happen.
pub async fn within<T>(deadline: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut patience = Patience::of(deadline);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(!patience.is_over().await, "still not so after {deadline:?}: {what}");
    }
}
