//! What this process may send at once, and the way from accept to the sender that does not pass through a claim.
//! The caps are counted here: deliveries in flight, those of one endpoint, slots kept for first attempts, the rates, and
//! what is sent and not yet settled.
//! Must not query. Called by the intake (takes slots before it inserts leased rows) and by the dispatcher.

mod load;
mod parked;
mod rates;
mod state;
mod trouble;
mod turns;
#[cfg(test)]
mod turns_model;
#[cfg(test)]
mod turns_work;
mod unsettled;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use self::state::{Owner, State, Wake};
use crate::domain::delivery::Outcome;
use crate::store::Store;
use crate::store::queue::{Lease, Target, Throttle};

/// Of four slots, one is kept for first attempts: retries of a broken endpoint cannot hold up a new message.
const KEPT_FOR_FIRST: (usize, usize) = (1, 4);
/// A process whose last committed beat is older than this may have been declared dead: it leases nothing until it
/// has a new owner id. Below the 4 s after which peers take over.
pub const BEAT_IS_LATE: Duration = Duration::from_secs(3);
/// Endpoints that one hold of the lock notes as parked: a quarter of a millisecond, for accepting and sending wait.
const NOTED_AT_ONCE: usize = 256;

#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Deliveries in flight in this process.
    pub process: usize,
    /// Deliveries in flight to one endpoint.
    pub endpoint: usize,
}

impl Caps {
    /// The slots of a lane.
    fn of(&self, lane: Lane) -> usize {
        let (kept, of) = KEPT_FOR_FIRST;
        match lane {
            Lane::First => self.process,
            Lane::Again => self.process - self.process * kept / of,
        }
    }

    fn free(&self, state: &State, lane: Lane) -> usize {
        let free = self.process.saturating_sub(state.in_flight);
        match lane {
            Lane::First => free,
            Lane::Again => free.min(self.of(lane).saturating_sub(state.again_in_flight)),
        }
    }
}

/// First attempts of scheduled deliveries, or all others: each has a claim and an index of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lane {
    First,
    Again,
}

/// What becomes of a new delivery row.
pub enum Place {
    /// Sent by this process right after the commit.
    Leased(Slot),
    /// Due: whoever claims it first.
    Due,
    /// Its endpoint is saturated: out of the due index until the endpoint has room.
    Parked,
}

pub struct Handoff {
    caps: Caps,
    state: Mutex<State>,
    leases: mpsc::Sender<Lease>,
    next_lease_id: AtomicI64,
    stopping: AtomicBool,
    /// An endpoint's rate allows parked rows earlier than the claimer knows.
    earlier: Notify,
    store: Store,
}

/// Room for one delivery in flight; dropped, it is free again.
pub struct Slot {
    handoff: Arc<Handoff>,
    endpoint: Arc<str>,
    app: Arc<str>,
    lane: Lane,
}

/// An outcome that waits to be settled; it counts until this is dropped.
pub struct Unsettled {
    handoff: Arc<Handoff>,
    app: Arc<str>,
    /// Of its texts.
    bytes: usize,
}

