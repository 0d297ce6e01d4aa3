//! What the loops of a dispatcher share, and the way of a lease through it: held, sent, handed to the settler, let go. Must
//! not run a loop.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::done::Done;
use super::held::Held;
use super::rollup::Rollup;
use super::sender::Sender;
use crate::slots::Slots;
use crate::store::database::outage;
use crate::store::queue::{self, Lease};
use crate::store::{Backend, Store};

/// What the loops of a dispatcher share.
pub(super) struct Shared {
    pub store: Store,
    pub slots: Arc<Slots>,
    pub sender: Sender,
    /// Hands leases that have been dealt with to the settler. Without a limit of its own: the slots count unsettled
    /// outcomes, and nothing more is sent when there are too many.
    pub unsettled: mpsc::UnboundedSender<Done>,
    pub held: Held,
    /// Sums up the attempts that were settled.
    pub rollup: Arc<Rollup>,
    /// How long a lease lasts.
    pub lease: Duration,
    /// The number of batches of outcomes that an outage keeps from being stored; above 0 nothing is claimed. The two
    /// loops of the settler write it and the claimer reads it. `Relaxed`: no other memory depends on its value.
    pub stuck: AtomicUsize,
    /// Cancelled when the dispatcher ends: rows of outcomes that are not stored by then are due when their leases end.
    pub ended: CancellationToken,
}

impl Shared {
    /// Starts a task that sends `lease`, unless this process holds an older lease of the same delivery.
    pub fn spawn_send(self: &Arc<Self>, lease: Lease, sends: &TaskTracker) {
        if !self.held.hold(&lease) {
            return;
        }
        let shared = self.clone();
        sends.spawn(lease.log_fields().scope(async move {
            let delivery_id = lease.delivery_id.clone();
            match AssertUnwindSafe(shared.send(lease)).catch_unwind().await {
                Ok(sent) => shared.pass_on(sent),
                // Not given back: it would be due at once, and might panic again and again without a pause.
                Err(_) => {
                    tracing::error!("a send panicked; the delivery is sent again when its lease ends");
                    shared.held.forget(&delivery_id);
                }
            }
        }));
    }

    /// Sends a held lease. Its outcome counts as unsettled as long as the delivery is held.
    pub async fn send(&self, lease: Lease) -> Done {
        let (sent, unsettled) = self.sender.send(lease).await;
        self.held.set_unsettled(sent.delivery_id(), unsettled);
        sent
    }

    /// Hands a lease that has been dealt with to the settler.
    pub fn pass_on(&self, sent: Done) {
        if self.unsettled.send(sent).is_err() {
            tracing::error!("an outcome came after the settler had ended; its lease will end by itself");
        }
    }

    /// Returns whether an outage keeps outcomes from being stored.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed) > 0
    }

    /// Waits until every send has ended, every outcome is settled, and no slot is taken: the intake takes slots for the
    /// messages that it is about to store.
    pub async fn idle(&self, sends: &TaskTracker) {
        sends.wait().await;
        while !self.held.is_empty() || !self.slots.is_idle() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Gives back the leases that are still being sent: they are due again, for another process or for the next start.
    /// Then waits until all outcomes are settled: those deliveries were made, or count as attempts, so the settler goes
    /// on with them as long as the stop waits for the database.
    pub async fn give_back(&self) {
        let unanswered = self.held.take_unanswered();
        tracing::info!(
            leases = unanswered.len(),
            "giving back what could not be finished in the grace period"
        );
        let given = async {
            let tx = self.store.begin().await?;
            queue::release(&tx, &unanswered).await?;
            tx.commit().await
        };
        if let Err(err) = given.await {
            let what = "leases could not be given back; they will end by themselves";
            outage::note_failure(&err, what);
        }
        self.settled().await;
    }

    /// Waits until every outcome is settled.
    pub async fn settled(&self) {
        while !self.held.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Returns whether other processes may serve the same database, which only Postgres allows. Without them there are
/// neither heartbeats nor NOTIFY.
pub(super) fn has_replicas(store: &Store) -> bool {
    store.backend() == Backend::Postgres
}
