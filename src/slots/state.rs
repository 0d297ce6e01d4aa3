//! The counts behind the slots: what is in flight to each endpoint and for each application, and which endpoints have
//! parked rows.
//!
//! Decides whether one more delivery may be sent, and what to look for when a slot becomes free. Each change returns
//! what should be done after it ([`Wake`]), so that the claimer is woken when parked rows can be claimed, and not
//! otherwise.
//!
//! Must not lock or wait: mod.rs does.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::caps::{Caps, Lane};
use super::load::Load;
use super::owner::Owner;
use super::rates::Rates;
use super::trouble::Trouble;
use super::turns::Turns;
use super::unsettled::Unsettled;
use crate::domain::delivery::Outcome;
use crate::domain::throttle::Throttle;
use crate::domain::typed_id::{AppId, EndpointId};

/// Slots of a lane are short when less than a quarter of them (one in this many) is free. That quarter is kept for
/// endpoints with nothing in flight.
const KEPT_FOR_IDLE: usize = 4;
/// An application that has half of the slots (one in this many) gets only one more for each of its endpoints that has
/// nothing in flight.
const OF_ONE_APPLICATION: usize = 2;
/// How long the trouble of an idle endpoint is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Of how many idle endpoints at most.
const MOST_REMEMBERED: usize = 65_536;
/// How many idle endpoints, and how many rates, each sweep looks at: less than a millisecond under the lock.
const SWEPT: usize = 2_048;
/// How many idle endpoints each new one makes the sweep look at: more than one, so that [`MOST_REMEMBERED`] is not
/// exceeded.
const SWEPT_BY_NEW: usize = 2;

/// The counts. All times are by the monotonic clock.
#[derive(Default)]
pub(super) struct State {
    /// The number of deliveries in flight.
    pub in_flight: usize,
    /// How many of them are of [`Lane::Retry`].
    pub retries_in_flight: usize,
    /// The endpoints that have something in flight, parked rows, trouble, or a rate that was used up.
    pub endpoints: HashMap<EndpointId, Load>,
    /// The outcomes that are not settled yet.
    pub unsettled: Unsettled,
    /// The applications that have deliveries in flight.
    applications: HashMap<AppId, Application>,
    /// `None` until the first owner id is taken.
    pub owner: Option<Owner>,
    pub rates: Rates,
    /// The first instant at which a rate or rest allows parked rows. `None` means that no endpoint waits for one.
    pub ready_at: Option<Duration>,
    pub turns: Turns,
    /// The number of endpoints that have parked rows.
    pub parked: usize,
    /// Whether slots were too few in the last look to give every endpoint as many as it could use. If some of the slots
    /// that it gave stay unused, another look is worth its cost.
    pub cut_short: bool,
    /// Of all applications that were held back, the smallest number of deliveries in flight that one had then. If more
    /// slots than this are free, or slots are no longer short, that application may have one, so the claimer is woken.
    /// `None` means that none was held back since the claimer was last woken for this.
    least_held_back: Option<usize>,
    /// Idle endpoints that are remembered, in the order in which the sweep comes to them.
    idle: VecDeque<EndpointId>,
    /// How many endpoints and waits the looks have examined.
    #[cfg(test)]
    pub examined: usize,
}

/// An application with deliveries in flight.
#[derive(Default)]
struct Application {
    /// Their number.
    in_flight: usize,
    /// Whether an endpoint with nothing in flight went without a slot because the application has as many as it may.
    held_back: bool,
}

/// What the end of a delivery changes for its application.
#[derive(Default)]
struct Left {
    /// Whether endpoints of the application were held back.
    was_held_back: bool,
    /// Whether the application has just come below half of the slots.
    is_below_half: bool,
}

/// The work that a change makes necessary.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Wake {
    /// Wake the claimer: parked rows may be claimed at once.
    pub claimer: bool,
    /// Wait anew for [`State::ready_at`]: a rate or rest ends earlier than was known.
    pub earlier: bool,
}

