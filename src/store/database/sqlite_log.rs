//! SQLite's log, the file `-wal`: cuts it after something was removed for good. Must not decide what is.
//!
//! A commit appends the pages that it has changed. What stood in them before stays in the log until that is written over:
//! days, where little is written. In the database itself deleted bytes are zeroed (`secure_delete`). So a transaction that
//! removes for good marks the log, and once it has committed the log is copied into the database and cut to nothing.
//!
//! That happens between two write transactions, under their turn. A reader that still needs the log prevents it: it is waited
//! for briefly, and the watch of the file tries again every second. What a killed process left in the log is cut when the
//! next one begins to watch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tokio::sync::Mutex;

use super::backend::Backend;
use super::pool::TURN_DEADLINE;
use super::shared::Writer;
use super::sqlite_file::SqliteFile;
use crate::error::Result;

/// How long readers are waited for, while nothing can be written. Those of the API take milliseconds; a backup takes minutes.
const PATIENCE: Duration = Duration::from_millis(50);
/// A cut flushes both files to the disk. So far apart, those of whoever expunges many messages do not slow other writes down.
const PERIOD: Duration = Duration::from_secs(1);

pub(crate) struct Log {
    /// Set by whoever has committed a removal, and cleared by a cut that begins later, under the turn to write.
    marked: AtomicBool,
    /// When the last cut began. Locked as long as one runs.
    last: Mutex<Option<Duration>>,
}

impl Log {
    /// Marked from the start: who served the file before may have been killed before its cut.
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

    /// Cuts the log if it is marked, unless one was cut less than a second before `now`, by the monotonic clock.
    pub async fn cut(&self, writer: &Writer, file: &SqliteFile, now: Duration) -> Result<()> {
        let mut last = self.last.lock().await;
        let is_early = last.is_some_and(|last| now.saturating_sub(last) < PERIOD);
        // A guest removes nothing, and waits longer for others than a holder does.
        if is_early || !file.is_held() || !self.is_marked() {
            return Ok(());
        }
        *last = Some(now);
        let _turn = writer.pause().await?;
        // If the file is gone, a connection that is opened anew would make an empty one.
        file.check_database()?;
        self.marked.store(false, Ordering::Release);
        let cut = checkpoint(&writer.pool().inner()).await;
        if !matches!(cut, Ok(true)) {
            self.mark();
        }
        cut.map(drop)
    }
}

/// Returns whether the log was cut: not if a reader still needs it.
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

async fn wait_for_others(writer: &DatabaseConnection, patience: Duration) -> Result<()> {
    let sql = format!("pragma busy_timeout = {}", patience.as_millis());
    writer.execute_unprepared(&sql).await?;
    Ok(())
}