impl Handoff {
    /// The sending side and the queue of leases; the queue holds as many as there are slots, so it is never full.
    pub fn new(store: Store, caps: Caps) -> (Arc<Self>, mpsc::Receiver<Lease>) {
        let (leases, queue) = mpsc::channel(caps.process);
        let handoff = Self {
            caps,
            state: Mutex::default(),
            leases,
            next_lease_id: AtomicI64::new(random_i64()),
            stopping: AtomicBool::new(false),
            earlier: Notify::new(),
            store,
        };
        (Arc::new(handoff), queue)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Where a new first attempt goes: to this process's sender as far as the caps and rates allow.
    pub fn place(self: &Arc<Self>, target: &Target) -> Place {
        let (endpoint, app) = (&target.endpoint_id, &target.app_id);
        let mut state = self.state();
        let load = state.endpoints.get(endpoint);
        if load.is_some_and(|load| load.parked || load.in_flight >= load.limit(&self.caps)) {
            return Place::Parked;
        }
        let is_full = state.in_flight >= self.caps.process || state.unsettled.is_full(&self.caps);
        if is_full || self.stopping.load(Ordering::Relaxed) {
            return Place::Due;
        }
        if !self.admits(&mut state, (endpoint, app), &target.throttle, Lane::First) {
            return Place::Parked;
        }
        Place::Leased(self.occupy(&mut state, endpoint, app, Lane::First))
    }

    /// A slot for a claimed row; `None` when its endpoint or application is saturated, or its rate used up.
    pub fn take(
        self: &Arc<Self>,
        endpoint: &Arc<str>,
        app: &Arc<str>,
        throttle: &Throttle,
        lane: Lane,
    ) -> Option<Slot> {
        let mut state = self.state();
        self.admits(&mut state, (endpoint, app), throttle, lane)
            .then(|| self.occupy(&mut state, endpoint, app, lane))
    }

    /// The endpoint is disabled or deleted: what waits for it ends unsent, as fast as it can be claimed.
    pub fn set_gone(&self, endpoint: &str) {
        let now = self.store.clock().monotonic();
        self.state().set_gone(endpoint, &self.caps, now);
    }

    fn admits(&self, state: &mut State, target: (&Arc<str>, &Arc<str>), throttle: &Throttle, lane: Lane) -> bool {
        state.admits(target, throttle, lane, &self.caps, || self.store.clock().monotonic())
    }

    fn occupy(self: &Arc<Self>, state: &mut State, endpoint: &Arc<str>, app: &Arc<str>, lane: Lane) -> Slot {
        state.occupy(endpoint, app, lane, &self.caps, || self.store.clock().monotonic());
        self.store.metrics().in_flight.add(1);
        Slot {
            handoff: self.clone(),
            endpoint: endpoint.clone(),
            app: app.clone(),
            lane,
        }
    }

    /// How many rows of `lane` a claim may take now.
    pub fn free(&self, lane: Lane) -> usize {
        let state = self.state();
        if state.unsettled.is_full(&self.caps) {
            return 0;
        }
        self.caps.free(&state, lane)
    }

    /// Remembers that these endpoints have parked rows. Answers whether any of them could have some back at once.
    pub fn set_parked<'a>(&self, endpoints: impl IntoIterator<Item = &'a Arc<str>>) -> bool {
        let now = self.store.clock().monotonic();
        let mut endpoints = endpoints.into_iter().peekable();
        let mut wake = Wake::default();
        while endpoints.peek().is_some() {
            let mut state = self.state();
            for endpoint in endpoints.by_ref().take(NOTED_AT_ONCE) {
                let one = state.set_parked(endpoint, &self.caps, now);
                wake.claimer |= one.claimer;
                wake.earlier |= one.earlier;
            }
        }
        if wake.earlier {
            self.earlier.notify_one();
        }
        wake.claimer
    }