impl State {
    /// Returns whether caps, rests and rates allow one more delivery to `endpoint` now. If so, it is counted in the
    /// rates. `now` is called only if rates or rests matter.
    pub fn admits(
        &mut self,
        endpoint: &EndpointId,
        app: &AppId,
        throttle: &Throttle,
        lane: Lane,
        caps: &Caps,
        now: impl Fn() -> Duration,
    ) -> bool {
        let load = self.endpoints.get(endpoint);
        let (in_flight, limit) = load.map_or((0, caps.endpoint), |load| (load.in_flight, load.limit(caps)));
        let unpaced = *throttle == Throttle::default() && load.is_none_or(Load::is_unpaced);
        let known = load.is_some_and(|load| load.app.is_some());
        let refused = in_flight >= self.cap(limit, Some(app), caps, lane);
        if unpaced && !refused {
            return true;
        }
        let now = now();
        if !known {
            self.know_app(endpoint, app);
        }
        let Some(load) = self.endpoints.get_mut(endpoint) else {
            return false;
        };
        (load.own_rate, load.app_rate) = (throttle.endpoint, throttle.app);
        let rests = load.rests_until() > now;
        if refused && in_flight == 0 {
            self.hold_back(app);
        }
        let rates = [(endpoint.shared(), throttle.endpoint), (app.shared(), throttle.app)];
        let rates = rates.into_iter().filter_map(|(id, rate)| Some((id, rate?)));
        if refused || rests || rates.clone().any(|(id, rate)| self.rates.free(id, rate, now) == 0) {
            self.put_in_place(endpoint, caps, now);
            self.remember(endpoint);
            return false;
        }
        for (id, rate) in rates {
            self.rates.take(id, rate, now);
        }
        true
    }

    /// Notes the application of an endpoint. If that was not known before, takes the endpoint out of the line for
    /// unknown applications; the caller puts it where it has to stand.
    fn know_app(&mut self, endpoint: &EndpointId, app: &AppId) -> &mut Load {
        let load = self.endpoints.entry(endpoint.clone()).or_default();
        if load.app.is_none() {
            if let Some(stand) = load.stand.take() {
                self.turns.leave(stand, &load.line(), load.turn, endpoint.clone());
            }
            load.app = Some(app.clone());
        }
        load
    }

    /// Counts one more delivery in flight to `endpoint` of `app`.
    pub fn occupy(&mut self, endpoint: &EndpointId, app: &AppId, lane: Lane, caps: &Caps, now: impl Fn() -> Duration) {
        self.in_flight += 1;
        self.retries_in_flight += usize::from(lane == Lane::Retry);
        self.applications.entry(app.clone()).or_default().in_flight += 1;
        let load = self.know_app(endpoint, app);
        load.in_flight += 1;
        if load.parked
            && let Some(at) = self.put_in_place(endpoint, caps, now())
        {
            self.look_at(at);
        }
    }

    /// Counts one delivery fewer in flight. Returns what should be done with the free slot.
    pub fn release(
        &mut self,
        endpoint: &EndpointId,
        app: &AppId,
        lane: Lane,
        caps: &Caps,
        now: impl Fn() -> Duration,
    ) -> Wake {
        let was_full = caps.free(self.in_flight, self.retries_in_flight, lane) == 0;
        let was_short = self.is_short(caps, Lane::Retry);
        self.in_flight -= 1;
        self.retries_in_flight -= usize::from(lane == Lane::Retry);
        let left = self.leave(app, caps);
        let is_short = self.is_short(caps, Lane::Retry);
        // Busy endpoints may have more than one slot again: slots are no longer short, or the application is below
        // half.
        let more_for_busy = self.turns.has_busy() && (was_short && !is_short || left.is_below_half);
        // An application that was held back may have a slot again: slots are no longer short, or enough are free for
        // it.
        let least = self.least_held_back;
        let more_for_held_back =
            least.is_some_and(|has| !is_short || has < caps.free(self.in_flight, self.retries_in_flight, Lane::First));
        if more_for_held_back {
            self.least_held_back = None;
        }
        let mut wake = Wake {
            claimer: was_full || left.was_held_back || more_for_busy || more_for_held_back,
            earlier: false,
        };
        let Some(load) = self.endpoints.get_mut(endpoint) else {
            return wake;
        };
        load.in_flight -= 1;
        if load.parked {
            let now = now();
            self.put_in_place(endpoint, caps, now);
            let room = self.wake_for(endpoint, caps, now);
            wake.claimer |= room.claimer;
            wake.earlier = room.earlier;
        } else if load.in_flight == 0 {
            if load.trouble.is_none() {
                self.endpoints.remove(endpoint);
            } else {
                self.forget_if_idle(endpoint, now());
            }
        }
        wake
    }

    /// Counts one delivery fewer in flight for `app`.
    fn leave(&mut self, app: &AppId, caps: &Caps) -> Left {
        let Some(application) = self.applications.get_mut(app) else {
            return Left::default();
        };
        application.in_flight -= 1;
        let left = Left {
            was_held_back: std::mem::take(&mut application.held_back),
            is_below_half: application.in_flight + 1 == half(caps),
        };
        if application.in_flight == 0 {
            self.applications.remove(app);
        }
        left
    }

