//! Waiting in tests: a condition is polled until a deadline, never slept for.

use std::time::{Duration, Instant};

/// How long a test waits for what must happen at once; generous, because many tests share the machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Polls `look` until it answers something.
///
/// # Panics
/// After `deadline`, naming `what` did not happen.
pub async fn within<T>(deadline: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < deadline, "after {deadline:?} still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
