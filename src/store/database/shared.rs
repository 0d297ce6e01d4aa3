//! SQLite's one connection that writes, and the transaction that all who write share.
//!
//! All members share one `BEGIN IMMEDIATE`, and so one fsync. Each works inside a savepoint while it holds the turn, a fair
//! lock. At its end it queues for the turn again, behind those who were waiting; the first one that gets it commits for all
//! members before it. There is no timer and no task. Knows the pool, the lock and the file, but no store.

use std::sync::{Arc, OnceLock};

use sea_orm::{ConnectionTrait, SqliteTransactionMode, TransactionOptions};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::pool::{Pool, TURN_DEADLINE, Transaction};
use super::sqlite_file::SqliteFile;
use crate::error::{Error, Kind, Result};
use crate::telemetry::metrics::DATABASE_TIMEOUTS;

/// The connection that writes, and the transaction on it.
pub(crate) struct Writer {
    pool: Pool,
    file: Arc<SqliteFile>,
    shared: Arc<Mutex<Shared>>,
}

/// The transaction that SQLite's writers share.
#[derive(Default)]
pub(crate) struct Shared {
    open: Option<Transaction>,
    /// How the shared transaction ended. Written once, by the member that ends it, before it gives up the turn; read by all
    /// members.
    outcome: Arc<OnceLock<Result<(), String>>>,
}

/// The turn to write, held by one member at a time.
pub(crate) type SharedTurn = OwnedMutexGuard<Shared>;

impl Shared {
    /// Returns the open transaction, which is there as long as a member holds the turn.
    pub fn transaction(&self) -> &Transaction {
        self.open.as_ref().expect("a turn holds the open transaction")
    }
}

pub(crate) fn lost() -> Error {
    Error::new(Kind::Database, "the shared transaction was lost")
}

/// Runs a step of the shared transaction as a task of its own: a caller that leaves half-way leaves nothing half done.
pub(crate) async fn to_its_end<T: Send + 'static>(step: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(step).await.map_err(|err| lost().because(err))?
}

impl Writer {
    pub fn new(pool: Pool, file: Arc<SqliteFile>) -> Self {
        Self {
            pool,
            file,
            shared: Arc::default(),
        }
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    async fn lock(&self) -> Result<SharedTurn> {
        tokio::time::timeout(TURN_DEADLINE, self.shared.clone().lock_owned())
            .await
            .map_err(|_| {
                DATABASE_TIMEOUTS.add(1);
                Error::unavailable("the database is busy: no write got its turn in 5 s")
            })
    }

    /// Becomes a member of the shared transaction, and begins one if there is none.
    ///
    /// # Errors
    /// `Unavailable` if the file is known to be gone, or no turn came in 5 s.
    pub async fn begin(&self) -> Result<SharedTurn> {
        self.file.check_known()?;
        let mut turn = self.lock().await?;
        if turn.open.is_none() {
            let immediate = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..Default::default()
            };
            turn.open = Some(self.pool.begin(immediate).await?);
            turn.outcome = Arc::default();
        }
        self.run(turn, "savepoint member").await
    }

    /// Ends this member's part, lets those who wait do theirs, and commits for all unless one of them has.
    pub async fn commit(&self, turn: SharedTurn) -> Result<()> {
        let turn = self.run(turn, "release member").await?;
        self.end_turn(turn).await
    }

    /// Undoes this member's part, and then as [`Writer::commit`]: a shared transaction must not take its other members with it.
    pub async fn leave(&self, turn: SharedTurn) -> Result<()> {
        let turn = self.run(turn, "rollback to member").await?;
        let turn = self.run(turn, "release member").await?;
        self.end_turn(turn).await
    }

    /// Takes the turn, and commits for all members before it: as long as the turn is held no transaction is open.
    pub async fn pause(&self) -> Result<SharedTurn> {
        let mut turn = self.lock().await?;
        if turn.open.is_some() {
            self.commit_open(&mut turn).await;
        }
        Ok(turn)
    }

    /// Runs `sql` in the shared transaction. If that fails the transaction is over, because SQLite has rolled it back (a full
    /// disk does that): all its members get the error, and the next one begins on a new connection.
    async fn run(&self, mut turn: SharedTurn, sql: &str) -> Result<SharedTurn> {
        let open = turn.open.as_ref().ok_or_else(lost)?;
        let Err(err) = open.execute_unprepared(sql).await else {
            return Ok(turn);
        };
        turn.open = None;
        let _ = turn.outcome.set(Err(err.to_string()));
        self.reconnect().await;
        Err(lost().because(err))
    }

    /// Closes the connection. The driver goes on counting a transaction that SQLite has ended by itself, so its connection
    /// is of no more use.
    async fn reconnect(&self) {
        if let Ok(connection) = self.pool.inner().get_sqlite_connection_pool().acquire().await {
            let _ = connection.close().await;
        }
    }

    /// Commits the open transaction, and tells its members how it ended.
    async fn commit_open(&self, turn: &mut Shared) {
        let ended = match turn.open.take() {
            // After the commit and before anything is answered: SQLite goes on writing into a file that was removed or
            // replaced, and its messages would be answered with 202 and be lost. One `stat`, some 3 µs.
            Some(open) => match open.commit().await {
                Ok(()) => self.file.check_database().map_err(|err| err.to_string()),
                Err(err) => Err(err.to_string()),
            },
            None => Err("it ended without an answer".to_owned()),
        };
        if ended.is_err() {
            self.reconnect().await;
        }
        let _ = turn.outcome.set(ended);
    }

    async fn end_turn(&self, turn: SharedTurn) -> Result<()> {
        let outcome = turn.outcome.clone();
        drop(turn);
        // Without a deadline: the transaction must be ended by one of its members.
        let mut turn = self.shared.clone().lock_owned().await;
        if outcome.get().is_none() {
            self.commit_open(&mut turn).await;
        }
        drop(turn);
        match outcome.get() {
            Some(Ok(())) => Ok(()),
            Some(Err(reason)) => Err(lost().because(reason.clone())),
            None => Err(lost()),
        }
    }
}
