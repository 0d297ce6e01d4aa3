//! Named points at which a debug build can be told to die, as if by `kill -9`, or to panic, so that a test can crash
//! the process at each step of a message's life. In a release build these points do nothing.
//!
//! Must not import any other module.

/// Kills the process if `POSTRIDER_CRASH_POINT` is `NAME:N`, NAME is `name`, and this is the N-th call with that name.
/// Panics if `POSTRIDER_PANIC_POINT` says so in the same form.
#[cfg(debug_assertions)]
pub fn pass(name: &str) {
    static CRASH: Point = Point::new("POSTRIDER_CRASH_POINT");
    static PANIC: Point = Point::new("POSTRIDER_PANIC_POINT");
    if CRASH.is_reached(name) {
        let own = std::process::id().to_string();
        let _ = std::process::Command::new("kill").args(["-9", &own]).status();
        // The signal may arrive a moment after `kill` has returned; nothing may run until then.
        loop {
            std::thread::park();
        }
    }
    assert!(!PANIC.is_reached(name), "{name} was told to panic");
}

/// Does nothing: a release build has no crash points.
#[cfg(not(debug_assertions))]
pub fn pass(_: &str) {}

/// A setting that arms one point, and how often that point was passed.
#[cfg(debug_assertions)]
struct Point {
    /// The environment variable.
    variable: &'static str,
    /// The name of the point and the pass at which it takes effect, read once. `None` if the variable is not set, or
    /// does not have the form `NAME:N`.
    armed: std::sync::OnceLock<Option<(String, u32)>>,
    /// Passes of the armed point so far.
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
