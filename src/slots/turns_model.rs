//! Compares which parked rows may be claimed with a simple model: a walk through all endpoints that wait.
//!
//! Must not use the lines of turns.rs for the expected result: the model must not share a mistake with them.

use std::collections::HashMap;
use std::time::Duration;

use super::caps::{Caps, Lane};
use super::parked::{Grant, Room};
use super::state::{State, Wake};
use crate::domain::delivery::{Answer, Outcome};
use crate::domain::throttle::Throttle;
use crate::domain::typed_id::{AppId, EndpointId};

const CAPS: Caps = Caps {
    process: 16,
    endpoint: 4,
};
const MOST: usize = 5;

fn answer(status: u16) -> Outcome {
    Outcome::Answered(Answer {
        status,
        body: String::new(),
        retry_after: (status == 429).then_some(Duration::from_secs(1)),
    })
}

/// Endpoints, their parked rows, and a claimer that looks only when it is woken.
struct World {
    state: State,
    caps: Caps,
    now: Duration,
    random: u64,
    endpoints: Vec<(EndpointId, AppId, Throttle)>,
    rows: HashMap<EndpointId, usize>,
    sending: Vec<(usize, Lane)>,
    awake: bool,
}

impl World {
    /// Makes 30 endpoints of 6 applications. Every fourth endpoint has a rate, and every third has an application with
    /// one.
    fn new(seed: u64, caps: Caps) -> Self {
        let endpoints = (0..30).map(|at: u32| {
            let (endpoint, app) = (format!("ep_{at}").into(), format!("app_{}", at % 6).into());
            let throttle = Throttle {
                endpoint: at.is_multiple_of(4).then_some(10),
                app: at.is_multiple_of(3).then_some(25),
            };
            (endpoint, app, throttle)
        });
        Self {
            state: State::default(),
            caps,
            now: Duration::from_secs(100),
            random: seed * 2 + 1,
            endpoints: endpoints.collect(),
            rows: HashMap::new(),
            sending: Vec::new(),
            awake: false,
        }
    }

    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % below as u64) as usize
    }

    fn wake(&mut self, wake: Wake) {
        self.awake |= wake.claimer;
    }

    fn park(&mut self, at: usize) {
        let endpoint = self.endpoints[at].0.clone();
        let wake = self.state.set_parked(&endpoint, &self.caps, self.now);
        self.wake(wake);
    }

    fn take(&mut self, at: usize, lane: Lane) -> bool {
        let (endpoint, app, throttle) = &self.endpoints[at];
        let now = self.now;
        let taken = self.state.admits(endpoint, app, throttle, lane, &self.caps, || now);
        if taken {
            self.state.occupy(endpoint, app, lane, &self.caps, || now);
            self.sending.push((at, lane));
        }
        taken
    }

    /// Accepts a delivery as `Slots::admit` does.
    fn accept(&mut self, at: usize) {
        let load = self.state.endpoints.get(&self.endpoints[at].0);
        let parked = load.is_some_and(|load| load.parked || load.in_flight >= load.limit(&self.caps));
        if !parked && (self.state.in_flight >= self.caps.process || self.take(at, Lane::First)) {
            return;
        }
        *self.rows.entry(self.endpoints[at].0.clone()).or_default() += 1;
        self.park(at);
    }

    fn end_one(&mut self, status: u16) {
        let at = self.random(self.sending.len());
        let (at, lane) = self.sending.swap_remove(at);
        let (endpoint, app, _) = &self.endpoints[at];
        let now = self.now;
        self.state.learn(endpoint, &answer(status), &self.caps, now);
        let wake = self.state.release(endpoint, app, lane, &self.caps, || now);
        self.wake(wake);
    }

    /// Advances the clock, and wakes the claimer if a rate or rest has ended.
    fn pass(&mut self, ms: usize) {
        self.now += Duration::from_millis(ms as u64);
        if self.state.ready_at.is_some_and(|at| at <= self.now) {
            self.state.ready_at = None;
            self.awake = true;
        }
    }

    /// Returns what a walk through all endpoints gives: the rule, in its simplest form.
    fn expected(&self) -> Vec<Grant> {
        let mut waiting = Vec::new();
        for (endpoint, load) in self.state.endpoints.iter().filter(|(_, load)| load.parked) {
            if let Room::Slots(room @ 1..) = self.state.room(endpoint, &self.caps, self.now) {
                let busy = load.in_flight > 0;
                let line = if busy { AppId::default() } else { load.line() };
                waiting.push(((load.turn, busy, line), endpoint.clone(), room));
            }
        }
        waiting.sort();
        let mut left: HashMap<String, usize> = HashMap::new();
        let mut found = Vec::new();
        for (_, endpoint, mut room) in waiting {
            let load = &self.state.endpoints[&endpoint];
            let of_app = load.app.as_ref().map(AppId::to_string).zip(load.app_rate);
            let rates: Vec<_> = load
                .own_rate
                .map(|rate| (endpoint.to_string(), rate))
                .into_iter()
                .chain(of_app)
                .collect();
            for (id, rate) in &rates {
                let free = || self.state.rates.free(id, *rate, self.now);
                room = room.min(*left.entry(id.clone()).or_insert_with(free));
            }
            if room > 0 {
                rates.iter().for_each(|(id, _)| *left.get_mut(id).unwrap() -= room);
                found.push(Grant {
                    endpoint_id: endpoint,
                    rows: room,
                });
            }
        }
        let mut free = self
            .caps
            .free(self.state.in_flight, self.state.retries_in_flight, Lane::Retry);
        found.truncate(MOST.min(free));
        let count = found.len();
        for (at, grant) in found.iter_mut().enumerate() {
            grant.rows = grant.rows.min(free.div_ceil(count - at));
            free -= grant.rows;
        }
        found
    }

    /// Makes a look and the claim that follows it.
    fn claim(&mut self) {
        self.awake = false;
        // Computed before the look, which only ends waits that are over: that does not change the result.
        let expected = self.expected();
        let found = self.state.take_turns(&self.caps, MOST, self.now);
        assert_eq!(found.grants, expected);
        self.awake |= found.left_over || found.grants.len() == MOST;
        let mut empty = Vec::new();
        for grant in found.grants {
            let (endpoint, share) = (grant.endpoint_id, grant.rows);
            let at = self.endpoints.iter().position(|(id, ..)| *id == endpoint).unwrap();
            let rows = self.rows.get(&endpoint).copied().unwrap_or_default();
            for _ in 0..rows.min(share) {
                if self.take(at, Lane::Retry) {
                    *self.rows.get_mut(&endpoint).unwrap() -= 1;
                } else {
                    self.park(at);
                }
            }
            if rows < share {
                empty.push(endpoint);
            }
        }
        for endpoint in empty {
            self.awake |= self.state.unset_parked(&endpoint, &self.caps, self.now);
        }
    }

    /// Checks that the claimer will look for every endpoint with rows that could be claimed.
    fn nobody_is_forgotten(&self) {
        if self.awake
            || self
                .caps
                .free(self.state.in_flight, self.state.retries_in_flight, Lane::Retry)
                == 0
        {
            return;
        }
        let rows = self.rows.iter().filter(|(_, rows)| **rows > 0);
        for (endpoint, rows) in rows {
            let Some(load) = self.state.endpoints.get(endpoint).filter(|load| load.parked) else {
                panic!("{endpoint} has {rows} rows and is not known to be parked");
            };
            let rated = load.own_rate.or(load.app_rate).is_some();
            match self.state.room(endpoint, &self.caps, self.now) {
                Room::Slots(0) => {}
                Room::Slots(room) => assert!(
                    rated && self.state.ready_at.is_some(),
                    "{endpoint} has {rows} rows and room for {room}: {:?}",
                    load.stand
                ),
                Room::Paced(at) | Room::LinePaced(at) => assert!(
                    self.state.ready_at.is_some_and(|ready| ready <= at),
                    "{endpoint} waits until {at:?}, and the next look is at {:?}",
                    self.state.ready_at
                ),
            }
        }
    }
}

