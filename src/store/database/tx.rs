//! A write transaction. Only [`Store::begin`] makes one, and every writing store function takes it.
//!
//! On Postgres it is a transaction of its own. On SQLite, which has one writer, all that wait share one
//! `BEGIN IMMEDIATE` and so one fsync: each member works inside a savepoint while it holds the turn, then queues for
//! the turn again, behind those who were waiting; whoever gets it first commits for all. No timer, no task.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sea_orm::{ConnectionTrait, SqliteTransactionMode, TransactionOptions};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::backend::Backend;
use super::connect::{Pools, Store};
use super::pool::Transaction;
use super::{outage, turns};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Result};
use crate::telemetry::metrics::DATABASE_TIMEOUTS;

/// How long a write may wait for its turn, or for a connection: as long as a sender is kept waiting (wire contract: 503).
pub(crate) const TURN_DEADLINE: Duration = Duration::from_secs(5);

/// The transaction that SQLite's writers share.
#[derive(Default)]
pub(crate) struct Shared {
    open: Option<Transaction>,
    /// Set once, by whoever ends the shared transaction; read by all its members.
    outcome: Arc<OnceLock<Result<(), String>>>,
}

enum Turn {
    Own(Transaction),
    Shared(OwnedMutexGuard<Shared>),
}

/// A write transaction; dropped without [`Tx::commit`] it leaves nothing behind.
pub struct Tx {
    turn: Option<Turn>,
    store: Store,
    wakes: AtomicBool,
    forgets: AtomicBool,
    /// On SQLite: the customer's, so that the writes of one do not stand before those of all others and of the queue.
    _customer: Option<turns::Turn>,
    /// The instant of everything that this transaction writes.
    pub now: Timestamp,
    /// The same instant by [`crate::clock::Clock::monotonic`]: leases made here end by it, however long the commit takes.
    pub(crate) began: Duration,
}

impl Store {
    /// Begins a write transaction.
    ///
    /// # Errors
    /// `Database` when no connection, or no turn, could be had in 5 s.
    pub async fn begin(&self) -> Result<Tx> {
        let _waiting = self.metrics().database_waiting.enter();
        match self.pools() {
            Pools::Postgres { .. } => {
                let own = self.pool().begin(TransactionOptions::default()).await?;
                Ok(self.tx(Turn::Own(own), None))
            }
            Pools::Sqlite { .. } => {
                let customer = self.pool().turn_to_write().await?;
                let store = self.clone();
                to_its_end(async move { Ok(store.tx(Turn::Shared(begin_shared(&store).await?), customer)) }).await
            }
        }
    }

    fn tx(&self, turn: Turn, customer: Option<turns::Turn>) -> Tx {
        Tx {
            turn: Some(turn),
            _customer: customer,
            store: self.clone(),
            wakes: AtomicBool::new(false),
            forgets: AtomicBool::new(false),
            began: self.clock().monotonic(),
            now: self.clock().now(),
        }
    }
}

impl Tx {
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn backend(&self) -> Backend {
        self.store.backend()
    }

    /// The connection that this transaction's statements run on.
    pub(crate) fn conn(&self) -> &Transaction {
        match &self.turn {
            Some(Turn::Own(transaction)) => transaction,
            Some(Turn::Shared(shared)) => shared.open.as_ref().expect("a turn holds the open transaction"),
            None => unreachable!("a transaction that has ended has no connection"),
        }
    }

    /// Marks that this transaction leaves deliveries due: its commit wakes the dispatcher.
    pub(crate) fn wake_on_commit(&self) {
        self.wakes.store(true, Ordering::Relaxed);
    }

    /// Marks that this transaction removes something for good: on SQLite its commit cuts the log, too.
    pub(crate) fn forget_on_commit(&self) {
        self.forgets.store(true, Ordering::Relaxed);
    }

    /// Makes everything durable, or nothing of it.
    ///
    /// # Errors
    /// `Database` when the answer is lost: the transaction may have committed all the same.
    pub async fn commit(mut self) -> Result<()> {
        match self.turn.take() {
            Some(Turn::Own(transaction)) => transaction.commit().await?,
            Some(Turn::Shared(turn)) => {
                let store = self.store.clone();
                to_its_end(async move { commit_shared(&store, turn).await }).await?;
            }
            None => return Err(lost()),
        }
        outage::note_answer();
        if self.wakes.load(Ordering::Relaxed) {
            self.store.wake();
        }
        if self.forgets.load(Ordering::Relaxed) {
            let store = self.store.clone();
            // The customer's turn is not needed any more.
            drop(self);
            store.forget().await;
        }
        Ok(())
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        // An own transaction rolls back by itself. A shared one must not take its other members with it.
        if let Some(Turn::Shared(turn)) = self.turn.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let store = self.store.clone();
            runtime.spawn(async move {
                if let Err(err) = leave_shared(&store, turn).await {
                    outage::note_failure(&err, "a rolled-back write took its shared transaction with it");
                }
            });
        }
    }
}

