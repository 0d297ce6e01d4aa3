//! Shares one transaction between all writers of an SQLite database, over the one connection that writes.
//!
//! The writes that join the transaction are its members: one `BEGIN IMMEDIATE` and so one fsync serves all of them. A
//! member works inside a savepoint while it holds the turn, which is a fair lock. At its end it queues for the turn
//! again, behind the writes that were waiting. The first member that gets the turn back commits for all members, and
//! each of them then reads the outcome. So the transaction grows as long as writes wait, and a lone write is committed
//! at once, without a timer or a task.
//!
//! Must not know the store: only the pool, the lock and the file.

use std::sync::{Arc, OnceLock};

use sea_orm::{ConnectionTrait, SqliteTransactionMode, TransactionOptions};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::pool::{Pool, TURN_DEADLINE, Transaction};
use super::sqlite_file::SqliteFile;
use crate::error::{Error, Kind, Result};
use crate::telemetry::metrics::DATABASE_TIMEOUTS;

/// The connection that writes, and the transaction that its users share.
pub(crate) struct Writer {
    pool: Pool,
    file: Arc<SqliteFile>,
    shared: Arc<Mutex<Shared>>,
}

/// The transaction that SQLite's writers share.
#[derive(Default)]
pub(crate) struct Shared {
    /// `None` means that no transaction has begun, or that it has ended.
    open: Option<Transaction>,
    /// How the transaction ended; empty while it is open. The member that ends the transaction writes it, once, while
    /// it holds the turn. Each member keeps the `Arc` and reads it when it has had the turn again. Each transaction
    /// gets a new one.
    outcome: Arc<OnceLock<Result<(), String>>>,
}

/// The turn to write, held by one member at a time.
pub(crate) type SharedTurn = OwnedMutexGuard<Shared>;

impl Shared {
    /// Returns the open transaction. There is one whenever a member holds the turn.
    pub fn transaction(&self) -> &Transaction {
        self.open.as_ref().expect("a turn holds the open transaction")
    }
}

/// Returns the error of members whose transaction was lost.
pub(crate) fn lost() -> Error {
    Error::new(Kind::Database, "the shared transaction was lost")
}

/// Runs a step of the shared transaction as a task of its own, so that it is completed even if the caller is cancelled.
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

    /// Waits for the turn and makes its holder a member of the shared transaction. Begins one if none is open.
    ///
    /// # Errors
    /// `Unavailable` if the file is known to be gone, or the turn did not come within 5 s; else the database's.
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

    /// Ends this member's part, lets the writes that wait do theirs, and then commits for all members unless one of
    /// them has done so.
    pub async fn commit(&self, turn: SharedTurn) -> Result<()> {
        let turn = self.run(turn, "release member").await?;
        self.end_turn(turn).await
    }

    /// Undoes this member's part, and then ends it as [`Writer::commit`] does: the transaction also holds the writes of
    /// other members, which must be committed.
    pub async fn leave(&self, turn: SharedTurn) -> Result<()> {
        let turn = self.run(turn, "rollback to member").await?;
        let turn = self.run(turn, "release member").await?;
        self.end_turn(turn).await
    }

    /// Takes the turn and commits the open transaction for its members. As long as the turn is held, none is open.
    pub async fn pause(&self) -> Result<SharedTurn> {
        let mut turn = self.lock().await?;
        if turn.open.is_some() {
            self.commit_open(&mut turn).await;
        }
        Ok(turn)
    }

    /// Runs `sql` in the shared transaction. If it fails, SQLite has rolled back the transaction (for example because
    /// the disk is full): all members get the error, and the next transaction begins on a new connection.
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

    /// Closes the connection, so that the pool opens a new one. The driver goes on counting a transaction that SQLite
    /// has ended by itself, so the connection cannot be used again.
    async fn reconnect(&self) {
        if let Ok(connection) = self.pool.inner().get_sqlite_connection_pool().acquire().await {
            let _ = connection.close().await;
        }
    }

    /// Commits the open transaction, and sets the outcome for its members.
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

    /// Gives up the turn and takes it again behind the writes that wait, and commits if no other member has done so.
    async fn end_turn(&self, turn: SharedTurn) -> Result<()> {
        let outcome = turn.outcome.clone();
        drop(turn);
        // Without a deadline: one of its members must end the transaction.
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
