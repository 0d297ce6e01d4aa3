//! The product on one database: all sequences share it and one process, which a kill replaces.

use std::collections::HashMap;
use std::time::Duration;

use postrider::api::ApiState;
use postrider::clock::Clock;
use postrider::dispatcher::LEASE_MARGIN;
use postrider::slots::Caps;
use serde_json::json;

use super::Play;
use crate::api::Api;
use crate::harness::{self, Arrival, START, Shape, TestDatabase};
use crate::model::expected::{DISABLE_AFTER, LEASE};
use crate::model::operation::{Reaction, Sequence};

/// The attempt's timeout. Only a receiver that hangs takes so long.
const TIMEOUT: Duration = Duration::from_secs(2);
/// More than all sequences fail, so that no limit is learned that would put off a delivery.
const CAPS: Caps = Caps {
    process: 20_000,
    endpoint: 10_000,
};

/// The product on one database.
pub struct World<'a> {
    pub(super) db: &'a TestDatabase,
    pub(super) clock: Clock,
    /// `None` for the moment of a kill.
    pub(super) api: Option<Api>,
    /// Makes the paths and secrets of endpoints different.
    made: u32,
}

/// What the receiver does with requests, by path.
#[derive(Default)]
pub(super) struct Reactions {
    pub of: HashMap<String, Reaction>,
    /// Whether all answers are held back.
    pub are_held: bool,
}

impl Reactions {
    pub fn answer(&self, arrival: &Arrival) -> harness::Answer {
        let path = arrival.path.split('?').next().unwrap_or_default();
        match self.of.get(path) {
            _ if self.are_held => harness::Answer::hang(),
            Some(Reaction::Status(status)) => harness::Answer::status(*status),
            Some(Reaction::Later(seconds)) => harness::Answer::status(500).header("retry-after", &seconds.to_string()),
            Some(Reaction::Cut) => harness::Answer::cut(),
            Some(Reaction::Hang) => harness::Answer::hang(),
            None => panic!("a request to {}", arrival.path),
        }
    }
}

impl<'a> World<'a> {
    pub async fn on(db: &'a TestDatabase) -> Self {
        assert_eq!(LEASE, TIMEOUT + LEASE_MARGIN, "the model knows how long a lease lasts");
        let mut world = Self {
            db,
            clock: Clock::test(START),
            api: None,
            made: 0,
        };
        world.start().await;
        for name in ["t0", "t1"] {
            let event_type = json!({"name": name, "description": ""});
            world.api().post("/event-type", event_type).await.expect(201);
        }
        world
    }

    pub(super) fn api(&self) -> &Api {
        self.api.as_ref().expect("the process runs")
    }

    /// Starts the process.
    async fn start(&mut self) {
        let shape = Shape {
            clock: self.clock.clone(),
            caps: CAPS,
            attempt_timeout: TIMEOUT,
            schedule: "10,1000",
            disable_after: Some(DISABLE_AFTER),
            ..Shape::default()
        };
        self.api = Some(Api::shaped(self.db, shape, ApiState::BODY_DEADLINE).await);
    }

    /// Ends the process as a kill does, and starts another one.
    pub async fn kill(&mut self) {
        let token = match self.api.take() {
            Some(api) => {
                let token = api.token.clone();
                api.into_rig().kill().await;
                Some(token)
            }
            None => None,
        };
        self.start().await;
        if let (Some(api), Some(token)) = (&mut self.api, token) {
            // Idempotency keys belong to a token.
            api.token = token;
        }
    }

    /// Lets the janitor run, which removes what earlier sequences have left.
    pub async fn prune(&mut self) {
        self.api.as_mut().expect("the process runs").rig.prune().await;
    }

    /// Plays a sequence to its end.
    ///
    /// # Panics
    /// At the first difference.
    pub async fn play(&mut self, sequence: &Sequence) {
        let mut play = Play::begin(self, sequence.poller).await;
        play.play(sequence).await;
    }

    /// Makes a number that no other call makes.
    pub(super) fn number(&mut self) -> u32 {
        self.made += 1;
        self.made
    }
}
