//! The counts behind the handoff: what is in flight, who has parked rows, and how much of each rate is used.
//! Must not lock or wait: the handoff does.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Caps, Lane};
use crate::domain::delivery::Outcome;
use crate::domain::throttle::{Bucket, interval};
use crate::store::queue::Throttle;

/// The last quarter of the slots is for endpoints that have nothing in flight.
const KEPT_FOR_IDLE: usize = 4;
/// An application that has half of the slots gets one more for each of its endpoints that has none in flight.
const OF_ONE_APPLICATION: usize = 2;
/// A Retry-After makes an endpoint rest no longer than this: whoever recovers must not wait until tomorrow.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// An endpoint's trouble is remembered for this long, and of no more than so many that are idle.
const REMEMBERED: (Duration, usize) = (Duration::from_secs(600), 65_536);

#[derive(Default)]
pub(super) struct State {
    pub in_flight: usize,
    pub again_in_flight: usize,
    pub endpoints: HashMap<Arc<str>, Load>,
    /// Those with deliveries in flight.
    applications: HashMap<Arc<str>, Application>,
    pub owner: Option<Owner>,
    /// How many processes share the rates; 0 until the first heartbeat is as 1.
    pub processes: u32,
    /// The first instant at which an endpoint with parked rows that waits for its rate may have some of them.
    pub ready_at: Option<Duration>,
    /// By the id of the endpoint or application.
    buckets: HashMap<Arc<str>, Bucket>,
    /// Counts the turns of endpoints with parked rows.
    turns: u64,
}

#[derive(Default)]
struct Application {
    in_flight: usize,
    /// Endpoints of it went without a slot because it has its share.
    held_back: Cell<bool>,
}

#[derive(Default)]
pub(super) struct Load {
    pub in_flight: usize,
    /// None until a row of the endpoint was seen.
    pub app: Option<Arc<str>>,
    /// Rows of this endpoint are known to be parked.
    pub parked: bool,
    /// Counts how often that was noticed, in all and until its last turn.
    pub noticed: (u64, u64),
    /// Its last turn to have parked rows brought back.
    turn: u64,
    /// The rates as they were last read.
    throttle: Throttle,
    trouble: Option<Box<Trouble>>,
}

/// What is known of an endpoint that answered 429, 5xx, or not at all.
struct Trouble {
    /// In flight at most.
    limit: usize,
    /// Failures since the last success.
    in_a_row: usize,
    rests_until: Duration,
    learned_at: Duration,
}

pub(super) struct Owner {
    pub id: Arc<str>,
    /// When its last beat committed (monotonic); none: it needs no beat (SQLite).
    pub beat_at: Option<Duration>,
}

impl Load {
    fn is_idle(&self) -> bool {
        self.in_flight == 0 && !self.parked
    }

    /// Forgets trouble and rates: nothing will be sent.
    pub fn set_gone(&mut self) {
        self.throttle.clear();
        self.trouble = None;
    }

    /// Neither rates nor a rest hold anything back.
    pub fn is_unpaced(&self) -> bool {
        self.throttle.is_empty() && self.trouble.is_none()
    }

    /// In flight at most, if there are slots enough.
    pub fn limit(&self, caps: &Caps) -> usize {
        self.trouble.as_ref().map_or(caps.endpoint, |trouble| trouble.limit)
    }

    /// Each success allows one more in flight. Each failure allows one less, the second in a row two less, the third
    /// three: sixteen in a row leave one try at a time, and now and then one changes nothing.
    pub fn learn(&mut self, outcome: &Outcome, caps: &Caps, now: Duration) {
        if outcome.is_borne() {
            let Some(trouble) = &mut self.trouble else { return };
            trouble.limit = (trouble.limit + 1).min(caps.endpoint);
            trouble.in_a_row = 0;
            if trouble.limit == caps.endpoint && trouble.rests_until <= now {
                self.trouble = None;
            }
            return;
        }
        let trouble = self.trouble.get_or_insert_with(|| {
            Box::new(Trouble {
                limit: caps.endpoint,
                in_a_row: 0,
                rests_until: Duration::ZERO,
                learned_at: now,
            })
        });
        let rest = outcome.asked_rest().unwrap_or_default().min(LONGEST_REST);
        trouble.in_a_row += 1;
        trouble.limit = trouble.limit.saturating_sub(trouble.in_a_row).max(1);
        trouble.rests_until = trouble.rests_until.max(now + rest);
        trouble.learned_at = now;
    }
}

