//! Cuts SQLite's log (the file `-wal`) after data was removed for good, so that the data is not left in the log.
//!
//! A commit appends the pages that it has changed to the log. Earlier versions of them stay in the log until they are
//! written over, which takes days if little is written. In the database itself deleted bytes are overwritten with zeros
//! (`secure_delete`). So after a transaction that removes data for good has committed, it marks the log; then the log
//! is copied into the database and truncated to nothing.
//!
//! This happens between two write transactions, under their turn. A reader that still needs the log prevents it: the
//! cut waits for readers only briefly, and sqlite_watch.rs tries again every second. The log that a killed process left
//! is cut when the next process begins to watch the file.
//!
//! Must not decide which removals are for good.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tokio::sync::Mutex;

use super::backend::Backend;
use super::pool::TURN_DEADLINE;
use super::shared::Writer;
use super::sqlite_file::SqliteFile;
use crate::error::Result;

/// How long a cut waits for readers. Nothing can be written meanwhile. Reads of the API take milliseconds, a backup
/// minutes.
const PATIENCE: Duration = Duration::from_millis(50);
/// The least time between two cuts. A cut flushes both files to the disk; at this distance a customer that expunges
/// many messages does not slow other writes.
const PERIOD: Duration = Duration::from_secs(1);

/// The state of the log.
pub(crate) struct Log {
    /// Whether the log may hold data that was removed for good. Set after the commit of a removal, by its task. A cut
    /// clears it while it holds the turn to write, before it begins, so a removal that commits later marks the log
    /// again. Release and acquire order the commit before the cut that sees its mark.
    marked: AtomicBool,
    /// When the last cut began, by the monotonic clock. Locked as long as a cut runs.
    last: Mutex<Option<Duration>>,
}

impl Log {
    /// Returns a log that is marked, because an earlier process may have been killed before its cut.
    pub fn new() -> Self {
        Self {
            marked: AtomicBool::new(true),
            last: Mutex::default(),
        }
    }
}

impl Log {
    /// Marks that the log holds what a committed transaction removed for good.
    pub fn mark(&self) {
        self.marked.store(true, Ordering::Release);
    }

    pub fn is_marked(&self) -> bool {
        self.marked.load(Ordering::Acquire)
    }

    /// Cuts the log if it is marked, unless the last cut began less than a second before `now` (by the monotonic
    /// clock). If a reader still needs the log, it stays marked.
    pub async fn cut(&self, writer: &Writer, file: &SqliteFile, now: Duration) -> Result<()> {
        let mut last = self.last.lock().await;
        let is_early = last.is_some_and(|last| now.saturating_sub(last) < PERIOD);
        // A guest removes nothing for good. And its connection waits 30 s for others, which a cut would set to 5 s.
        if is_early || !file.is_held() || !self.is_marked() {
            return Ok(());
        }
        *last = Some(now);
        let _turn = writer.pause().await?;
        // If the file is gone, a new connection would create an empty one.
        file.check_database()?;
        self.marked.store(false, Ordering::Release);
        let cut = checkpoint(&writer.pool().inner()).await;
        if !matches!(cut, Ok(true)) {
            self.mark();
        }
        cut.map(drop)
    }
}

/// Copies the log into the database and truncates it. Returns false if a reader still needs it.
async fn checkpoint(writer: &DatabaseConnection) -> Result<bool> {
    wait_for_others(writer, PATIENCE).await?;
    let checkpoint = Statement::from_string(Backend::Sqlite.orm(), "pragma wal_checkpoint(truncate)");
    let row = writer.query_one_raw(checkpoint).await;
    wait_for_others(writer, TURN_DEADLINE).await?;
    let is_busy: i32 = match row? {
        Some(row) => row.try_get_by_index(0)?,
        None => 1,
    };
    Ok(is_busy == 0)
}

/// Sets how long the connection waits for other connections.
async fn wait_for_others(writer: &DatabaseConnection, patience: Duration) -> Result<()> {
    let sql = format!("pragma busy_timeout = {}", patience.as_millis());
    writer.execute_unprepared(&sql).await?;
    Ok(())
}
