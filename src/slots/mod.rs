//! What this process may send at once, and the way from accept to the sender that does not pass through a claim.
//! The caps are counted here: deliveries in flight, those of one endpoint, slots kept for first attempts, the rates, and
//! what is sent and not yet settled.
//! Must not query. Called by the intake (takes slots before it inserts leased rows) and by the dispatcher.

mod caps;
mod load;
mod owner;
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

use tokio::sync::Notify;

pub use self::caps::{Caps, Lane};
pub use self::owner::BEAT_IS_LATE;
use self::owner::Owner;
use self::state::{State, Wake};
use crate::clock::Clock;
use crate::domain::delivery::Outcome;
use crate::domain::throttle::Throttle;
use crate::telemetry::metrics::Metrics;

/// Endpoints that one hold of the lock notes as parked: a quarter of a millisecond, for accepting and sending wait.
const NOTED_AT_ONCE: usize = 256;

/// What becomes of a new delivery row.
pub enum Admission {
    /// Sent by this process right after the commit.
    Leased(Slot),
    /// Due: whoever claims it first.
    Due,
    /// Its endpoint is saturated: out of the due index until the endpoint has room.
    Parked,
}

pub struct Slots {
    caps: Caps,
    state: Mutex<State>,
    next_lease_id: AtomicI64,
    stopping: AtomicBool,
    /// An endpoint's rate allows parked rows earlier than the claimer knows.
    earlier: Notify,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Wakes the claimer.
    due: Arc<Notify>,
}

/// Room for one delivery in flight; dropped, it is free again.
pub struct Slot {
    slots: Arc<Slots>,
    endpoint: Arc<str>,
    app: Arc<str>,
    lane: Lane,
}

/// An outcome that waits to be settled; it counts until this is dropped.
pub struct Unsettled {
    slots: Arc<Slots>,
    app: Arc<str>,
    /// Of its texts.
    bytes: usize,
}

