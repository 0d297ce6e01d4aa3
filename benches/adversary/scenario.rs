//! Lists the scenarios: their names, what each does, and the longest time that it may take.

use super::report::Report;
use super::site::Ground;
use super::{deleted_endpoints, growth, history, locked_row, parked, readers, retention, slow_settle, snapshot};
use crate::Failure;
use clap::ValueEnum;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A foreign transaction locks one application's row while its customer keeps ten changes of endpoints in flight
    LockedRow,
    /// One customer's portal token asks for pages over many connections, and each page reads all of many messages
    Readers,
    /// One customer has created and deleted very many endpoints, and goes on posting
    DeletedEndpoints,
    /// A foreign transaction stops all outcomes from being stored while messages are accepted and sent
    SlowSettle,
    /// A long transaction keeps every row that passed through the queue from being removed
    Snapshot,
    /// Very many endpoints have a rate of one request per second, and rows that wait
    Parked,
    /// The old messages of many applications are removed: what that writes, how fast it goes, and what accepting notices
    Retention,
    /// A console asks for statistics and for endpoints in trouble, and the history is that of 90 days
    History,
    /// Two databases side by side, one of them with a history of 90 days: rates, claims, settlements and lists of both
    Growth,
}

impl Scenario {
    /// Runs the scenario and adds its cases to the report.
    pub async fn run(self, ground: &Ground, report: &mut Report) -> Result<(), Failure> {
        match self {
            Self::LockedRow => locked_row::run(ground, report).await,
            Self::Readers => readers::run(ground, report).await,
            Self::DeletedEndpoints => deleted_endpoints::run(ground, report).await,
            Self::SlowSettle => slow_settle::run(ground, report).await,
            Self::Snapshot => snapshot::run(ground, report).await,
            Self::Parked => parked::run(ground, report).await,
            Self::Retention => retention::run(ground, report).await,
            Self::History => history::run(ground, report).await,
            Self::Growth => growth::run(ground, report).await,
        }
    }

    pub fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Returns the description of the scenario, which is the comment of its variant.
    pub fn about(self) -> String {
        let value = self.to_possible_value();
        value
            .and_then(|value| Some(value.get_help()?.to_string()))
            .unwrap_or_default()
    }

    /// Returns the time after which the scenario is given up: several times what a quiet machine needs.
    pub fn longest(self, quick: bool) -> Duration {
        let minutes = match (quick, self) {
            (true, _) => 4,
            (false, Self::Parked) => 40,
            (false, Self::History | Self::Growth) => 240,
            (false, Self::Retention) => 60,
            (false, _) => 20,
        };
        Duration::from_mins(minutes)
    }
}
