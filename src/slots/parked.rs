//! Endpoints with parked rows: they are put into lines as they become known, and the claimer's look goes along these: whose
//! turn it is, and how much each may have. Must not walk through all that wait.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use super::caps::{Caps, Lane};
use super::load::Load;
use super::state::{State, Wake};
use super::turns::{Next, Passed, Stand, Waiter};

/// Waits that one look ends at most, so that a hundred thousand that end at once hold the lock for a millisecond at a
/// time. The next look is due at once then.
const WAITS_ENDED: usize = 512;

/// How much an endpoint with parked rows may have now.
pub(super) enum Room {
    /// Of its cap.
    Slots(usize),
    /// None until then, by its own rate or rest.
    Paced(Duration),
    /// None until then, by its application's rate.
    LinePaced(Duration),
}

impl State {
    /// Forgets trouble and rates: nothing will be sent.
    pub fn set_gone(&mut self, endpoint: &str, caps: &Caps, now: Duration) {
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

    /// Remembers that the endpoint has parked rows.
    pub fn set_parked(&mut self, endpoint: &Arc<str>, caps: &Caps, now: Duration) -> Wake {
        // A new one enters as if it had waited a whole round: ahead of most, yet newcomers cannot stay ahead of the others.
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

    /// The endpoint had no parked rows left at its last turn; what was parked since then is remembered. Returns whether
    /// others may have what it left.
    pub fn unset_parked(&mut self, endpoint: &Arc<str>, caps: &Caps, now: Duration) -> bool {
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

    /// Returns whether to look again: slots that the last look gave away were left unused, and others got less than they
    /// had room for.
    fn looks_again(&mut self, caps: &Caps) -> bool {
        self.cut_short
            && caps.free(self.in_flight, self.retries_in_flight, Lane::Retry) > 0
            && std::mem::take(&mut self.cut_short)
    }

    /// Returns what an endpoint with parked rows makes worth doing: a claim now, or a look when its rate or rest allows.
    pub fn wake_for(&mut self, endpoint: &str, caps: &Caps, now: Duration) -> Wake {
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

    /// Notes when to look next. Returns whether that is earlier than it was.
    pub fn look_at(&mut self, at: Duration) -> bool {
        let earlier = self.ready_at.is_none_or(|was| at < was);
        if earlier {
            self.ready_at = Some(at);
        }
        earlier
    }

    /// Returns how many parked rows of `endpoint` may go now by its cap, or until when it waits for a rate or rest.
    pub fn room(&self, endpoint: &str, caps: &Caps, now: Duration) -> Room {
        let Some(load) = self.endpoints.get(endpoint) else {
            return Room::Slots(caps.endpoint);
        };
        let room = self
            .cap(load.limit(caps), load.app.as_ref(), caps, Lane::Retry)
            .saturating_sub(load.in_flight);
        let (own, of_app) = load.paced_until(endpoint, &self.rates);
        match own.max(of_app) > now && room > 0 {
            false => Room::Slots(room),
            true if of_app > now && of_app >= own => Room::LinePaced(of_app),
            true => Room::Paced(own),
        }
    }

    /// Puts an endpoint where it has to stand now. Returns when its rates allow half a burst, if it has any.
    pub fn put_in_place(&mut self, endpoint: &Arc<str>, caps: &Caps, now: Duration) -> Option<Duration> {
        let Entry::Occupied(mut entry) = self.endpoints.entry(endpoint.clone()) else {
            return None;
        };
        // The map's own: a lease's would be kept as long as the endpoint stands there.
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
        let (own, of_app) = load.paced_until(endpoint, &self.rates);
        load.own_rate.or(load.app_rate).map(|_| own.max(of_app))
    }

    /// Returns at most `most` endpoints that have parked rows and room, each with the number of rows it may have now: equal
    /// shares, and the one that has waited longest comes first. And whether equal shares left slots for more of their rows.
    pub fn take_turns(&mut self, caps: &Caps, most: usize, now: Duration) -> (Vec<(Arc<str>, usize)>, bool) {
        self.end_waits(caps, now);
        let mut free = caps.free(self.in_flight, self.retries_in_flight, Lane::Retry);
        let (waiting, next) = self.find_waiting(caps, most.min(free), now);
        self.ready_at = self.turns.paced_until().into_iter().chain(next).min();
        self.cut_short = waiting.len() == free && free < most;
        let mut left = waiting.len();
        let mut unequal = false;
        let mut found = Vec::with_capacity(left);
        for (endpoint, room) in waiting {
            let share = room.min(free.div_ceil(left));
            unequal |= share < room;
            free -= share;
            left -= 1;
            found.push((endpoint, share));
        }
        self.cut_short |= unequal;
        // Whoever got the larger share comes later next time.
        let mut served: Vec<_> = found.iter().collect();
        served.sort_by_key(|(_, share)| *share);
        for (endpoint, _) in served {
            self.turns.last += 1;
            if let Some(load) = self.endpoints.get_mut(endpoint) {
                load.turn = self.turns.last;
                load.noticed = false;
            }
            self.put_in_place(endpoint, caps, now);
        }
        let left_over = free > 0 && unequal;
        (found, left_over)
    }

    /// Puts those whose wait for a rate or rest is over among the others.
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

    /// The first `most` endpoints with room, by turn; they stand nowhere then. And when those may go for which an
    /// application's rate did not suffice.
    fn find_waiting(&mut self, caps: &Caps, most: usize, now: Duration) -> (Vec<(Arc<str>, usize)>, Option<Duration>) {
        let mut found = Vec::with_capacity(most);
        let mut passed = Passed::default();
        let mut next_at = None::<Duration>;
        // What an application's rate allows is shared out once, though many endpoints may wait for it.
        let mut left: HashMap<Arc<str>, usize> = HashMap::new();
        // Where slots are short nobody has a second one.
        let with_busy = !self.is_short(caps, Lane::Retry);
        while found.len() < most {
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
                room = room.min(self.rates.free(&next.endpoint, rate, now));
            }
            if let (Some(app), Some(rate)) = (&load.app, load.app_rate) {
                let left = match left.get_mut(app) {
                    Some(left) => left,
                    None => left.entry(app.clone()).or_insert(self.rates.free(app, rate, now)),
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
            found.push((next.endpoint, room));
        }
        (found, next_at)
    }

    fn take_out(&mut self, next: &Next) {
        if let Some(load) = self.endpoints.get_mut(&next.endpoint) {
            load.stand = None;
            let line = load.line();
            self.turns.leave(next.stand, &line, load.turn, next.endpoint.clone());
        }
    }
}