impl State {
    /// Counts one more in flight to `endpoint` of `app`.
    pub fn occupy(&mut self, endpoint: &Arc<str>, app: &Arc<str>, lane: Lane) {
        self.in_flight += 1;
        self.again_in_flight += usize::from(lane == Lane::Again);
        let load = self.endpoints.entry(endpoint.clone()).or_default();
        load.in_flight += 1;
        load.app.get_or_insert_with(|| app.clone());
        self.applications.entry(app.clone()).or_default().in_flight += 1;
    }

    /// Counts one less in flight for `app`; answers whether endpoints of it were held back by its share.
    pub fn leave(&mut self, app: &str) -> bool {
        let Some(application) = self.applications.get_mut(app) else {
            return false;
        };
        application.in_flight -= 1;
        let held_back = application.held_back.take();
        if application.in_flight == 0 {
            self.applications.remove(app);
        }
        held_back
    }

    /// How many may be in flight to an endpoint of `app`: its `limit`, and one where slots are short or the application
    /// has half of them. So endpoints that hang, however many slots each of them could have, leave some for all others.
    /// None where slots are short and the application has as many as are free: whoever comes next finds as many.
    pub fn cap(&self, limit: usize, app: Option<&Arc<str>>, caps: &Caps, lane: Lane) -> usize {
        let application = app.and_then(|app| self.applications.get(app));
        let has = application.map_or(0, |application| application.in_flight);
        if caps.free(self, lane) >= caps.of(lane) / KEPT_FOR_IDLE {
            return if has < caps.process.div_ceil(OF_ONE_APPLICATION) {
                limit
            } else {
                1
            };
        }
        if has == 0 || has < caps.free(self, Lane::First) {
            return 1;
        }
        if let Some(application) = application {
            application.held_back.set(true);
        }
        0
    }

    /// Whether rest and rates allow one more request now; it counts as sent then. Remembers the rates of who has to wait.
    pub fn admit(&mut self, endpoint: &Arc<str>, throttle: &Throttle, now: Duration) -> bool {
        let parked = match self.endpoints.get_mut(endpoint) {
            Some(load) => {
                if load.throttle != *throttle {
                    load.throttle.clone_from(throttle);
                }
                if load.trouble.as_ref().is_some_and(|trouble| trouble.rests_until > now) {
                    return false;
                }
                load.parked
            }
            None => false,
        };
        if throttle.iter().any(|(id, rate)| self.free(id, *rate, now) == 0) {
            if !parked {
                self.endpoints.entry(endpoint.clone()).or_default().throttle = throttle.clone();
            }
            return false;
        }
        for (id, rate) in throttle {
            let interval = interval(*rate, self.processes);
            self.buckets.entry(id.clone()).or_default().take(interval, now);
        }
        if parked && let Some(at) = self.paced_until(throttle) {
            self.look_at(at);
        }
        true
    }

    fn bucket(&self, id: &str) -> Bucket {
        self.buckets.get(id).copied().unwrap_or_default()
    }

    fn free(&self, id: &str, rate: u32, now: Duration) -> usize {
        self.bucket(id).free(interval(rate, self.processes), now)
    }

    /// When it is worth to look for rows that wait for these rates.
    fn paced_until(&self, throttle: &Throttle) -> Option<Duration> {
        let ready = |(id, rate): &(Arc<str>, u32)| self.bucket(id).ready_at(interval(*rate, self.processes));
        throttle.iter().map(ready).max()
    }

    /// Notes when to look next; answers whether that is earlier than it was.
    pub fn look_at(&mut self, at: Duration) -> bool {
        let earlier = self.ready_at.is_none_or(|was| at < was);
        if earlier {
            self.ready_at = Some(at);
        }
        earlier
    }

