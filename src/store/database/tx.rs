//! A write transaction. Only [`Store::begin`] makes one, and every writing store function takes it.
//!
//! On Postgres it is a transaction of its own. On SQLite, which has one writer, all that wait share one
//! `BEGIN IMMEDIATE` and so one fsync: each member works inside a savepoint while it holds the turn, then queues for
//! the turn again, behind those who were waiting; whoever gets it first commits for all. No timer, no task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::TransactionOptions;

use super::backend::Backend;
use super::pool::Transaction;
use super::shared::{SharedTurn, Writer, lost, to_its_end};
use super::store::{Pools, Store};
use super::{outage, turns};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

enum Turn {
    Own(Transaction),
    Shared(Arc<Writer>, SharedTurn),
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
            Pools::Sqlite { writer, .. } => {
                let customer = self.pool().turn_to_write().await?;
                let (store, writer) = (self.clone(), writer.clone());
                to_its_end(async move {
                    let turn = writer.begin().await?;
                    Ok(store.tx(Turn::Shared(writer, turn), customer))
                })
                .await
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
            Some(Turn::Shared(_, turn)) => turn.transaction(),
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
            Some(Turn::Shared(writer, turn)) => to_its_end(async move { writer.commit(turn).await }).await?,
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
        if let Some(Turn::Shared(writer, turn)) = self.turn.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                if let Err(err) = writer.leave(turn).await {
                    outage::note_failure(&err, "a rolled-back write took its shared transaction with it");
                }
            });
        }
    }
}
