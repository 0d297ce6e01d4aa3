//! Decides which endpoints with parked rows have their turn, and how many of their rows may be claimed.
//!
//! Each endpoint with parked rows is put where it has to stand (turns.rs) whenever something about it changes: rows are
//! parked, a slot is taken or freed, a rate or rest ends. A look of the claimer then goes along the lines, from the
//! endpoint that has waited longest, until the free slots are given away.
//!
//! Must not walk through all endpoints that wait.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use super::caps::{Caps, Lane};
use super::load::{Load, Paced};
use super::state::{State, Wake};
use super::turns::{Next, Passed, Stand, Waiter};
use crate::domain::typed_id::{AppId, EndpointId};

/// How many waits for a rate or rest one look ends at most. If a hundred thousand of them end at once, each look holds
/// the lock for a millisecond, and the next look is due at once.
const WAITS_ENDED: usize = 512;

/// What an endpoint gets at its turn: rows that a claim may take.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Grant {
    pub endpoint_id: EndpointId,
    /// How many parked rows may be claimed.
    pub rows: usize,
}

/// The result of [`State::take_turns`].
pub(super) struct Granted {
    pub grants: Vec<Grant>,
    /// Whether slots are left although an endpoint got fewer than it could use: then the next look is due at once.
    pub left_over: bool,
}

/// The result of [`State::find_waiting`].
struct Found {
    /// The endpoints, each with as many rows as it could have.
    endpoints: Vec<Grant>,
    /// When to look again for endpoints for which their application's rate did not suffice.
    next_at: Option<Duration>,
}

/// How many rows of an endpoint with parked rows may be claimed now. Instants are by the monotonic clock.
pub(super) enum Room {
    /// As many as caps and limits leave; its rates are not looked at.
    Slots(usize),
    /// None until this instant, because of its own rate or rest.
    Paced(Duration),
    /// None until this instant, because of its application's rate.
    LinePaced(Duration),
}

impl State {
    /// Forgets the endpoint's trouble and rates: nothing is sent to it any more, so they must not delay its rows.
    pub fn set_gone(&mut self, endpoint: &EndpointId, caps: &Caps, now: Duration) {
        let Some((name, load)) = self.endpoints.get_key_value(endpoint) else {
            return;
        };
        if load.is_unpaced() {
            return;
        }
        let name = name.clone();
        if let Some(load) = self.endpoints.get_mut(endpoint) {
            (load.own_rate, load.app_rate, load.trouble) = (None, None, None);
        }
        self.put_in_place(&name, caps, now);
    }

    /// Notes that the endpoint has parked rows. Returns what should be done after that.
    pub fn set_parked(&mut self, endpoint: &EndpointId, caps: &Caps, now: Duration) -> Wake {
        // A new endpoint enters as if it had waited for a whole round: ahead of most others. But with each turn that is
        // given, later ones enter further behind, so endpoints that come anew again and again do not starve the others.
        let turn = self.turns.last.saturating_sub(self.parked as u64);
        let load = self.endpoints.entry(endpoint.clone()).or_default();
        load.noticed = true;
        if !load.parked {
            load.parked = true;
            load.turn = load.turn.max(turn);
            self.parked += 1;
            self.put_in_place(endpoint, caps, now);
        }
        let mut wake = self.wake_for(endpoint, caps, now);
        wake.claimer |= self.looks_again(caps);
        wake
    }

    /// Notes that a claim found no more parked rows of the endpoint at its last turn, unless rows were parked since
    /// then. Returns whether other endpoints may have the slots that it left.
    pub fn unset_parked(&mut self, endpoint: &EndpointId, caps: &Caps, now: Duration) -> bool {
        if let Some(load) = self.endpoints.get_mut(endpoint)
            && load.parked
            && !load.noticed
        {
            load.parked = false;
            self.parked -= 1;
            self.put_in_place(endpoint, caps, now);
            self.forget_if_idle(endpoint, now);
        }
        self.looks_again(caps)
    }