async fn lock(shared: &Arc<Mutex<Shared>>) -> Result<OwnedMutexGuard<Shared>> {
    tokio::time::timeout(TURN_DEADLINE, shared.clone().lock_owned())
        .await
        .map_err(|_| {
            DATABASE_TIMEOUTS.add(1);
            Error::unavailable("the database is busy: no write got its turn in 5 s")
        })
}

fn lost() -> Error {
    Error::new(crate::error::Kind::Database, "the shared transaction was lost")
}

/// Runs a step of the shared transaction as a task of its own: a caller that leaves half-way leaves nothing half done.
async fn to_its_end<T: Send + 'static>(step: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(step).await.map_err(|err| lost().because(err))?
}

async fn begin_shared(store: &Store) -> Result<OwnedMutexGuard<Shared>> {
    let Pools::Sqlite {
        writer, shared, file, ..
    } = store.pools()
    else {
        return Err(lost());
    };
    file.check_known()?;
    let mut turn = lock(shared).await?;
    if turn.open.is_none() {
        let immediate = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        turn.open = Some(writer.begin(immediate).await?);
        turn.outcome = Arc::default();
    }
    run(store, turn, "savepoint member").await
}

/// Ends this member's part, lets those who wait do theirs, and commits for all unless one of them has.
async fn commit_shared(store: &Store, turn: OwnedMutexGuard<Shared>) -> Result<()> {
    let turn = run(store, turn, "release member").await?;
    end_turn(store, turn).await
}

async fn leave_shared(store: &Store, turn: OwnedMutexGuard<Shared>) -> Result<()> {
    let turn = run(store, turn, "rollback to member").await?;
    let turn = run(store, turn, "release member").await?;
    end_turn(store, turn).await
}

/// Runs `sql` in the shared transaction. Where that fails the transaction is over, for SQLite has rolled it back (a
/// full disk does that): all its members hear of it, and the next one begins on a new connection.
async fn run(store: &Store, mut turn: OwnedMutexGuard<Shared>, sql: &str) -> Result<OwnedMutexGuard<Shared>> {
    let open = turn.open.as_ref().ok_or_else(lost)?;
    let Err(err) = open.execute_unprepared(sql).await else {
        return Ok(turn);
    };
    turn.open = None;
    let _ = turn.outcome.set(Err(err.to_string()));
    reconnect(store).await;
    Err(lost().because(err))
}

/// The driver goes on counting a transaction that SQLite has ended by itself, so its connection is of no more use.
async fn reconnect(store: &Store) {
    if let Pools::Sqlite { writer, .. } = store.pools()
        && let Ok(connection) = writer.inner().get_sqlite_connection_pool().acquire().await
    {
        let _ = connection.close().await;
    }
}

/// Takes the turn, and commits for all whose turn was before: as long as it is held no transaction is open.
pub(crate) async fn pause_writes(store: &Store) -> Result<OwnedMutexGuard<Shared>> {
    let Pools::Sqlite { shared, .. } = store.pools() else {
        return Err(lost());
    };
    let mut turn = lock(shared).await?;
    if turn.open.is_some() {
        commit_open(store, &mut turn).await;
    }
    Ok(turn)
}

/// Commits the open transaction, and tells its members.
async fn commit_open(store: &Store, turn: &mut Shared) {
    let Pools::Sqlite { file, .. } = store.pools() else {
        return;
    };
    let ended = match turn.open.take() {
        // Looked at after the commit: a file that goes at any time before has not kept it.
        Some(open) => match open.commit().await {
            Ok(()) => file.check_database().map_err(|err| err.to_string()),
            Err(err) => Err(err.to_string()),
        },
        None => Err("it ended without an answer".to_owned()),
    };
    if ended.is_err() {
        reconnect(store).await;
    }
    let _ = turn.outcome.set(ended);
}

async fn end_turn(store: &Store, turn: OwnedMutexGuard<Shared>) -> Result<()> {
    let Pools::Sqlite { shared, .. } = store.pools() else {
        return Err(lost());
    };
    let outcome = turn.outcome.clone();
    drop(turn);
    let mut turn = shared.clone().lock_owned().await;
    if outcome.get().is_none() {
        commit_open(store, &mut turn).await;
    }
    drop(turn);
    match outcome.get() {
        Some(Ok(())) => Ok(()),
        Some(Err(reason)) => Err(lost().because(reason.clone())),
        None => Err(lost()),
    }
}
