//! What a step of the model sends, and what becomes of it: attempts, results, retries, and the health of endpoints.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider::domain::timestamp::Timestamp;

use super::{Attempt, DISABLE_AFTER, Expected, Owner, Request, Row, SCHEDULE, State};
use crate::model::operation::Reaction;

/// What a leased row ends with.
struct Outcome {
    row: Row,
    /// `None` means that nothing was sent.
    status: Option<u16>,
    failing_since: Option<Timestamp>,
    /// The wait for which the receiver has asked.
    asked: Duration,
}

/// How an attempt changes the health of its endpoint, in the order in which one change outweighs another.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Health {
    Unchanged,
    Failing,
    Exhausted(Timestamp),
    /// An attempt has succeeded; true if the endpoint was failing.
    Works(bool),
    Gone,
}

impl Expected {
    /// Sends all that is due and settles it. Returns the requests that must arrive.
    pub fn step(&mut self) -> Vec<Request> {
        let (taken, kept) = self.take_due();
        self.rows = kept;
        let requests = taken.iter().filter_map(|row| self.request(row)).collect();
        let outcomes: Vec<_> = taken.into_iter().map(|row| self.send(row)).collect();
        for outcome in &outcomes {
            let endpoint = &mut self.endpoints[outcome.row.endpoint];
            if outcome.status.is_some() && endpoint.reaction == Reaction::Hang {
                endpoint.reaction = Reaction::Status(200);
            }
        }
        self.settle(outcomes);
        requests
    }

    fn send(&mut self, row: Row) -> Outcome {
        let failing_since = self.target(&row).map(|endpoint| endpoint.failing_since);
        let status = failing_since.map(|_| match self.endpoints[row.endpoint].reaction {
            Reaction::Status(status) => status,
            Reaction::Later(_) => 500,
            Reaction::Cut | Reaction::Hang => 0,
        });
        if let Some(status) = status {
            self.attempts.push(Attempt {
                message: row.message,
                endpoint: row.endpoint,
                is_manual: row.is_manual,
                status,
                at: self.now,
            });
        }
        let asked = match self.endpoints[row.endpoint].reaction {
            Reaction::Later(seconds) => Duration::from_secs(seconds),
            _ => Duration::ZERO,
        };
        Outcome {
            row,
            status,
            asked,
            failing_since: failing_since.flatten(),
        }
    }

    /// Settles the outcomes of one step, all at once.
    fn settle(&mut self, outcomes: Vec<Outcome>) {
        let before = self.results.clone();
        let mut health: BTreeMap<usize, Health> = BTreeMap::new();
        let mut results: BTreeMap<(usize, usize), State> = BTreeMap::new();
        let mut resent = Vec::new();
        for outcome in outcomes {
            let (state, judged) = self.judge(&outcome);
            let mut row = outcome.row;
            let key = (row.message, row.endpoint);
            let known = health.entry(row.endpoint).or_insert(judged);
            *known = judged.max(*known);
            if state != State::Delivered && before.get(&key) == Some(&State::Delivered) {
                continue;
            }
            if state == State::Delivered && row.is_manual {
                resent.push(key);
            }
            // A manual attempt that has failed leaves the state of a retry that waits.
            if !(row.is_manual && state == State::Failed && before.get(&key) == Some(&State::Waiting)) {
                let known = results.entry(key).or_insert(state);
                *known = state.min(*known);
            }
            if state == State::Waiting {
                row.due_at = self.now.plus(Duration::from_secs(SCHEDULE[row.attempts_made]));
                (row.is_jittered, row.asked, row.owner) = (true, outcome.asked, Owner::Nobody);
                row.attempts_made += 1;
                self.rows.push(row);
            }
        }
        for (key, state) in results {
            if self.results.get(&key) != Some(&State::Delivered) {
                self.results.insert(key, state);
            }
        }
        self.rows
            .retain(|row| !(matches!(row.owner, Owner::Nobody) && resent.contains(&(row.message, row.endpoint))));
        for (endpoint, health) in health {
            self.change_health(endpoint, health);
        }
    }

    /// Returns the state to which an outcome leads, and what it says of its endpoint.
    fn judge(&self, outcome: &Outcome) -> (State, Health) {
        let Some(status) = outcome.status else {
            return (State::Failed, Health::Unchanged);
        };
        let (since, row) = (outcome.failing_since, &outcome.row);
        match status {
            200..300 => return (State::Delivered, Health::Works(since.is_some())),
            410 => return (State::Failed, Health::Gone),
            _ => {}
        }
        if row.is_manual {
            return (State::Failed, Health::Unchanged);
        }
        if row.attempts_made < SCHEDULE.len() {
            return (State::Waiting, Health::Unchanged);
        }
        let health = match since {
            None => Health::Failing,
            Some(since) if since.plus(DISABLE_AFTER) <= self.now => Health::Exhausted(since),
            Some(_) => Health::Unchanged,
        };
        (State::Failed, health)
    }

    fn change_health(&mut self, endpoint: usize, health: Health) {
        let now = self.now;
        let endpoint = &mut self.endpoints[endpoint];
        if !endpoint.takes() {
            return;
        }
        match health {
            Health::Unchanged | Health::Works(false) => {}
            Health::Works(true) => endpoint.failing_since = None,
            Health::Failing => endpoint.failing_since = endpoint.failing_since.or(Some(now)),
            Health::Exhausted(since) if endpoint.failing_since == Some(since) => endpoint.disabled = Some("failing"),
            Health::Exhausted(_) => {}
            Health::Gone => {
                endpoint.failing_since = endpoint.failing_since.or(Some(now));
                endpoint.disabled = Some("gone");
            }
        }
    }
}
