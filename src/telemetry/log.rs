//! Writes the log's lines to standard error, from a thread of its own.
//!
//! The program that reads standard error may hang, may have ended, or may have a full disk. A direct write would then
//! block or panic in any task that logs something. So a task puts its line into a queue of limited size, which never
//! blocks. A line that does not fit, or cannot be written, is dropped and counted, and as soon as writing works again a
//! line says how many were lost.
//!
//! A process that serves must not write to standard error in any other way.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::metrics::LOG_LINES_DROPPED;

/// The size of the queue, in bytes: some five thousand lines, more than any burst that the program logs.
const ROOM: usize = 1 << 20;
/// How long the end of the process waits until the last lines are written. Not longer: their reader may hang.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log of this process. Dropping it waits until all lines in the queue are written, but no longer than a second.
pub struct Log(Lines);

/// The end of the queue into which lines are put. Cheap to clone.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

struct Shared {
    /// The queue. Tasks add lines, the writing thread takes them, and the end of the process waits for it to be empty.
    waiting: Mutex<Waiting>,
    /// Notified when a line was added, and when one was written or lost.
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    /// The bytes of all `lines`.
    bytes: usize,
    /// Whether a line has been taken out and is being written.
    is_writing: bool,
}

impl Log {
    /// Starts the thread that writes to standard error.
    // Rejected: `tracing-appender`, whose worker does not count lines that it could not write, and whose guard prints a
    // message itself if the queue is full, which is when printing blocks; a non-blocking descriptor, because other
    // processes share its mode.
    pub fn start() -> Self {
        Self::to(io::stderr())
    }

    /// Starts the thread that writes to `output`.
    fn to(output: impl Write + Send + 'static) -> Self {
        let lines = Lines(Arc::new(Shared {
            waiting: Mutex::default(),
            changed: Condvar::new(),
        }));
        let shared = lines.0.clone();
        // If the thread cannot be started, the queue fills up, and further lines are dropped and counted.
        let _ = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&shared, output));
        Self(lines)
    }

    /// Returns a handle into which lines can be written.
    pub fn lines(&self) -> Lines {
        self.0.clone()
    }

    /// Logs a line that is not a tracing event, such as the reason why a command has failed.
    pub fn say(&self, text: &str) {
        self.0.put(format!("{text}\n").into_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let shared = &*self.0.0;
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        drop(shared.changed.wait_timeout_while(shared.waiting(), LAST_LINES, is_busy));
    }
}

impl Lines {
    /// Puts a line into the queue, or drops and counts it if the queue is full.
    fn put(&self, line: Vec<u8>) {
        let mut waiting = self.0.waiting();
        if waiting.bytes + line.len() > ROOM {
            LOG_LINES_DROPPED.add(1);
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        self.0.changed.notify_all();
    }
}

/// Puts each write into the queue as a line: tracing writes each event by one call.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next line and takes it out.
    fn next(&self) -> Vec<u8> {
        let mut waiting = self.waiting();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                waiting.is_writing = true;
                return line;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that the line taken last has been written or lost. Returns whether the queue is empty.
    fn done(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.is_writing = false;
        self.changed.notify_all();
        waiting.lines.is_empty()
    }
}

/// Writes lines until the process ends.
fn write_lines(shared: &Shared, mut output: impl Write) {
    let (mut is_whole, mut reported) = (true, LOG_LINES_DROPPED.get());
    loop {
        let line = shared.next();
        // If the last write failed, part of that line may have been written: a full disk takes its beginning.
        let ended = if is_whole { Ok(()) } else { output.write_all(b"\n") };
        is_whole = ended.and_then(|()| output.write_all(&line)).is_ok();
        if !is_whole {
            LOG_LINES_DROPPED.add(1);
        }
        let is_last = shared.done();
        let lost = LOG_LINES_DROPPED.get();
        // Only once the queue is empty: before, this line might not fit into it either.
        if is_whole && is_last && lost > reported {
            tracing::warn!(
                lines = lost - reported,
                "log lines were lost: they could not be written"
            );
            reported = lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Takes a line whenever it is told whether that works.
    struct Output {
        works: Receiver<bool>,
        written: Sender<String>,
    }

    impl Write for Output {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            if part != b"\n" && !self.works.recv().unwrap_or_default() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let _ = self.written.send(String::from_utf8_lossy(part).into_owned());
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_no_caller_waits_for_it() {
        let ((works, told), (written, seen)) = (channel(), channel());
        let log = Log::to(Output { works: told, written });
        let before = LOG_LINES_DROPPED.get();
        works.send(true).unwrap();
        log.say("one");
        assert_eq!(seen.recv().unwrap(), "one\n");
        works.send(false).unwrap();
        log.say("two");
        works.send(true).unwrap();
        log.say("three");
        assert_eq!(seen.recv().unwrap(), "\n", "what is left of the second line ends");
        assert_eq!(seen.recv().unwrap(), "three\n");
        assert_eq!(LOG_LINES_DROPPED.get() - before, 1);
        // From here on the output hangs.
        let line = "x".repeat(ROOM / 4);
        for _ in 0..10 {
            log.say(&line);
        }
        assert!(
            LOG_LINES_DROPPED.get() - before >= 1 + 10 - 5,
            "four wait, one is being written"
        );
        drop(log);
    }
}
