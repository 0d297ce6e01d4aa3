//! Opens SQLite: one connection that writes, readers for the API and for all else, and what their sessions are set to. Must
//! not query.

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

/// The API's readers beside SQLite's one writer.
const SQLITE_READERS: u32 = 4;
/// Readers for the queue, look-ups of tokens and an operator's commands; background work has one of them at once.
const SQLITE_OWN_READERS: u32 = 2;
/// How long a read of the API may take on SQLite: its caller is answered 503 after 5 s.
const SQLITE_READ_DEADLINE: Duration = Duration::from_secs(4);
/// Instructions of SQLite's machine, some tenth of a millisecond, between two looks at that deadline.
const SQLITE_LOOK: i32 = 10_000;
/// A guest gets the file's lock only between two transactions of a holder that hardly ever pauses.
const GUEST_PATIENCE: Duration = Duration::from_secs(30);
/// SQLite's log shrinks to this size after the readers that made it grow are gone. With short reads it stays at 9 MB.
const LOG_BYTES: u32 = 64 << 20;

/// Opens the pools of an SQLite file, and takes its lock as `hold` says.
///
/// # Errors
/// `Config` if another process holds the file, or it cannot be opened.
pub(crate) async fn open(path: &Path, hold: Hold, full_sync: bool) -> Result<Pools> {
    let file = Arc::new(SqliteFile::hold(path, hold).await?);
    let mut options = SqliteConnectOptions::new().filename(path);
    if file.is_held() {
        // The file keeps the mode; switching to it cannot wait for others, so only who is alone does it.
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
        // What is deleted is zeroed where it stood: payloads lie there in clear.
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

/// From now on the connection has so long for what it reads: an interrupted read fails, and holds up no checkpoint.
async fn end_reads_in_time(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    let deadline = Instant::now() + SQLITE_READ_DEADLINE;
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(SQLITE_LOOK, move || Instant::now() < deadline);
    Ok(())
}
