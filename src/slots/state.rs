//! The counts behind the slots: what is in flight, who has parked rows, and who may have some of them back.
//! Must not lock or wait: the slots does.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
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

/// The last quarter of the slots is for endpoints that have nothing in flight.
const KEPT_FOR_IDLE: usize = 4;
/// An application that has half of the slots gets one more for each of its endpoints that has none in flight.
const OF_ONE_APPLICATION: usize = 2;
/// An endpoint's trouble is remembered for this long, and of no more than so many that are idle.
const REMEMBERED: (Duration, usize) = (Duration::from_secs(600), 65_536);
/// Idle endpoints, and rates, of which each sweep looks at the next ones: below a millisecond under the lock.
const SWEPT: usize = 2_048;
/// Idle endpoints that each new one makes the sweep look at: more than one, so that the limit above holds.
const SWEPT_BY_NEW: usize = 2;

#[derive(Default)]
pub(super) struct State {
    pub in_flight: usize,
    pub retries_in_flight: usize,
    pub endpoints: HashMap<Arc<str>, Load>,
    /// What is sent and not yet settled.
    pub unsettled: Unsettled,
    /// Those with deliveries in flight.
    applications: HashMap<Arc<str>, Application>,
    pub owner: Option<Owner>,
    pub rates: Rates,
    /// The first instant at which an endpoint with parked rows that waits for its rate may have some of them.
    pub ready_at: Option<Duration>,
    pub turns: Turns,
    /// Endpoints that have parked rows.
    pub parked: usize,
    /// The last look gave less than endpoints had room for, as slots were short: what is left unused is worth another look.
    pub cut_short: bool,
    /// What that application had in flight that had least, of those that were held back by their share.
    least_held_back: Option<usize>,
    /// Idle endpoints that are remembered, in the order in which the sweep comes to them.
    idle: VecDeque<Arc<str>>,
    #[cfg(test)]
    pub examined: usize,
}

#[derive(Default)]
struct Application {
    in_flight: usize,
    /// Endpoints of it went without a slot because it has its share.
    held_back: bool,
}

/// Whom a change lets look again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Wake {
    /// Parked rows may be claimed at once.
    pub claimer: bool,
    /// A rate or rest ends before all that were known.
    pub earlier: bool,
}

impl State {
    /// Returns whether caps, rest and rates allow one more request now; it counts in the rates as sent then.
    pub fn admits(
        &mut self,
        (endpoint, app): (&Arc<str>, &Arc<str>),
        throttle: &Throttle,
        lane: Lane,
        caps: &Caps,
        now: impl Fn() -> Duration,
    ) -> bool {
        let load = self.endpoints.get(endpoint);
        let (in_flight, limit) = load.map_or((0, caps.endpoint), |load| (load.in_flight, load.limit(caps)));
        let unpaced = throttle.is_empty() && load.is_none_or(Load::is_unpaced);
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
        let rate = |own: bool| throttle.iter().find(|(id, _)| (id == endpoint) == own);
        load.own_rate = rate(true).map(|(_, rate)| *rate);
        load.app_rate = rate(false).map(|(_, rate)| *rate);
        let rests = load.rests_until() > now;
        if refused && in_flight == 0 {
            self.hold_back(app);
        }
        if refused || rests || throttle.iter().any(|(id, rate)| self.rates.free(id, *rate, now) == 0) {
            self.put_in_place(endpoint, caps, now);
            self.remember(endpoint);
            return false;
        }
        for (id, rate) in throttle {
            self.rates.take(id, *rate, now);
        }
        true
    }

    /// Notes whose the endpoint is. It may stand in the line of those of which that is not known.
    fn know_app(&mut self, endpoint: &Arc<str>, app: &Arc<str>) -> &mut Load {
        let load = self.endpoints.entry(endpoint.clone()).or_default();
        if load.app.is_none() {
            if let Some(stand) = load.stand.take() {
                self.turns.leave(stand, &load.line(), load.turn, endpoint.clone());
            }
            load.app = Some(app.clone());
        }
        load
    }

