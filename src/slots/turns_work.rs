//! Tests how many of a hundred thousand endpoints with parked rows one look examines.
//!
//! Must not measure time, which differs between machines: it counts.

use std::time::Duration;

use super::caps::{Caps, Lane};
use super::state::State;
use crate::domain::delivery::Outcome;
use crate::domain::throttle::Throttle;
use crate::domain::typed_id::{AppId, EndpointId};

const MANY: usize = 100_000;

fn failure() -> Outcome {
    Outcome::NoAnswer { error: String::new() }
}

/// Returns the state with [`MANY`] endpoints with parked rows, of this many applications. Each endpoint is in trouble,
/// or over a rate if `throttle` gives one.
fn many(apps: usize, throttle: Throttle, now: Duration) -> State {
    let caps = Caps {
        process: 1_024,
        endpoint: 128,
    };
    let mut state = State::default();
    for at in 0..MANY {
        let endpoint = EndpointId::from(format!("ep_{at:06}"));
        let app = AppId::from(format!("app_{}", at % apps));
        if state.admits(&endpoint, &app, &throttle, Lane::Retry, &caps, || now) {
            state.occupy(&endpoint, &app, Lane::Retry, &caps, || now);
            state.learn(&endpoint, &failure(), &caps, now);
            state.set_parked(&endpoint, &caps, now);
            state.release(&endpoint, &app, Lane::Retry, &caps, || now);
        } else {
            state.set_parked(&endpoint, &caps, now);
        }
    }
    state
}

/// Returns how many endpoints and waits one look for 256 endpoints examines, and how many endpoints it finds.
fn look(state: &mut State, now: Duration) -> (usize, usize) {
    let caps = Caps {
        process: 1_024,
        endpoint: 128,
    };
    let before = state.examined;
    let found = state.take_turns(&caps, 256, now).grants.len();
    (state.examined - before, found)
}

#[test]
fn a_look_examines_no_more_than_it_finds_whatever_the_number_of_parked_endpoints() {
    let now = Duration::from_secs(1);
    let mut state = many(1_000, Throttle::default(), now);
    for _ in 0..10 {
        assert_eq!(look(&mut state, now), (257, 256));
    }
}

#[test]
fn a_hundred_thousand_endpoints_over_their_application_s_rate_are_met_as_one() {
    let now = Duration::from_secs(1);
    let rate = Throttle {
        endpoint: None,
        app: Some(5),
    };
    let mut state = many(1, rate, now);
    for _ in 0..10 {
        let (examined, found) = look(&mut state, now);
        assert!(examined <= 3 && found == 0, "{examined} for {found}");
    }
    assert!(state.ready_at.is_some_and(|at| at > now));
}

#[test]
fn a_hundred_thousand_endpoints_over_their_rates_cost_nothing_until_they_are_ready() {
    let now = Duration::from_secs(1);
    let rate = Throttle {
        endpoint: Some(1),
        app: None,
    };
    let mut state = many(1_000, rate, now);
    let (mut examined, mut found) = (0, 0);
    assert_eq!(look(&mut state, now), (1, 0));
    let later = now + Duration::from_secs(1);
    for _ in 0..MANY / 512 + 1 {
        let (examined_now, found_now) = look(&mut state, later);
        assert!(examined_now <= 512 + 256, "{examined_now} at once");
        examined += examined_now;
        found += found_now;
    }
    assert!(examined <= MANY + found + 1, "{examined} for {found}");
}

#[test]
fn a_hundred_thousand_endpoints_of_an_application_that_has_its_share_hide_nobody() {
    let caps = Caps {
        process: 1_024,
        endpoint: 128,
    };
    let now = Duration::from_secs(1);
    let mut state = many(1, Throttle::default(), now);
    let app: AppId = "app_0".into();
    for at in 0..900 {
        let endpoint = EndpointId::from(format!("ep_{at:06}"));
        if state.admits(&endpoint, &app, &Throttle::default(), Lane::Retry, &caps, || now) {
            state.occupy(&endpoint, &app, Lane::Retry, &caps, || now);
        }
    }
    let other: EndpointId = "ep_other".into();
    state.turns.last = 2 * MANY as u64;
    state.set_parked(&other, &caps, now);
    assert!(state.endpoints[&other].turn > 0, "it comes after those");
    let before = state.examined;
    let found = state.take_turns(&caps, 256, now).grants;
    assert_eq!(
        found.iter().map(|grant| &grant.endpoint_id).collect::<Vec<_>>(),
        [&other]
    );
    assert!(
        state.examined - before <= 5,
        "{} were examined",
        state.examined - before
    );
    assert_ne!(state.endpoints["ep_099999"].stand, None);
}

#[test]
fn endpoints_that_were_in_trouble_are_forgotten_by_and_by() {
    let caps = Caps {
        process: 1_024,
        endpoint: 128,
    };
    let now = Duration::from_secs(1);
    let mut state = many(1_000, Throttle::default(), now);
    for at in 0..MANY {
        let endpoint = EndpointId::from(format!("ep_{at:06}"));
        state.endpoints.get_mut(&endpoint).unwrap().noticed = false;
        state.unset_parked(&endpoint, &caps, now);
    }
    assert!(state.endpoints.len() <= 65_537, "no more than are remembered");
    state.forget_unused(now);
    assert!(state.endpoints.len() > 60_000, "ten minutes are not over");
    for _ in 0..65_536 / 2_048 + 1 {
        state.forget_unused(now + Duration::from_secs(601));
    }
    assert_eq!(state.endpoints.len(), 0);
}
