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
use super::connect::{Pools, Store};
use super::tx::{TURN_DEADLINE, pause_writes};
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

impl Store {
    /// Cuts the log, for it holds what a transaction that has committed removed for good; if that is not possible now, or was
    /// done less than a second ago, the watch of the file does it.
    pub(crate) async fn forget(&self) {
        if let Pools::Sqlite { log, .. } = self.pools() {
            log.marked.store(true, Ordering::Release);
            self.cut_marked_log().await;
        }
    }

    /// Cuts the log if it is marked. Runs to its end, whoever leaves meanwhile.
    pub(crate) async fn cut_marked_log(&self) {
        if !matches!(self.pools(), Pools::Sqlite { log, .. } if log.marked.load(Ordering::Acquire)) {
            return;
        }
        let store = self.clone();
        let cut = tokio::spawn(async move { cut(&store).await });
        if let Ok(Err(err)) = cut.await {
            tracing::warn!(%err, "SQLite's log was not cut after something was removed for good; it is tried again");
        }
    }
}

async fn cut(store: &Store) -> Result<()> {
    // A guest removes nothing, and waits longer for others than a holder does.
    let Pools::Sqlite { writer, log, file, .. } = store.pools() else {
        return Ok(());
    };
    let mut last = log.last.lock().await;
    let now = store.clock().monotonic();
    let is_early = last.is_some_and(|last| now.saturating_sub(last) < PERIOD);
    if is_early || !file.is_held() || !log.marked.load(Ordering::Acquire) {
        return Ok(());
    }
    *last = Some(now);
    let _turn = pause_writes(store).await?;
    // Of a file that is gone a connection that is opened anew would make an empty one.
    file.check_database()?;
    log.marked.store(false, Ordering::Release);
    let cut = checkpoint(&writer.inner()).await;
    if !matches!(cut, Ok(true)) {
        log.marked.store(true, Ordering::Release);
    }
    cut.map(drop)
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
