//! Decides what this process may send at once. A delivery in flight holds a [`Slot`].
//!
//! The intake asks for a slot before it inserts a delivery. If it gets one, the row is inserted leased to this process
//! and goes to the sender right after the commit, without a claim. The claimer asks for a slot for each row that it has
//! claimed, and here it learns which endpoints with parked rows have free slots again.
//!
//! Whether there is a slot depends on the cap of the process, the cap of the endpoint and the limit that was learned
//! from its failures, the slots that are kept for first attempts and for other applications, the rates, and how much
//! was sent and is not yet settled.
//!
//! All counts are behind one lock (state.rs), which the intake, the claimer and every send take. It is never held while
//! a task waits, and work under it must be short.
//!
//! Must not query.

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
pub use self::parked::Grant;
use self::state::{State, Wake};
use crate::clock::Clock;
use crate::domain::delivery::Outcome;
use crate::domain::throttle::Throttle;
use crate::domain::typed_id::{AppId, EndpointId};
use crate::telemetry::metrics::Metrics;

/// How many endpoints are noted as parked before the lock is given up: a quarter of a millisecond, as accepting and
/// sending wait for the lock.
const NOTED_AT_ONCE: usize = 256;

/// The decision on a new delivery row.
pub enum Admission {
    /// The row is leased to this process and sent right after the commit.
    Leased(Slot),
    /// The row is due: the first process that claims it sends it.
    Due,
    /// The endpoint is saturated. The row stays out of the index of due rows until the endpoint has free slots.
    Parked,
}

/// The slots of this process, shared by all its tasks.
pub struct Slots {
    caps: Caps,
    state: Mutex<State>,
    next_lease_id: AtomicI64,
    /// Set once, by [`Slots::stop`]: from then on nothing is leased.
    stopping: AtomicBool,
    /// Notified when a rate or rest allows parked rows earlier than [`Slots::paced`] waits for.
    earlier: Notify,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Wakes the claimer.
    due: Arc<Notify>,
}

/// The right to have one delivery in flight. It is free again when this is dropped.
pub struct Slot {
    slots: Arc<Slots>,
    endpoint: EndpointId,
    app: AppId,
    lane: Lane,
}

/// Counts an outcome that waits to be settled, until it is dropped.
pub struct Unsettled {
    slots: Arc<Slots>,
    app: AppId,
    /// The bytes of the outcome's texts.
    bytes: usize,
}

impl Slots {
    /// Makes the slots. `due` is notified when there may be something to claim.
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

    /// Decides what becomes of a new delivery: this process sends it if caps and rates allow.
    pub fn admit(self: &Arc<Self>, endpoint: &EndpointId, app: &AppId, throttle: &Throttle) -> Admission {
        let mut state = self.state();
        let load = state.endpoints.get(endpoint);
        if load.is_some_and(|load| load.parked || load.in_flight >= load.limit(&self.caps)) {
            return Admission::Parked;
        }
        let is_full = state.in_flight >= self.caps.process || state.unsettled.is_full(&self.caps);
        if is_full || self.stopping.load(Ordering::Relaxed) {
            return Admission::Due;
        }
        if !self.allows(&mut state, endpoint, app, throttle, Lane::First) {
            return Admission::Parked;
        }
        Admission::Leased(self.occupy(&mut state, endpoint, app, Lane::First))
    }

    /// Takes a slot for a claimed row. Returns `None` if its endpoint or application is saturated, or a rate is used
    /// up.
    pub fn take(self: &Arc<Self>, endpoint: &EndpointId, app: &AppId, throttle: &Throttle, lane: Lane) -> Option<Slot> {
        let mut state = self.state();
        self.allows(&mut state, endpoint, app, throttle, lane)
            .then(|| self.occupy(&mut state, endpoint, app, lane))
    }

    /// Notes that the endpoint is disabled or deleted. Its rows end without being sent, so no rate and no rest delays
    /// them any longer.
    pub fn set_gone(&self, endpoint: &EndpointId) {
        let now = self.clock.monotonic();
        self.state().set_gone(endpoint, &self.caps, now);
    }

    fn allows(&self, state: &mut State, endpoint: &EndpointId, app: &AppId, throttle: &Throttle, lane: Lane) -> bool {
        state.admits(endpoint, app, throttle, lane, &self.caps, || self.clock.monotonic())
    }

    /// Counts one more delivery in flight and returns its slot.
    fn occupy(self: &Arc<Self>, state: &mut State, endpoint: &EndpointId, app: &AppId, lane: Lane) -> Slot {
        state.occupy(endpoint, app, lane, &self.caps, || self.clock.monotonic());
        self.metrics.in_flight.add(1);
        Slot {
            slots: self.clone(),
            endpoint: endpoint.clone(),
            app: app.clone(),
            lane,
        }
    }