    /// Returns whether another look is worth its cost: in the last one slots were too few for all, and now some are
    /// free, because slots that it gave away were not used.
    fn looks_again(&mut self, caps: &Caps) -> bool {
        self.cut_short
            && caps.free(self.in_flight, self.retries_in_flight, Lane::Retry) > 0
            && std::mem::take(&mut self.cut_short)
    }

    /// Returns what should be done for an endpoint with parked rows: a claim now, or a look when its rate or rest
    /// allows one.
    pub fn wake_for(&mut self, endpoint: &EndpointId, caps: &Caps, now: Duration) -> Wake {
        match self.room(endpoint, caps, now) {
            Room::Slots(0) => {
                let idle = self.endpoints.get(endpoint).filter(|load| load.in_flight == 0);
                if let Some(app) = idle.map(Load::line) {
                    self.hold_back(&app);
                }
                Wake::default()
            }
            Room::Slots(_) => Wake {
                claimer: true,
                earlier: false,
            },
            Room::Paced(at) | Room::LinePaced(at) => Wake {
                claimer: false,
                earlier: self.look_at(at),
            },
        }
    }

    /// Notes that a look at `at` is worth its cost. Returns whether that is earlier than the look that was known.
    pub fn look_at(&mut self, at: Duration) -> bool {
        let earlier = self.ready_at.is_none_or(|was| at < was);
        if earlier {
            self.ready_at = Some(at);
        }
        earlier
    }

    /// Returns how many parked rows of `endpoint` may be claimed now by its caps, or until when it waits for a rate or
    /// rest.
    pub fn room(&self, endpoint: &EndpointId, caps: &Caps, now: Duration) -> Room {
        let Some(load) = self.endpoints.get(endpoint) else {
            return Room::Slots(caps.endpoint);
        };
        let room = self
            .cap(load.limit(caps), load.app.as_ref(), caps, Lane::Retry)
            .saturating_sub(load.in_flight);
        let Paced { own, of_app } = load.paced_until(endpoint, &self.rates);
        match own.max(of_app) > now && room > 0 {
            false => Room::Slots(room),
            true if of_app > now && of_app >= own => Room::LinePaced(of_app),
            true => Room::Paced(own),
        }
    }

    /// Puts the endpoint where it has to stand now. Returns the instant at which its rates allow half a burst, or
    /// `None` if it has no rate.
    pub fn put_in_place(&mut self, endpoint: &EndpointId, caps: &Caps, now: Duration) -> Option<Duration> {
        let Entry::Occupied(mut entry) = self.endpoints.entry(endpoint.clone()) else {
            return None;
        };
        // The key of the map, and not `endpoint`: that may be a lease's own copy of the text, which the line would keep
        // alive.
        let name = entry.key().clone();
        let load = entry.get_mut();
        let (was, stand) = (load.stand, load.stands(endpoint, caps, &self.rates, now));
        if was != stand {
            load.stand = stand;
            let app = load.line();
            if let Some(was) = was {
                self.turns.leave(was, &app, load.turn, name.clone());
            }
            if let Some(stand) = stand {
                self.turns.enter(stand, &app, load.turn, name);
            }
        }
        let Paced { own, of_app } = load.paced_until(endpoint, &self.rates);
        load.own_rate.or(load.app_rate).map(|_| own.max(of_app))
    }

    /// Gives their turn to up to `most` endpoints that have parked rows and free slots, beginning with the one that has
    /// waited longest. The free slots are divided equally.
    pub fn take_turns(&mut self, caps: &Caps, most: usize, now: Duration) -> Granted {
        self.end_waits(caps, now);
        let mut free = caps.free(self.in_flight, self.retries_in_flight, Lane::Retry);
        let Found {
            endpoints: mut grants,
            next_at,
        } = self.find_waiting(caps, most.min(free), now);
        self.ready_at = self.turns.paced_until().into_iter().chain(next_at).min();
        self.cut_short = grants.len() == free && free < most;
        let mut left = grants.len();
        let mut unequal = false;
        for grant in &mut grants {
            let rows = grant.rows.min(free.div_ceil(left));
            unequal |= rows < grant.rows;
            free -= rows;
            left -= 1;
            grant.rows = rows;
        }
        self.cut_short |= unequal;
        // An endpoint that got more slots comes later the next time.
        let mut served: Vec<_> = grants.iter().collect();
        served.sort_by_key(|grant| grant.rows);
        for grant in served {
            self.turns.last += 1;
            if let Some(load) = self.endpoints.get_mut(&grant.endpoint_id) {
                load.turn = self.turns.last;
                load.noticed = false;
            }
            self.put_in_place(&grant.endpoint_id, caps, now);
        }
        let left_over = free > 0 && unequal;
        Granted { grants, left_over }
    }