#[test]
fn turns_are_as_a_walk_through_all_gives_them_and_nobody_who_has_room_is_forgotten() {
    for seed in 0..12 {
        let process = [16, 40, 7][seed as usize % 3];
        let mut world = World::new(seed, Caps { process, ..CAPS });
        for _ in 0..2_000 {
            match world.random(10) {
                0..4 => {
                    let at = world.random(30);
                    world.accept(at);
                }
                4..6 if !world.sending.is_empty() => {
                    let status = [200, 200, 500, 429][world.random(4)];
                    world.end_one(status);
                }
                6 => {
                    let ms = world.random(60);
                    world.pass(ms);
                }
                7.. if world.awake => world.claim(),
                _ => {}
            }
            world.nobody_is_forgotten();
        }
        for _ in 0..100_000 {
            if world.awake {
                world.claim();
            } else if !world.sending.is_empty() {
                world.end_one(200);
            } else if world.rows.values().all(|rows| *rows == 0) {
                break;
            } else {
                world.pass(50);
            }
            world.nobody_is_forgotten();
        }
        assert_eq!(world.rows.values().sum::<usize>(), 0, "all go out without a poll");
        assert_eq!((world.state.in_flight, world.state.retries_in_flight), (0, 0));
    }
}

#[test]
fn who_keeps_coming_anew_does_not_starve_who_waits() {
    let caps = Caps {
        process: 16,
        endpoint: 1,
    };
    let now = Duration::from_secs(1);
    let mut state = State::default();
    let old: EndpointId = "z_old".into();
    let mut turns = 0;
    for round in 0..100 {
        for at in 0..4 {
            state.set_parked(&format!("new_{round}_{at}").into(), &caps, now);
        }
        if round == 0 {
            state.set_parked(&old, &caps, now);
        }
        for grant in state.take_turns(&caps, 4, now).grants {
            let endpoint = grant.endpoint_id;
            turns += usize::from(endpoint == old);
            if endpoint != old {
                state.unset_parked(&endpoint, &caps, now);
            }
        }
    }
    assert!(turns > 0, "it had a turn within 100 rounds");
}