    /// Returns how many rows of `lane` a claim may take now.
    pub fn free(&self, lane: Lane) -> usize {
        let state = self.state();
        if state.unsettled.is_full(&self.caps) {
            return 0;
        }
        self.caps.free(state.in_flight, state.retries_in_flight, lane)
    }

    /// Notes that these endpoints have parked rows. Returns whether rows of any of them may be claimed at once.
    pub fn set_parked<'a>(&self, endpoints: impl IntoIterator<Item = &'a EndpointId>) -> bool {
        let now = self.clock.monotonic();
        let mut endpoints = endpoints.into_iter().peekable();
        let mut wake = Wake::default();
        while endpoints.peek().is_some() {
            let mut state = self.state();
            for endpoint in endpoints.by_ref().take(NOTED_AT_ONCE) {
                let endpoint_wake = state.set_parked(endpoint, &self.caps, now);
                wake.claimer |= endpoint_wake.claimer;
                wake.earlier |= endpoint_wake.earlier;
            }
        }
        if wake.earlier {
            self.earlier.notify_one();
        }
        wake.claimer
    }

    /// Notes that a claim found no more parked rows of these endpoints at their last turn. An endpoint with rows that
    /// were parked since then stays noted as parked.
    pub fn unset_parked<'a>(&self, endpoints: impl IntoIterator<Item = &'a EndpointId>) {
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

    /// Gives their turn to up to `most` endpoints that have parked rows and free slots. The free slots are divided
    /// equally, and the endpoint that has waited longest comes first. The rows count as [`Lane::Retry`], even if they
    /// are first attempts.
    pub fn parked_with_room(&self, most: usize) -> Vec<Grant> {
        let now = self.clock.monotonic();
        let mut state = self.state();
        if state.unsettled.is_full(&self.caps) {
            return Vec::new();
        }
        let granted = state.take_turns(&self.caps, most, now);
        drop(state);
        if granted.left_over {
            self.due.notify_one();
        }
        granted.grants
    }

    /// Waits until the rate or rest of an endpoint with parked rows allows some of them. Only one task, the claimer,
    /// may wait here.
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

    /// Sets how many processes send, this one included. Each of them uses an equal part of every rate.
    pub fn set_processes(&self, count: usize) {
        self.state().rates.processes = u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// Forgets the use of rates and the trouble of endpoints that are long past. To be called now and then, so that the
    /// memory follows what is in use.
    pub fn forget_unused(&self) {
        let now = self.clock.monotonic();
        self.state().forget_unused(now);
    }

    /// Returns the owner id for new leases. `None` means that this process must not lease: it has no owner id yet, may
    /// have been declared dead, or is stopping.
    pub fn owner(&self) -> Option<Arc<str>> {
        if self.stopping.load(Ordering::Relaxed) {
            return None;
        }
        let now = self.clock.monotonic();
        let state = self.state();
        let owner = state.owner.as_ref()?;
        owner.may_lease(now).then(|| owner.id.clone())
    }

    /// Sets the owner id for leases from now on. `beat_at` is when its last committed beat was sent, by the monotonic
    /// clock; `None` means that it needs no beats (SQLite).
    pub fn set_owner(&self, id: &str, beat_at: Option<Duration>) {
        self.state().owner = Some(Owner { id: id.into(), beat_at });
    }

    /// Returns a lease id that no other lease of the same row has.
    // It counts from a random number: processes, and one process before and after a restart, do not repeat each
    // other's.
    pub fn new_lease_id(&self) -> i64 {
        self.next_lease_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Stops leasing: from now on [`Slots::owner`] returns `None`, and new deliveries are not sent by this process.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Returns whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.state().in_flight == 0
    }
}

impl Slot {
    pub fn endpoint_id(&self) -> &EndpointId {
        &self.endpoint
    }

    pub fn app_id(&self) -> &AppId {
        &self.app
    }

    /// Learns from the outcome how many deliveries may be in flight to the endpoint, and whether it rests; `None` means
    /// that nothing was sent. Frees the slot. The outcome, whose texts have this many `bytes`, counts as unsettled until
    /// the returned value is dropped.
    pub fn settles(self, outcome: Option<&Outcome>, bytes: usize) -> Unsettled {
        let now = self.slots.clock.monotonic();
        let mut state = self.slots.state();
        if let Some(outcome) = outcome {
            state.learn(&self.endpoint, outcome, &self.slots.caps, now);
        }
        state.unsettled.add(&self.app, bytes);
        drop(state);
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
