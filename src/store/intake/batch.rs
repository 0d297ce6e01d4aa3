//! Stores one batch: reads the applications of its members, plans their deliveries, writes everything in one
//! transaction, and hands the leased deliveries to the sender.
//!
//! There are two ways. A usual batch on Postgres is one statement over the worker's connection, with applications that
//! are remembered (`at_once.rs`). All other batches go step by step in an ordinary transaction: all on SQLite, and on
//! Postgres those with event ids, with a key that has a reply already, with keys on only some of the messages, with
//! more than 5,000 deliveries, and those that were tried before.
//!
//! Must not take messages out of the queue or try again: the worker does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::apps::find_apps;
use super::at_once::{Stored, UsualBatch, WorkerConnection};
use super::columns::has_items;
use super::known::Known;
use super::member::{Accepted, Member};
use super::place::{Placed, Terms, place};
use super::plan::{BATCH_DELIVERIES, Plan, plan};
use super::replies::{all_stored, is_fresh, keyed, repeats, results};
use super::{insert, keys};
use crate::crash_point;
use crate::domain::timestamp::Timestamp;
use crate::domain::typed_id::MessageId;
use crate::error::Result;
use crate::slots::Slots;
use crate::store::queue::Lease;
use crate::store::queue::floors::TOLERANCE;
use crate::store::{Backend, Store};

/// The state of a batch across its tries.
#[derive(Clone)]
pub(super) struct Batch {
    store: Store,
    slots: Arc<Slots>,
    leases: mpsc::Sender<Lease>,
    /// How long a lease lasts.
    lease: Duration,
    /// The lease ids of all tries. If the commit of an earlier one was not answered, its leases may be in the database.
    tried: Vec<i64>,
    /// Whether a try has got as far as its commit: the members may be stored.
    uncertain: bool,
}

impl Batch {
    pub fn new(store: Store, slots: Arc<Slots>, leases: mpsc::Sender<Lease>, lease: Duration) -> Self {
        Self {
            store,
            slots,
            leases,
            lease,
            tried: Vec::new(),
            uncertain: false,
        }
    }

    /// Returns whether an earlier try may have stored the members.
    pub fn is_uncertain(&self) -> bool {
        self.uncertain
    }

    /// Stores the first of `members`, as many as fit, and returns their results in order. May be called again after a
    /// failure: it then finds what an earlier try has committed. With a `connection`, which is there on Postgres, a
    /// first try goes by one statement if it can.
    pub async fn store(
        &mut self,
        members: &[Member],
        known: &Known,
        connection: Option<&mut WorkerConnection>,
    ) -> Result<Vec<Result<Accepted>>> {
        let is_plain = |member: &Member| member.message.event_id.is_none();
        if self.tried.is_empty()
            && let Some(connection) = connection
            && members.iter().all(is_plain)
            && let Some(results) = self.store_at_once(members, known, connection).await?
        {
            return Ok(results);
        }
        self.store_by_steps(members).await
    }

    /// Stores a usual batch in one round trip, or in three if an application has changed. `None` means that the batch
    /// is not a usual one, that some key has a reply already, or that an application has changed twice. The caller then
    /// goes step by step, which also finds what this has stored.
    async fn store_at_once(
        &mut self,
        members: &[Member],
        known: &Known,
        connection: &mut WorkerConnection,
    ) -> Result<Option<Vec<Result<Accepted>>>> {
        // A new connection may lead to another server, after a failover, that lacks the last writes of the former one.
        if connection.is_lost() {
            known.clear();
        }
        for _ in 0..2 {
            let (now, began) = (self.store.clock().now(), self.store.clock().monotonic());
            let apps = known.find(&self.store, members).await?;
            let plans = plan(&apps, members);
            let keyed = keyed(&plans);
            let fresh: Vec<&Plan> = plans.iter().flatten().collect();
            if fresh.is_empty() {
                return Ok(Some(all_stored(&plans)));
            }
            if !keyed.is_empty() && keyed.len() < fresh.len() {
                return Ok(None);
            }
            let placed = self.place(now, began, &fresh);
            if placed.rows.len() > BATCH_DELIVERIES {
                return Ok(None);
            }
            let batch = UsualBatch {
                now,
                apps: &apps,
                keyed: &keyed,
                fresh: &fresh,
                deliveries: &placed.rows,
            };
            crash_point::pass("accepted.before_commit");
            self.uncertain = true;
            let stored = connection.store(&batch).await?;
            crash_point::pass("accepted.after_commit");
            match stored {
                Stored::Stale(ids) => {
                    let changed = apps.iter().filter(|(_, app)| ids.contains(&app.id));
                    known.forget(changed.map(|(name, _)| name));
                }
                Stored::Messages(stored) if stored < fresh.len() => return Ok(None),
                Stored::Messages(_) => {
                    self.hand_over(placed, began);
                    self.tell_polls(&fresh);
                    return Ok(Some(all_stored(&plans)));
                }
            }
        }
        Ok(None)
    }

