//! Writes the log's lines to standard error, from a thread of its own.
//!
//! Whoever reads standard error may hang, be gone, or have no room on its disk. A direct write would block then, or panic,
//! in whichever task has something to say. So lines are put into a queue with a cap, which never waits; what finds no room
//! in it, or cannot be written, is dropped and counted, and a line says how many were lost as soon as writing works again.
//! A process that serves must say nothing on standard error but through here.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::metrics::LOG_LINES_DROPPED;

/// Bytes of lines that wait to be written: some five thousand, more than any burst of our own.
const ROOM: usize = 1 << 20;
/// How long the end of the process waits for the lines that are left: their reader may hang.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log of this process. Dropping it waits until the lines that were put in are written, but no longer than a second.
pub struct Log(Lines);

/// Where lines are put. Cheap to clone.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

struct Shared {
    /// Filled by whoever logs, emptied by the thread that writes.
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
}

impl Log {
    /// To standard error.
    pub fn start() -> Self {
        Self::to(io::stderr())
    }

    fn to(output: impl Write + Send + 'static) -> Self {
        let lines = Lines(Arc::new(Shared {
            waiting: Mutex::default(),
            changed: Condvar::new(),
        }));
        let shared = lines.0.clone();
        // Without the thread the queue fills up, and lines are dropped and counted.
        let _ = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&shared, output));
        Self(lines)
    }

    pub fn lines(&self) -> Lines {
        self.0.clone()
    }

    /// Puts in a line that is not an event, such as the reason why a command has failed.
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

/// Each event is one write.
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

    /// Waits for the next line.
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

    /// Notes that the line is written, or lost. Returns whether it was the last one that waited.
    fn done(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.is_writing = false;
        self.changed.notify_all();
        waiting.lines.is_empty()
    }
}

/// Goes on until the process ends.
fn write_lines(shared: &Shared, mut output: impl Write) {
    let (mut is_whole, mut reported) = (true, LOG_LINES_DROPPED.get());
    loop {
        let line = shared.next();
        // A disk that is full may have taken the beginning of the last line.
        let ended = if is_whole { Ok(()) } else { output.write_all(b"\n") };
        is_whole = ended.and_then(|()| output.write_all(&line)).is_ok();
        if !is_whole {
            LOG_LINES_DROPPED.add(1);
        }
        let is_last = shared.done();
        let lost = LOG_LINES_DROPPED.get();
        // Said when the reader has caught up, or it would be one more line that finds no room.
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