    /// How many parked rows of `endpoint` may go now by its cap; and until when it waits for its rate, if it does.
    pub fn room(&self, endpoint: &str, caps: &Caps, now: Duration) -> (usize, Option<Duration>) {
        let Some(load) = self.endpoints.get(endpoint) else {
            return (caps.endpoint, None);
        };
        self.room_of(load, caps, now)
    }

    fn room_of(&self, load: &Load, caps: &Caps, now: Duration) -> (usize, Option<Duration>) {
        let room = self
            .cap(load.limit(caps), load.app.as_ref(), caps, Lane::Again)
            .saturating_sub(load.in_flight);
        let rest = load.trouble.as_ref().map(|trouble| trouble.rests_until);
        match self.paced_until(&load.throttle).max(rest) {
            Some(at) if at > now && room > 0 => (0, Some(at)),
            _ => (room, None),
        }
    }

    /// At most `most` endpoints that have parked rows and room, each with the number of rows it may have now: equal
    /// shares, and whoever has waited longest comes first.
    pub fn take_turns(&mut self, caps: &Caps, most: usize, now: Duration) -> Vec<(Arc<str>, usize)> {
        let mut free = caps.free(self, Lane::Again);
        let mut waiting = self.waiting(caps, now);
        waiting.truncate(most.min(free));
        let mut left = waiting.len();
        let mut found = Vec::with_capacity(left);
        for (endpoint, room) in waiting {
            let share = room.min(free.div_ceil(left));
            free -= share;
            left -= 1;
            found.push((endpoint, share));
        }
        // Whoever got the larger share comes later next time.
        let mut served: Vec<_> = found.iter().collect();
        served.sort_by_key(|(_, share)| *share);
        for (endpoint, _) in served {
            self.turns += 1;
            if let Some(load) = self.endpoints.get_mut(endpoint) {
                load.turn = self.turns;
                load.noticed.1 = load.noticed.0;
            }
        }
        found
    }

    /// All endpoints with parked rows and room, those that have waited longest first. Notes when the others may go.
    fn waiting(&mut self, caps: &Caps, now: Duration) -> Vec<(Arc<str>, usize)> {
        let mut waiting = Vec::new();
        let mut next = None::<Duration>;
        let mut wait_until = |at: Duration| next = Some(next.map_or(at, |was| was.min(at)));
        for (endpoint, load) in self.endpoints.iter().filter(|(_, load)| load.parked) {
            match self.room_of(load, caps, now) {
                (0, Some(at)) => wait_until(at),
                (0, None) => {}
                (room, _) => waiting.push((load.turn, endpoint.clone(), room)),
            }
        }
        waiting.sort_by_key(|(turn, ..)| *turn);
        // What a rate allows is shared out once, though many endpoints may wait for that of their application.
        let mut left: HashMap<&str, usize> = HashMap::new();
        let mut found = Vec::with_capacity(waiting.len());
        for (_, endpoint, mut room) in waiting {
            let throttle = &self.endpoints[&endpoint].throttle;
            for (id, rate) in throttle {
                let left = left.entry(id).or_insert_with(|| self.free(id, *rate, now));
                room = room.min(*left);
                if *left == 0 {
                    wait_until(now + interval(*rate, self.processes));
                }
            }
            if room > 0 {
                for (id, _) in throttle {
                    *left.entry(id).or_default() -= room;
                }
                found.push((endpoint, room));
            }
        }
        self.ready_at = next;
        found
    }

    /// Forgets what says no more than nothing would.
    pub fn forget_unused(&mut self, now: Duration) {
        self.buckets.retain(|_, bucket| !bucket.is_unused(now));
        let (mut long, most) = REMEMBERED;
        if self.endpoints.values().filter(|load| load.is_idle()).count() > most {
            long = Duration::ZERO;
        }
        let is_recent = |trouble: &Trouble| trouble.rests_until.max(trouble.learned_at + long) > now;
        self.endpoints
            .retain(|_, load| !load.is_idle() || load.trouble.as_deref().is_some_and(is_recent));
    }

    pub fn forget_if_idle(&mut self, endpoint: &str) {
        let forgets = |load: &Load| load.is_idle() && load.trouble.is_none();
        if self.endpoints.get(endpoint).is_some_and(forgets) {
            self.endpoints.remove(endpoint);
        }
    }
}