    /// Stores the first of `members` in an ordinary transaction, each step with a statement of its own.
    async fn store_by_steps(&mut self, members: &[Member]) -> Result<Vec<Result<Accepted>>> {
        let tx = self.store.begin().await?;
        // Before the keys are claimed: the batch is cut to 5,000 deliveries while nothing is written yet, and a request
        // for an unknown application leaves no key behind.
        let apps = find_apps(&tx, members.iter().map(Member::app_name).collect()).await?;
        let plans = plan(&apps, members);
        let replies = keys::claim_keys(&tx, keyed(&plans)).await?;
        let fresh: Vec<&Plan> = plans.iter().flatten().filter(|plan| is_fresh(plan, &replies)).collect();
        let free = insert::take_event_ids(&tx, &fresh).await?;
        let stored = insert::insert_messages(&tx, &free).await?;
        let (new, missing): (Vec<&Plan>, Vec<&Plan>) = fresh.iter().partition(|plan| stored.contains(&plan.member.id));
        let committed = insert::find_committed(&tx, &missing).await?;
        insert::release_lost(&tx, &committed, &self.tried).await?;
        let refused = missing.iter().filter(|plan| !committed.contains(&plan.member.id));
        keys::delete_keys(&tx, refused.filter_map(|plan| plan.member.message.key.as_ref())).await?;

        let tx_began = tx.began;
        let placed = self.place(tx.now, tx_began, &new);
        insert::insert_rest(&tx, &new, &placed.rows, BATCH_DELIVERIES).await?;
        let different = keys::find_different(&tx, &repeats(&plans, &replies)).await?;
        crash_point::pass("accepted.before_commit");
        self.uncertain = true;
        tx.commit().await?;
        crash_point::pass("accepted.after_commit");
        self.hand_over(placed, tx_began);
        let is_stored = |id: &MessageId| stored.contains(id) || committed.contains(id);
        // A commit that was not answered has told no poll.
        let polled: Vec<&Plan> = fresh
            .iter()
            .copied()
            .filter(|plan| is_stored(&plan.member.id))
            .collect();
        self.tell_polls(&polled);
        Ok(results(&plans, &replies, is_stored, &different))
    }

    /// Places the deliveries of `plans`. Each try takes a lease id and slots of its own.
    fn place(&mut self, now: Timestamp, began: Duration, plans: &[&Plan]) -> Placed {
        let terms = Terms {
            now,
            began,
            lease_id: self.slots.new_lease_id(),
            lasts: self.lease,
        };
        self.tried.push(terms.lease_id);
        place(self.store.clock(), &self.slots, &terms, plans)
    }

    /// Tells polls that wait, here and in other processes, which pollers have got messages.
    fn tell_polls(&self, stored: &[&Plan]) {
        if !has_items(stored) {
            return;
        }
        let pollers = || stored.iter().flat_map(|plan| plan.pollers.iter().copied());
        self.store.waits().hint(pollers());
        if self.store.backend() == Backend::Postgres {
            self.store.waits().announce(pollers());
        }
    }

    /// Does what is left to do once the batch is durable: gives leases to the sender, remembers parked endpoints, wakes
    /// the claimer, and announces due rows to other processes. The try began at `began`, by the monotonic clock.
    fn hand_over(&self, placed: Placed, began: Duration) {
        for lease in placed.leases {
            if let Err(err) = self.leases.try_send(lease) {
                let reason = err.to_string();
                let fields = err.into_inner().log_fields();
                let what = "a lease could not be handed to the sender; its delivery is claimed when it ends";
                fields.sync_scope(|| tracing::warn!(err = reason, "{what}"));
            }
        }
        if self.store.clock().monotonic().saturating_sub(began) > TOLERANCE {
            // Claims may have gone beyond the parked rows meanwhile.
            self.store.floors().forget_parked(&placed.parked);
        }
        if self.slots.set_parked(&placed.parked) || placed.due {
            self.store.wake();
        }
        if placed.due {
            self.store.announce();
        }
    }
}