    /// These endpoints had no parked rows left at their last turn; what was parked since then is remembered.
    pub fn unset_parked<'a>(&self, endpoints: impl IntoIterator<Item = &'a Arc<str>>) {
        let now = self.store.clock().monotonic();
        let mut endpoints = endpoints.into_iter().peekable();
        let mut look_again = false;
        while endpoints.peek().is_some() {
            let mut state = self.state();
            for endpoint in endpoints.by_ref().take(NOTED_AT_ONCE) {
                look_again |= state.unset_parked(endpoint, &self.caps, now);
            }
        }
        if look_again {
            self.store.wake();
        }
    }

    /// At most `most` endpoints that have parked rows and room, each with the number of rows it may have now: equal
    /// shares, and whoever has waited longest comes first. Their rows count as [`Lane::Again`], whatever they are.
    pub fn parked_with_room(&self, most: usize) -> Vec<(Arc<str>, usize)> {
        let now = self.store.clock().monotonic();
        let mut state = self.state();
        if state.unsettled.is_full(&self.caps) {
            return Vec::new();
        }
        let (found, left_over) = state.take_turns(&self.caps, most, now);
        drop(state);
        if left_over {
            self.store.wake();
        }
        found
    }

    /// Returns when an endpoint with parked rows that waits for its rate may have some of them.
    pub async fn paced(&self) {
        loop {
            let at = self.state().ready_at;
            let ready = async {
                match at {
                    Some(at) => self.store.clock().sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = ready => {
                    self.state().ready_at = None;
                    return;
                }
                () = self.earlier.notified() => {}
            }
        }
    }

    /// How many processes send, this one included: each has an equal share of every rate.
    pub fn set_processes(&self, count: usize) {
        self.state().rates.processes = u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// Forgets rates and troubles that are long past. Called now and then, so that memory follows what is in use.
    pub fn forget_unused(&self) {
        let now = self.store.clock().monotonic();
        self.state().forget_unused(now);
    }

    /// The owner id to lease with; `None` while this process might be taken for dead, or is stopping.
    pub fn owner(&self) -> Option<Arc<str>> {
        if self.stopping.load(Ordering::Relaxed) {
            return None;
        }
        let now = self.store.clock().monotonic();
        let state = self.state();
        let owner = state.owner.as_ref()?;
        owner
            .beat_at
            .is_none_or(|at| now.saturating_sub(at) < BEAT_IS_LATE)
            .then(|| owner.id.clone())
    }

    /// Sets who leases from now on.
    pub fn set_owner(&self, id: &str, beat_at: Option<Duration>) {
        self.state().owner = Some(Owner { id: id.into(), beat_at });
    }

    /// A number that no other lease of a row carries.
    pub fn new_lease_id(&self) -> i64 {
        self.next_lease_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands leases to the sender. What does not fit (it always does) stays leased until the lease ends.
    pub fn send(&self, leases: impl IntoIterator<Item = Lease>) {
        for lease in leases {
            if let Err(err) = self.leases.try_send(lease) {
                tracing::warn!(%err, "a lease could not be handed over; it will be claimed when it ends");
            }
        }
    }

    /// From now on nothing is leased.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_idle(&self) -> bool {
        self.state().in_flight == 0
    }
}

impl Slot {
    /// Takes in how an attempt ended: it decides how many may be in flight to the endpoint from now on.
    pub fn learn(&self, outcome: &Outcome) {
        let now = self.handoff.store.clock().monotonic();
        self.handoff
            .state()
            .learn(&self.endpoint, outcome, &self.handoff.caps, now);
    }

    /// Frees the slot. From now on the outcome counts, with texts of so many bytes, until it is settled.
    pub fn settles(self, bytes: usize) -> Unsettled {
        self.handoff.state().unsettled.add(&self.app, bytes);
        self.handoff.store.metrics().unsettled.add(1);
        Unsettled {
            handoff: self.handoff.clone(),
            app: self.app.clone(),
            bytes,
        }
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        let handoff = &self.handoff;
        let was_waited_for = handoff.state().unsettled.remove(&self.app, self.bytes, &handoff.caps);
        handoff.store.metrics().unsettled.add(-1);
        if was_waited_for {
            handoff.store.wake();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Handoff { caps, store, .. } = &*self.handoff;
        let mut state = self.handoff.state();
        let now = || store.clock().monotonic();
        let wake = state.release(&self.endpoint, &self.app, self.lane, caps, now);
        store.metrics().in_flight.add(-1);
        drop(state);
        if wake.claimer {
            store.wake();
        }
        if wake.earlier {
            self.handoff.earlier.notify_one();
        }
    }
}

fn random_i64() -> i64 {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 8];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has random numbers");
    i64::from_le_bytes(bytes)
}
