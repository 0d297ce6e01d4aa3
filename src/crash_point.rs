//! Where a debug build can be told to die, as if by `kill -9`, or to panic, so that a test can crash it at each step of a
//! message's life. A release build has none of it. Imports nothing.

/// Kills the process when `POSTRIDER_CRASH_POINT` is `NAME:N` and this is the N-th pass at `name`; panics when
/// `POSTRIDER_PANIC_POINT` is.
#[cfg(debug_assertions)]
pub fn pass(name: &str) {
    static CRASH: Point = Point::new("POSTRIDER_CRASH_POINT");
    static PANIC: Point = Point::new("POSTRIDER_PANIC_POINT");
    if CRASH.is_reached(name) {
        let own = std::process::id().to_string();
        let _ = std::process::Command::new("kill").args(["-9", &own]).status();
        loop {
            std::thread::park();
        }
    }
    assert!(!PANIC.is_reached(name), "{name} was told to panic");
}

#[cfg(not(debug_assertions))]
pub fn pass(_: &str) {}

#[cfg(debug_assertions)]
struct Point {
    variable: &'static str,
    armed: std::sync::OnceLock<Option<(String, u32)>>,
    passes: std::sync::atomic::AtomicU32,
}

#[cfg(debug_assertions)]
impl Point {
    const fn new(variable: &'static str) -> Self {
        Self {
            variable,
            armed: std::sync::OnceLock::new(),
            passes: std::sync::atomic::AtomicU32::new(0),
        }
    }

    fn is_reached(&self, name: &str) -> bool {
        let armed = self.armed.get_or_init(|| {
            let point = std::env::var(self.variable).ok()?;
            let (name, pass) = point.split_once(':')?;
            Some((name.to_owned(), pass.parse().ok()?))
        });
        let Some((_, pass)) = armed.as_ref().filter(|(armed, _)| armed == name) else {
            return false;
        };
        self.passes.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == *pass
    }
}
