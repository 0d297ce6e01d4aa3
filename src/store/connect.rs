//! Opens the database: pools, session settings. Called by app and cli.

use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sea_orm::{DatabaseConnection, SqlxPostgresConnector, SqlxSqliteConnector};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::{Mutex, Notify};

use super::backend::Backend;
use super::pool::Pool;
use super::sqlite_file::{SqliteFile, sqlite_path};
use super::tx::{Shared, TURN_DEADLINE};
use crate::clock::Clock;
use crate::domain::encryption_keys::EncryptionKeys;
use crate::error::{Error, Result};
use crate::telemetry::metrics::Metrics;

/// A statement of ours that runs longer than this has lost its caller long ago.
const STATEMENT_TIMEOUT: &str = "30s";
/// A transaction of ours never waits for anything but the database; one that idles belongs to a stopped process.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "10s";
/// Readers beside SQLite's one writer.
const SQLITE_READERS: u32 = 4;
/// Batches under way on Postgres: one is filled while the other commits. Three accepted no more and cost the database a
/// fifth more processor time.
const INTAKE_CONNECTIONS: u32 = 2;
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

pub(super) enum Pools {
    Sqlite {
        writer: Arc<Pool>,
        readers: Arc<Pool>,
        shared: Arc<Mutex<Shared>>,
        /// Its lock is held as long as the pools are open.
        file: SqliteFile,
    },
    Postgres {
        pool: Arc<Pool>,
        options: Box<PgConnectOptions>,
        answer_deadline: Duration,
        /// Connections beside the pool that the intake may have.
        intake: u32,
    },
}

/// A pool's connections.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    pub in_use: usize,
    pub idle: usize,
    /// Both together, at most.
    pub most: usize,
}

/// The database, open. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    pools: Pools,
    clock: Clock,
    due: Notify,
    announced: Notify,
    keys: OnceLock<EncryptionKeys>,
    metrics: Metrics,
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
            None => open_postgres(options)?,
        };
        Ok(Self(Arc::new(Inner {
            pools,
            metrics: Metrics::new(clock.now()),
            clock,
            due: Notify::new(),
            announced: Notify::new(),
            keys: OnceLock::new(),
        })))
    }

    pub fn backend(&self) -> Backend {
        match self.0.pools {
            Pools::Sqlite { .. } => Backend::Sqlite,
            Pools::Postgres { .. } => Backend::Postgres,
        }
    }

    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// What is counted of the work on this database.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The pool's connections as they are now; on SQLite the readers and the writer.
    pub fn connections(&self) -> Connections {
        let count = |open: u32, idle: usize, most: u32| Connections {
            in_use: (open as usize).saturating_sub(idle),
            idle,
            most: most as usize,
        };
        match &self.0.pools {
            Pools::Postgres { pool, .. } => {
                let pool = pool.inner();
                let pool = pool.get_postgres_connection_pool();
                count(pool.size(), pool.num_idle(), pool.options().get_max_connections())
            }
            Pools::Sqlite { writer, readers, .. } => {
                let (writer, readers) = (writer.inner(), readers.inner());
                let (one, more) = (
                    writer.get_sqlite_connection_pool(),
                    readers.get_sqlite_connection_pool(),
                );
                let most = one.options().get_max_connections() + more.options().get_max_connections();
                count(one.size() + more.size(), one.num_idle() + more.num_idle(), most)
            }
        }
    }

    /// For reads outside a transaction.
    pub(super) fn reader(&self) -> &Pool {
        match &self.0.pools {
            Pools::Sqlite { readers, .. } => readers,
            Pools::Postgres { pool, .. } => pool,
        }
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.0.pools
    }

    /// What opens secrets at rest; [`Tx::sealing_key`](super::Tx::sealing_key) seals them.
    ///
    /// # Errors
    /// `Config` before [`Store::unlock`].
    pub fn keys(&self) -> Result<&EncryptionKeys> {
        self.0
            .keys
            .get()
            .ok_or_else(|| Error::config("the encryption key is not set: POSTRIDER_ENCRYPTION_KEY"))
    }

    pub(super) fn keep_keys(&self, keys: EncryptionKeys) {
        let _ = self.0.keys.set(keys);
    }

    /// Tells the dispatcher of this process that deliveries are due.
    pub fn wake(&self) {
        self.0.due.notify_one();
    }

    /// Waits for the next [`Store::wake`]; one that came while nobody waited counts.
    pub async fn woken(&self) {
        self.0.due.notified().await;
    }

    /// Tells the other processes, at their next chance, that deliveries are due which this one does not send itself.
    pub fn announce(&self) {
        self.0.announced.notify_one();
    }

    /// Waits for the next [`Store::announce`]; one that came while nobody waited counts.
    pub async fn announced(&self) {
        self.0.announced.notified().await;
    }

    /// How many batches of messages may be under way: SQLite has one writer; on Postgres one is filled while others commit.
    pub(super) fn intake_workers(&self) -> usize {
        match self.0.pools {
            Pools::Sqlite { .. } => 1,
            Pools::Postgres { intake, .. } => intake as usize,
        }
    }

    /// Closes every connection of the pools, after what runs on them has ended.
    pub async fn close(&self) {
        let pools = match &self.0.pools {
            Pools::Sqlite { writer, readers, .. } => [Some(readers), Some(writer)],
            Pools::Postgres { pool, .. } => [Some(pool), None],
        };
        for pool in pools.into_iter().flatten() {
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
        .pragma("journal_size_limit", LOG_BYTES.to_string())
        .pragma("temp_store", "memory");
    let pool = |connections| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(TURN_DEADLINE)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
    };
    let cannot_open =
        |err: sqlx::Error| Error::config(format!("cannot open the SQLite file {}", path.display())).because(err);
    let writer = pool(1).connect_with(options.clone()).await.map_err(cannot_open)?;
    let readers = pool(SQLITE_READERS)
        .connect_with(options.read_only(true))
        .await
        .map_err(cannot_open)?;
    Ok(Pools::Sqlite {
        writer: Pool::lasting(SqlxSqliteConnector::from_sqlx_sqlite_pool(writer)),
        readers: Pool::lasting(SqlxSqliteConnector::from_sqlx_sqlite_pool(readers)),
        shared: Arc::default(),
        file,
    })
}

fn open_postgres(options: &ConnectOptions) -> Result<Pools> {
    if !options.url.starts_with("postgres://") && !options.url.starts_with("postgresql://") {
        return Err(Error::config("DATABASE_URL must start with sqlite:// or postgresql://"));
    }
    let mut connect = PgConnectOptions::from_str(&options.url)
        .map_err(|err| Error::config("DATABASE_URL is not a valid Postgres URL").because(err))?
        .application_name("postrider")
        .options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
        ]);
    if let Some(password) = &options.password {
        connect = connect.password(password);
    }
    let intake = (options.max_connections / 2).clamp(1, INTAKE_CONNECTIONS);
    let connections = options.max_connections.saturating_sub(intake).max(1);
    let pool = Pool::renewed(options.answer_deadline, {
        let connect = connect.clone();
        move || open_pool(connections, connect.clone())
    });
    Ok(Pools::Postgres {
        pool,
        options: Box::new(connect),
        answer_deadline: options.answer_deadline,
        intake,
    })
}

fn open_pool(connections: u32, connect: PgConnectOptions) -> DatabaseConnection {
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(TURN_DEADLINE)
        .test_before_acquire(false)
        // Either would start sqlx's maintenance task, which may spin for ever (sqlx issue 3645; not released yet).
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(connect);
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
}
