//! Opens the database: pools, session settings. Postgres' part is postgres.rs.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sea_orm::SqlxSqliteConnector;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::{Mutex, Notify};

use super::backend::Backend;
use super::budget::Budget;
use super::pool::Pool;
use super::postgres;
use super::purpose::Purpose;
use super::sqlite_file::{SqliteFile, sqlite_path};
use super::sqlite_log::Log;
use super::turns::Turns;
use super::tx::{Shared, TURN_DEADLINE};
use crate::clock::Clock;
use crate::domain::encryption_keys::EncryptionKeys;
use crate::error::{Error, Result};
use crate::store::queue::Floors;
use crate::telemetry::metrics::Metrics;

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

#[derive(Clone)]
pub struct ConnectOptions {
    /// `sqlite://PATH` or `postgresql://user:password@host:port/name`.
    pub url: String,
    /// Instead of the password in `url`.
    pub password: Option<String>,
    /// Postgres connections of this process.
    pub max_connections: u32,
    /// SQLite: flush at every commit (`FULL`); without it the last commits may be lost with the power.
    pub full_sync: bool,
    /// How long Postgres may take over an answer; then it is connected to anew.
    pub answer_deadline: Duration,
}

/// How a process holds an SQLite file. On Postgres every process is a guest, whatever it asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hold {
    /// For `serve`: no other holder at all, or an error at once.
    Alone,
    /// To change the schema: waits this long for another holder to end, as several migrators at once must.
    AloneWithin(Duration),
    /// For an operator's command: works beside a holder, on a file that exists. Its writes wait their turn.
    Beside,
}

pub(crate) enum Pools {
    Sqlite {
        writer: Pool,
        /// For the API, with a deadline.
        readers: Pool,
        /// For all else that reads.
        own: Pool,
        background: Pool,
        shared: Arc<Mutex<Shared>>,
        log: Log,
        /// Its lock is held as long as the pools are open.
        file: SqliteFile,
    },
    Postgres {
        api: Pool,
        queue: Pool,
        beat: Pool,
        background: Pool,
        /// For connections beside the pools.
        options: Box<PgConnectOptions>,
        answer_deadline: Duration,
        /// Connections beside the pools that the intake may have.
        intake: u32,
    },
}

/// The database, open. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    pub(crate) purpose: Purpose,
}

pub(crate) struct Inner {
    pub(crate) pools: Pools,
    clock: Clock,
    due: Arc<Notify>,
    announced: Notify,
    keys: OnceLock<EncryptionKeys>,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
    /// When the last own beat was asked for that committed, in microseconds of the clock's monotonic time, and one; 0: none
    /// has. Written by the heartbeat, read by the probes.
    pub(crate) beat_at: AtomicU64,
    floors: Floors,
}

impl Store {
    /// Opens the pools, an SQLite file alone; Postgres connects at the first use.
    ///
    /// # Errors
    /// `Config` when the URL is of no kind that we know, or another process serves this SQLite file.
    pub async fn open(options: &ConnectOptions, clock: Clock) -> Result<Self> {
        Self::open_as(Hold::Alone, options, clock).await
    }

    /// As [`Store::open`], holding an SQLite file as `hold` says.
    ///
    /// # Errors
    /// `Config` as for [`Store::open`], and when there is no file to work beside another process on.
    pub async fn open_as(hold: Hold, options: &ConnectOptions, clock: Clock) -> Result<Self> {
        let pools = match sqlite_path(&options.url) {
            Some(path) => open_sqlite(&path, hold, options.full_sync).await?,
            None => postgres::open(options)?,
        };
        let inner = Arc::new(Inner {
            pools,
            metrics: Arc::new(Metrics::new(clock.now())),
            budget: Arc::default(),
            clock,
            due: Arc::default(),
            announced: Notify::new(),
            keys: OnceLock::new(),
            beat_at: AtomicU64::new(0),
            floors: Floors::default(),
        });
        Ok(Self {
            inner,
            purpose: Purpose::Queue,
        })
    }

    pub fn backend(&self) -> Backend {
        match self.inner.pools {
            Pools::Sqlite { .. } => Backend::Sqlite,
            Pools::Postgres { .. } => Backend::Postgres,
        }
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// What is counted of the work on this database.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// What requests of this process may hold in memory.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.inner.budget
    }

    /// Where the claims of this process begin to read.
    pub fn floors(&self) -> &Floors {
        &self.inner.floors
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.inner.pools
    }

    /// What opens secrets at rest; [`Tx::sealing_key`](crate::store::Tx::sealing_key) seals them.
    ///
    /// # Errors
    /// `Config` before [`Store::unlock`].
    pub fn keys(&self) -> Result<&EncryptionKeys> {
        self.inner
            .keys
            .get()
            .ok_or_else(|| Error::config("the encryption key is not set: POSTRIDER_ENCRYPTION_KEY"))
    }

    pub(crate) fn keep_keys(&self, keys: EncryptionKeys) {
        let _ = self.inner.keys.set(keys);
    }

    /// Tells the dispatcher of this process that deliveries are due.
    pub fn wake(&self) {
        self.inner.due.notify_one();
    }

    /// Returns what [`Store::wake`] notifies.
    pub fn due(&self) -> &Arc<Notify> {
        &self.inner.due
    }

    /// Waits for the next [`Store::wake`]; one that came while nobody waited counts.
    pub async fn woken(&self) {
        self.inner.due.notified().await;
    }

    /// Tells the other processes, at their next chance, that deliveries are due which this one does not send itself.
    pub fn announce(&self) {
        self.inner.announced.notify_one();
    }

    /// Waits for the next [`Store::announce`]; one that came while nobody waited counts.
    pub async fn announced(&self) {
        self.inner.announced.notified().await;
    }

    /// How many batches of messages may be under way: SQLite has one writer; on Postgres one is filled while others commit.
    pub(crate) fn intake_workers(&self) -> usize {
        match self.inner.pools {
            Pools::Sqlite { .. } => 1,
            Pools::Postgres { intake, .. } => intake as usize,
        }
    }

    /// Closes every connection of the pools, after what runs on them has ended.
    pub async fn close(&self) {
        for pool in self.all_pools() {
            let _ = pool.inner().close().await;
        }
    }
}

async fn open_sqlite(path: &Path, hold: Hold, full_sync: bool) -> Result<Pools> {
    let file = SqliteFile::hold(path, hold).await?;
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
    let turns = || Turns::within(SQLITE_READERS, postgres::API_PATIENCE);
    Ok(Pools::Sqlite {
        writer: pool("writer", writer),
        readers: pool("api", readers).in_turns(turns(), turns()),
        background: own.one_at_once(),
        own,
        shared: Arc::default(),
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
