//! Opens SQLite: one connection that writes, readers for the API, readers for everything else, and the settings of
//! their sessions. Must not query.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sea_orm::SqlxSqliteConnector;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::options::Hold;
use super::pool::{Pool, TURN_DEADLINE};
use super::shared::Writer;
use super::sqlite_file::SqliteFile;
use super::sqlite_log::Log;
use super::store::Pools;
use super::turns::{API_PATIENCE, Turns};
use crate::error::{Error, Result};

/// The API's connections to read, beside the one connection that writes.
const SQLITE_READERS: u32 = 4;
/// Connections to read for the queue, lookups of tokens and an operator's commands. Background work takes one of them
/// at a time.
const SQLITE_OWN_READERS: u32 = 2;
/// How long a read of the API may take: after 5 s its caller gets a 503.
const SQLITE_READ_DEADLINE: Duration = Duration::from_secs(4);
/// How many instructions SQLite's virtual machine executes between two checks of that deadline: about a tenth of a
/// millisecond.
const SQLITE_LOOK: i32 = 10_000;
/// How long a guest waits for SQLite's lock to write: it gets the lock only between two transactions of a holder that
/// hardly ever pauses.
const GUEST_PATIENCE: Duration = Duration::from_secs(30);
/// The size, in bytes, to which SQLite's log shrinks when the readers that made it grow have ended. While reads are
/// short it stays at 9 MB.
const LOG_BYTES: u32 = 64 << 20;

/// Opens the pools of an SQLite file, and takes its lock as `hold` says.
///
/// # Errors
/// `Config` if another process holds the file, or it cannot be opened.
pub(crate) async fn open(path: &Path, hold: Hold, full_sync: bool) -> Result<Pools> {
    let file = Arc::new(SqliteFile::hold(path, hold).await?);
    let mut options = SqliteConnectOptions::new().filename(path);
    if file.is_held() {
        // The file keeps the mode. A switch to it cannot wait for other processes, so only the holder of the lock makes
        // it.
        options = options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    }
    let options = options
        .synchronous(if full_sync {
            SqliteSynchronous::Full
        } else {
            SqliteSynchronous::Normal
        })
        .busy_timeout(if hold == Hold::Beside {
            GUEST_PATIENCE
        } else {
            TURN_DEADLINE
        })
        .pragma("cache_size", "-32768")
        // Deleted bytes are overwritten with zeros in the file, because payloads are stored in clear.
        .pragma("secure_delete", "on")
        .pragma("journal_size_limit", LOG_BYTES.to_string())
        .pragma("temp_store", "memory");
    let sized = |connections| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(TURN_DEADLINE)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
    };
    let cannot_open = |err: sqlx::Error| {
        Error::config(format!("cannot open the SQLite file {} (DATABASE_URL)", path.display())).because(err)
    };
    let pool = |name, pool| Pool::lasting(name, SqlxSqliteConnector::from_sqlx_sqlite_pool(pool));
    let writer = sized(1).connect_with(options.clone()).await.map_err(cannot_open)?;
    let options = options.read_only(true);
    let own = sized(SQLITE_OWN_READERS)
        .connect_with(options.clone())
        .await
        .map_err(cannot_open)?;
    let readers = sized(SQLITE_READERS)
        .after_connect(|connection, _| Box::pin(end_reads_in_time(connection)))
        .before_acquire(|connection, _| Box::pin(async { end_reads_in_time(connection).await.map(|()| true) }))
        .connect_lazy_with(options);
    let own = pool("queue", own);
    let turns = || Turns::within(SQLITE_READERS, API_PATIENCE);
    Ok(Pools::Sqlite {
        writer: Arc::new(Writer::new(pool("writer", writer), file.clone())),
        readers: pool("api", readers).in_turns(turns(), turns()),
        background: own.one_at_once(),
        own,
        log: Log::new(),
        file,
    })
}

/// Gives the connection four seconds from now for its reads. A read that takes longer is interrupted and fails, so that
/// it no longer keeps a checkpoint from shrinking the log.
async fn end_reads_in_time(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    let deadline = Instant::now() + SQLITE_READ_DEADLINE;
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(SQLITE_LOOK, move || Instant::now() < deadline);
    Ok(())
}