    /// Counts one more in flight to `endpoint` of `app`.
    pub fn occupy(&mut self, endpoint: &Arc<str>, app: &Arc<str>, lane: Lane, caps: &Caps, now: impl Fn() -> Duration) {
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

    /// Counts one less in flight.
    pub fn release(
        &mut self,
        endpoint: &Arc<str>,
        app: &str,
        lane: Lane,
        caps: &Caps,
        now: impl Fn() -> Duration,
    ) -> Wake {
        let was_full = caps.free(self.in_flight, self.retries_in_flight, lane) == 0;
        let was_short = self.is_short(caps, Lane::Retry);
        self.in_flight -= 1;
        self.retries_in_flight -= usize::from(lane == Lane::Retry);
        let (held_back, below_half) = self.leave(app, caps);
        let is_short = self.is_short(caps, Lane::Retry);
        let more_for_busy = self.turns.has_busy() && (was_short && !is_short || below_half);
        let least = self.least_held_back;
        let more_for_held_back =
            least.is_some_and(|has| !is_short || has < caps.free(self.in_flight, self.retries_in_flight, Lane::First));
        if more_for_held_back {
            self.least_held_back = None;
        }
        let mut wake = Wake {
            claimer: was_full || held_back || more_for_busy || more_for_held_back,
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

    /// Counts one less in flight for `app`. Returns whether endpoints of it were held back by its share, and whether it
    /// had half of the slots until now.
    fn leave(&mut self, app: &str, caps: &Caps) -> (bool, bool) {
        let Some(application) = self.applications.get_mut(app) else {
            return (false, false);
        };
        application.in_flight -= 1;
        let held_back = std::mem::take(&mut application.held_back);
        let below_half = application.in_flight + 1 == half(caps);
        if application.in_flight == 0 {
            self.applications.remove(app);
        }
        (held_back, below_half)
    }

    pub fn is_short(&self, caps: &Caps, lane: Lane) -> bool {
        caps.free(self.in_flight, self.retries_in_flight, lane) < caps.of(lane) / KEPT_FOR_IDLE
    }

    /// How many may be in flight to an endpoint of `app`: its `limit`, and one where slots are short or the application
    /// has half of them. So endpoints that hang, however many slots each of them could have, leave some for all others.
    /// None where slots are short and the application has as many as are free: whoever comes next finds as many. None, too,
    /// while too much of what was sent for the application is not settled.
    pub fn cap(&self, limit: usize, app: Option<&Arc<str>>, caps: &Caps, lane: Lane) -> usize {
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

    /// Notes that an endpoint of `app` with nothing in flight goes without a slot: its application has its share.
    pub fn hold_back(&mut self, app: &str) {
        if let Some(application) = self.applications.get_mut(app) {
            application.held_back = true;
            let least = self.least_held_back.get_or_insert(application.in_flight);
            *least = application.in_flight.min(*least);
        }
    }

    /// Takes in how an attempt ended.
    pub fn learn(&mut self, endpoint: &Arc<str>, outcome: &Outcome, caps: &Caps, now: Duration) {
        let Some(load) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        Trouble::learn(&mut load.trouble, outcome, caps.endpoint, now);
        if load.parked {
            self.put_in_place(endpoint, caps, now);
        }
    }

    /// Forgets what says no more than nothing would.
    pub fn forget_unused(&mut self, now: Duration) {
        self.rates.forget_unused(now, SWEPT);
        self.sweep(now, SWEPT);
    }

    /// Forgets an idle endpoint at once, or later if it is in trouble.
    pub fn forget_if_idle(&mut self, endpoint: &Arc<str>, now: Duration) {
        let Some(load) = self.endpoints.get(endpoint).filter(|load| load.is_idle()) else {
            return;
        };
        if load.trouble.is_none() {
            self.endpoints.remove(endpoint);
            return;
        }
        self.remember(endpoint);
        if self.idle.len() > REMEMBERED.1 {
            self.sweep(now, SWEPT_BY_NEW);
        }
    }

    /// Lets the sweep come to an endpoint that is idle.
    fn remember(&mut self, endpoint: &Arc<str>) {
        let load = self.endpoints.get_mut(endpoint).filter(|load| load.is_idle());
        if load.is_some_and(|load| !std::mem::replace(&mut load.swept, true)) {
            self.idle.push_back(endpoint.clone());
        }
    }

    /// Looks at the next `count` idle endpoints and forgets those whose trouble is long past, or past if there are many.
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
            let (long, most) = REMEMBERED;
            let long = if self.idle.len() < most { long } else { Duration::ZERO };
            let trouble = load.trouble.as_ref();
            if trouble.is_some_and(|trouble| trouble.rests_until.max(trouble.learned_at + long) > now) {
                self.idle.push_back(endpoint);
            } else {
                self.endpoints.remove(&endpoint);
            }
        }
    }
}

fn half(caps: &Caps) -> usize {
    caps.process.div_ceil(OF_ONE_APPLICATION)
}