impl Slots {
    /// `due` is notified when the claimer may find something to claim.
    pub fn new(caps: Caps, clock: Clock, metrics: Arc<Metrics>, due: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            caps,
            state: Mutex::default(),
            next_lease_id: AtomicI64::new(random_i64()),
            stopping: AtomicBool::new(false),
            earlier: Notify::new(),
            clock,
            metrics,
            due,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Where a new first attempt goes: to this process's sender as far as the caps and rates allow.
    pub fn admit(self: &Arc<Self>, endpoint: &Arc<str>, app: &Arc<str>, throttle: &Throttle) -> Admission {
        let mut state = self.state();
        let load = state.endpoints.get(endpoint);
        if load.is_some_and(|load| load.parked || load.in_flight >= load.limit(&self.caps)) {
            return Admission::Parked;
        }
        let is_full = state.in_flight >= self.caps.process || state.unsettled.is_full(&self.caps);
        if is_full || self.stopping.load(Ordering::Relaxed) {
            return Admission::Due;
        }
        if !self.allows(&mut state, (endpoint, app), throttle, Lane::First) {
            return Admission::Parked;
        }
        Admission::Leased(self.occupy(&mut state, endpoint, app, Lane::First))
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
        self.allows(&mut state, (endpoint, app), throttle, lane)
            .then(|| self.occupy(&mut state, endpoint, app, lane))
    }

    /// The endpoint is disabled or deleted: what waits for it ends unsent, as fast as it can be claimed.
    pub fn set_gone(&self, endpoint: &str) {
        let now = self.clock.monotonic();
        self.state().set_gone(endpoint, &self.caps, now);
    }

    fn allows(&self, state: &mut State, target: (&Arc<str>, &Arc<str>), throttle: &Throttle, lane: Lane) -> bool {
        state.admits(target, throttle, lane, &self.caps, || self.clock.monotonic())
    }

    fn occupy(self: &Arc<Self>, state: &mut State, endpoint: &Arc<str>, app: &Arc<str>, lane: Lane) -> Slot {
        state.occupy(endpoint, app, lane, &self.caps, || self.clock.monotonic());
        self.metrics.in_flight.add(1);
        Slot {
            slots: self.clone(),
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
        self.caps.free(state.in_flight, state.retries_in_flight, lane)
    }

    /// Remembers that these endpoints have parked rows. Answers whether any of them could have some back at once.
    pub fn set_parked<'a>(&self, endpoints: impl IntoIterator<Item = &'a Arc<str>>) -> bool {
        let now = self.clock.monotonic();
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
        let now = self.clock.monotonic();
        let mut endpoints = endpoints.into_iter().peekable();
        let mut look_again = false;
        while endpoints.peek().is_some() {
            let mut state = self.state();
            for endpoint in endpoints.by_ref().take(NOTED_AT_ONCE) {
                look_again |= state.unset_parked(endpoint, &self.caps, now);
            }
        }
        if look_again {
            self.due.notify_one();
        }
    }

    /// At most `most` endpoints that have parked rows and room, each with the number of rows it may have now: equal
    /// shares, and whoever has waited longest comes first. Their rows count as [`Lane::Retry`], whatever they are.
    pub fn parked_with_room(&self, most: usize) -> Vec<(Arc<str>, usize)> {
        let now = self.clock.monotonic();
        let mut state = self.state();
        if state.unsettled.is_full(&self.caps) {
            return Vec::new();
        }
        let (found, left_over) = state.take_turns(&self.caps, most, now);
        drop(state);
        if left_over {
            self.due.notify_one();
        }
        found
    }

    /// Returns when an endpoint with parked rows that waits for its rate may have some of them.
    pub async fn paced(&self) {
        loop {
            let at = self.state().ready_at;
            let ready = async {
                match at {
                    Some(at) => self.clock.sleep_until(at).await,
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
        let now = self.clock.monotonic();
        self.state().forget_unused(now);
    }

    /// The owner id to lease with; `None` while this process might be taken for dead, or is stopping.
    pub fn owner(&self) -> Option<Arc<str>> {
        if self.stopping.load(Ordering::Relaxed) {
            return None;
        }
        let now = self.clock.monotonic();
        let state = self.state();
        let owner = state.owner.as_ref()?;
        owner.may_lease(now).then(|| owner.id.clone())
    }

    /// Sets who leases from now on.
    pub fn set_owner(&self, id: &str, beat_at: Option<Duration>) {
        self.state().owner = Some(Owner { id: id.into(), beat_at });
    }

    /// A number that no other lease of a row carries.
    pub fn new_lease_id(&self) -> i64 {
        self.next_lease_id.fetch_add(1, Ordering::Relaxed)
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
        let now = self.slots.clock.monotonic();
        self.slots.state().learn(&self.endpoint, outcome, &self.slots.caps, now);
    }

    /// Frees the slot. From now on the outcome counts, with texts of so many bytes, until it is settled.
    pub fn settles(self, bytes: usize) -> Unsettled {
        self.slots.state().unsettled.add(&self.app, bytes);
        self.slots.metrics.unsettled.add(1);
        Unsettled {
            slots: self.slots.clone(),
            app: self.app.clone(),
            bytes,
        }
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        let slots = &self.slots;
        let was_waited_for = slots.state().unsettled.remove(&self.app, self.bytes, &slots.caps);
        slots.metrics.unsettled.add(-1);
        if was_waited_for {
            slots.due.notify_one();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Slots {
            caps,
            clock,
            metrics,
            due,
            ..
        } = &*self.slots;
        let mut state = self.slots.state();
        let now = || clock.monotonic();
        let wake = state.release(&self.endpoint, &self.app, self.lane, caps, now);
        metrics.in_flight.add(-1);
        drop(state);
        if wake.claimer {
            due.notify_one();
        }
        if wake.earlier {
            self.slots.earlier.notify_one();
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