    /// Puts endpoints and lines whose wait for a rate or rest is over back among the others.
    fn end_waits(&mut self, caps: &Caps, now: Duration) {
        for _ in 0..WAITS_ENDED {
            #[cfg(test)]
            {
                self.examined += 1;
            }
            match self.turns.pop_due(now) {
                Some(Waiter::Endpoint(endpoint)) => {
                    if let Some(load) = self.endpoints.get_mut(&endpoint) {
                        load.stand = None;
                    }
                    self.put_in_place(&endpoint, caps, now);
                }
                Some(Waiter::Line(_)) => {}
                None => return,
            }
        }
    }

    /// Finds the first `most` endpoints, by turn, whose rows may be claimed, and takes them from where they stand.
    fn find_waiting(&mut self, caps: &Caps, most: usize, now: Duration) -> Found {
        let mut endpoints = Vec::with_capacity(most);
        let mut passed = Passed::default();
        let mut next_at = None::<Duration>;
        // How many rows the rates of applications still allow in this look: many endpoints may wait for the same rate.
        let mut left: HashMap<AppId, usize> = HashMap::new();
        // If slots are short, no endpoint gets a second one.
        let with_busy = !self.is_short(caps, Lane::Retry);
        while endpoints.len() < most {
            let Some(next) = self.turns.next(&passed, with_busy) else {
                break;
            };
            #[cfg(test)]
            {
                self.examined += 1;
            }
            let mut room = match self.room(&next.endpoint, caps, now) {
                Room::Slots(0) => {
                    if next.stand == Stand::InLine {
                        let line = self.endpoints[&next.endpoint].line();
                        self.hold_back(&line);
                    }
                    passed.over(next);
                    continue;
                }
                Room::Slots(room) => room,
                Room::LinePaced(at) if next.stand == Stand::InLine => {
                    let line = self.endpoints[&next.endpoint].line();
                    self.turns.pace_line(&line, at);
                    continue;
                }
                Room::Paced(_) | Room::LinePaced(_) => {
                    self.put_in_place(&next.endpoint, caps, now);
                    continue;
                }
            };
            let load = &self.endpoints[&next.endpoint];
            if let Some(rate) = load.own_rate {
                room = room.min(self.rates.free(next.endpoint.as_str(), rate, now));
            }
            if let (Some(app), Some(rate)) = (&load.app, load.app_rate) {
                let left = match left.get_mut(app) {
                    Some(left) => left,
                    None => left
                        .entry(app.clone())
                        .or_insert(self.rates.free(app.as_str(), rate, now)),
                };
                room = room.min(*left);
                if room == 0 {
                    let at = now + self.rates.interval(rate);
                    next_at = Some(next_at.map_or(at, |was| was.min(at)));
                    passed.over(next);
                    continue;
                }
                *left -= room;
            }
            self.take_out(&next);
            endpoints.push(Grant {
                endpoint_id: next.endpoint,
                rows: room,
            });
        }
        Found { endpoints, next_at }
    }

    /// Takes the endpoint from where it stands.
    fn take_out(&mut self, next: &Next) {
        if let Some(load) = self.endpoints.get_mut(&next.endpoint) {
            load.stand = None;
            let line = load.line();
            self.turns.leave(next.stand, &line, load.turn, next.endpoint.clone());
        }
    }
}
