//! The write transaction. [`Store::begin`] makes it, and every store function that writes takes it, so that a caller
//! decides which writes belong together.
//!
//! On Postgres it is a transaction of its own. On SQLite, which has one writer, it is a savepoint in the transaction
//! that all waiting writers share (shared.rs). After the commit it wakes the dispatcher and cuts SQLite's log, if its
//! writes have asked for that.
//!
//! Must not know what is written.

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

/// The transaction in the database.
enum Turn {
    Own(Transaction),
    Shared(Arc<Writer>, SharedTurn),
}

/// A write transaction. If it is dropped without [`Tx::commit`], it leaves nothing behind.
pub struct Tx {
    /// `None` only once the transaction has ended.
    turn: Option<Turn>,
    store: Store,
    /// Set by [`Tx::wake_on_commit`].
    wakes: AtomicBool,
    /// Set by [`Tx::forget_on_commit`].
    forgets: AtomicBool,
    /// The customer's turn to write, on SQLite only: so the writes of one customer do not stand before those of all
    /// others and of the queue. On Postgres the pool's transaction holds it.
    _customer: Option<turns::Turn>,
    /// The instant of everything that this transaction writes, by the database's clock.
    pub now: Timestamp,
    /// The same instant by [`crate::clock::Clock::monotonic`]. The ends of leases that are made here are counted from
    /// it, however long the commit takes.
    pub(crate) began: Duration,
}

impl Store {
    /// Begins a write transaction.
    ///
    /// # Errors
    /// `Database` if no connection was available within 5 s; `Unavailable` if a turn did not come in time, or the
    /// SQLite file is known to be gone.
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

    /// Returns the connection for the statements of this transaction.
    pub(crate) fn conn(&self) -> &Transaction {
        match &self.turn {
            Some(Turn::Own(transaction)) => transaction,
            Some(Turn::Shared(_, turn)) => turn.transaction(),
            None => unreachable!("a transaction that has ended has no connection"),
        }
    }

    /// Notes that this transaction leaves deliveries due, so that its commit wakes the claimer.
    pub(crate) fn wake_on_commit(&self) {
        self.wakes.store(true, Ordering::Relaxed);
    }

    /// Notes that this transaction removes data for good, so that on SQLite its commit cuts the log.
    // Not for each removal of sealed secrets and headers: without the key they cannot be read. The end of a key
    // rotation counts, because it takes the former key's texts out of use.
    pub(crate) fn forget_on_commit(&self) {
        self.forgets.store(true, Ordering::Relaxed);
    }

    /// Commits: makes all writes durable, or none of them.
    ///
    /// # Errors
    /// `Database` if the database or the connection to it fails, `Internal` if the database refuses for another reason.
    /// If the answer was lost, the transaction may have committed all the same.
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
            // Gives back the customer's turn, which the cut does not need.
            drop(self);
            store.forget().await;
        }
        Ok(())
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        // A transaction of its own is rolled back by the driver. In a shared one only this member's part may be undone.
        if let Some(Turn::Shared(writer, turn)) = self.turn.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                if let Err(err) = writer.leave(turn).await {
                    outage::note_failure(&err, "a write could not be rolled back; its shared transaction is lost");
                }
            });
        }
    }
}
