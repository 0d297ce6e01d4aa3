//! Where a debug build can be told to die, as if by `kill -9`, so that a test can crash it at each step of a message's
//! life. A release build has none of it. Imports nothing.

/// Kills the process when `POSTRIDER_CRASH_POINT` is `NAME:N` and this is the N-th pass at `name`.
#[cfg(debug_assertions)]
pub fn pass(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static ARMED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSES: AtomicU32 = AtomicU32::new(0);
    let armed = ARMED.get_or_init(|| {
        let point = std::env::var("POSTRIDER_CRASH_POINT").ok()?;
        let (name, pass) = point.split_once(':')?;
        Some((name.to_owned(), pass.parse().ok()?))
    });
    if let Some((armed, pass)) = armed
        && armed == name
        && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == *pass
    {
        let own = std::process::id().to_string();
        let _ = std::process::Command::new("kill").args(["-9", &own]).status();
        loop {
            std::thread::park();
        }
    }
}

#[cfg(not(debug_assertions))]
pub fn pass(_: &str) {}
