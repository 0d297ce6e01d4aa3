//! Provides the clock of one process by libfaketime, which is loaded into it and adds what a file says to the time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where distributions put the library. The form for programs with several threads comes first.
const PLACES: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
    "/opt/homebrew/lib/faketime/libfaketimeMT.so.1",
];

/// A clock that a file controls.
#[derive(Clone)]
pub struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

impl FakeClock {
    /// The longest time until a step takes effect: the library looks at its file once a second, by the clock that it fakes.
    pub const NOTICED_WITHIN: Duration = Duration::from_millis(2_200);

    /// Returns the library, if this machine has it.
    pub fn library() -> Option<PathBuf> {
        PLACES.iter().map(PathBuf::from).find(|place| place.is_file())
    }

    /// Makes a clock that is right, with its file in this folder.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let library = Self::library().ok_or(io::ErrorKind::NotFound)?;
        let file = folder.join("clock");
        let clock = Self { library, file };
        clock.step(0)?;
        Ok(clock)
    }

    /// Sets how far the clock is ahead, in seconds.
    pub fn step(&self, seconds: i64) -> io::Result<()> {
        // Renamed, so that the library never reads a half-written file.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}s\n"))?;
        std::fs::rename(new, &self.file)
    }

    /// Returns the environment of a process that has this clock. Its monotonic clock stays right, as after a step of a
    /// real one.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}