    /// Returns whether slots of `lane` are short.
    pub fn is_short(&self, caps: &Caps, lane: Lane) -> bool {
        caps.free(self.in_flight, self.retries_in_flight, lane) < caps.of(lane) / KEPT_FOR_IDLE
    }

    /// Returns how many deliveries may be in flight to an endpoint of `app` now:
    ///
    /// - usually its `limit`;
    /// - one, if the application has half of all slots, or slots are short. So endpoints that hang leave slots to all
    ///   others, however many each of them could have;
    /// - none, if slots are short and the application has at least as many in flight as are free: the next application
    ///   then finds as many. An application with nothing in flight may have one in any case;
    /// - none, while too much of what was sent for the application is not settled.
    pub fn cap(&self, limit: usize, app: Option<&AppId>, caps: &Caps, lane: Lane) -> usize {
        if app.is_some_and(|app| self.unsettled.has_its_share(app, caps)) {
            return 0;
        }
        let application = app.and_then(|app| self.applications.get(app));
        let has = application.map_or(0, |application| application.in_flight);
        if !self.is_short(caps, lane) {
            return if has < half(caps) { limit } else { 1 };
        }
        if has == 0 || has < caps.free(self.in_flight, self.retries_in_flight, Lane::First) {
            return 1;
        }
        0
    }

    /// Notes that an endpoint of `app` with nothing in flight goes without a slot because its application has as many
    /// as it may. The claimer is then woken when a slot of the application becomes free, or enough slots of others.
    pub fn hold_back(&mut self, app: &AppId) {
        if let Some(application) = self.applications.get_mut(app) {
            application.held_back = true;
            let least = self.least_held_back.get_or_insert(application.in_flight);
            *least = application.in_flight.min(*least);
        }
    }

    /// Learns from the outcome of an attempt.
    pub fn learn(&mut self, endpoint: &EndpointId, outcome: &Outcome, caps: &Caps, now: Duration) {
        let Some(load) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        Trouble::learn(&mut load.trouble, outcome, caps.endpoint, now);
        if load.parked {
            self.put_in_place(endpoint, caps, now);
        }
    }

    /// Forgets rates and idle endpoints that have no effect any more. Each call goes through the next [`SWEPT`] of
    /// each, so that it holds the lock only briefly.
    pub fn forget_unused(&mut self, now: Duration) {
        self.rates.forget_unused(now, SWEPT);
        self.sweep(now, SWEPT);
    }

    /// Forgets the endpoint if it is idle: at once, or by the sweep if it is in trouble.
    pub fn forget_if_idle(&mut self, endpoint: &EndpointId, now: Duration) {
        let Some(load) = self.endpoints.get(endpoint).filter(|load| load.is_idle()) else {
            return;
        };
        if load.trouble.is_none() {
            self.endpoints.remove(endpoint);
            return;
        }
        self.remember(endpoint);
        if self.idle.len() > MOST_REMEMBERED {
            self.sweep(now, SWEPT_BY_NEW);
        }
    }

    /// Adds the endpoint to those that the sweep goes through, if it is idle.
    fn remember(&mut self, endpoint: &EndpointId) {
        let load = self.endpoints.get_mut(endpoint).filter(|load| load.is_idle());
        if load.is_some_and(|load| !std::mem::replace(&mut load.swept, true)) {
            self.idle.push_back(endpoint.clone());
        }
    }

    /// Looks at the next `count` idle endpoints. Forgets those whose trouble is long past; if too many are remembered,
    /// those that do not rest.
    fn sweep(&mut self, now: Duration, count: usize) {
        for _ in 0..count.min(self.idle.len()) {
            let Some(endpoint) = self.idle.pop_front() else { return };
            let Some(load) = self.endpoints.get_mut(&endpoint) else {
                continue;
            };
            if !load.is_idle() {
                load.swept = false;
                continue;
            }
            let is_crowded = self.idle.len() >= MOST_REMEMBERED;
            let long = if is_crowded { Duration::ZERO } else { REMEMBERED };
            let trouble = load.trouble.as_ref();
            if trouble.is_some_and(|trouble| trouble.rests_until.max(trouble.learned_at + long) > now) {
                self.idle.push_back(endpoint);
            } else {
                self.endpoints.remove(&endpoint);
            }
        }
    }
}

/// Returns half of the slots.
fn half(caps: &Caps) -> usize {
    caps.process.div_ceil(OF_ONE_APPLICATION)
}
