//! Holds what a fault is injected into, and measures how long the program takes to recover.

use super::chance::Chance;
use super::clock::FakeClock;
use super::kind::Kind;
use super::ledger::{Shared, lock};
use super::receivers::Receivers;
use super::site::Site;
use super::{kill_faults, network_faults, postgres_faults, stop_faults};
use crate::Failure;
use std::time::{Duration, Instant};

/// How long the harness waits for a recovery before it goes on. What has not arrived by then counts as missing there, and
/// as lost if it does not arrive until the end of the run.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same in a quick run: still twice what a recovery takes at worst.
const QUICK_PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

pub struct Ground {
    pub site: Site,
    pub receivers: Receivers,
    pub ledger: Shared,
    pub chance: Chance,
    /// The clock of the process that has one of the harness's.
    pub clock: Option<FakeClock>,
    /// Whether a fault may take half a minute.
    pub may_take_long: bool,
}

/// A fault that is over.
pub struct Fault {
    /// What exactly was done.
    pub detail: String,
    pub ended: Instant,
    /// How many messages had been accepted by the end, of all of the run.
    pub accepted: usize,
    /// When processes were killed: what they had sent and not stored by then, they have forgotten.
    pub killed: Option<Instant>,
}

/// How the program has recovered from a fault.
pub struct Recovery {
    pub accepts: Duration,
    pub all_accept: Duration,
    pub arrived: Duration,
    /// The id of the message that arrived last.
    pub last: String,
    pub missing: usize,
    /// Processes that have ended by themselves.
    pub ended: usize,
}

impl Ground {
    /// Injects a fault and returns when it is over.
    pub async fn inject(&mut self, kind: Kind) -> Result<Fault, Failure> {
        match kind {
            Kind::KillOne => kill_faults::kill_one(self),
            Kind::KillAll => kill_faults::kill_all(self),
            Kind::KillPostgres => kill_faults::kill_postgres(self).await,
            Kind::Suspend => stop_faults::suspend(self).await,
            Kind::Cut => network_faults::cut(self).await,
            Kind::Delay => network_faults::delay(self).await,
            Kind::SlowCommit => network_faults::slow_commit(self).await,
            Kind::HalfClose => network_faults::half_close(self).await,
            Kind::LoseCommit => network_faults::lose_commit(self).await,
            Kind::FullDisk => postgres_faults::full_disk(self).await,
            Kind::ClockHour => stop_faults::step_clock(self, 3_600).await,
            Kind::ClockSeconds => stop_faults::step_clock(self, 5).await,
            Kind::ReceiversDie => stop_faults::receivers_die(self).await,
            Kind::NoConnections => postgres_faults::no_connections(self).await,
            Kind::ReadOnly => postgres_faults::read_only(self).await,
        }
    }

    /// Says that the fault is over at this moment: from now on accepted messages show a recovery.
    pub fn is_over(&self, detail: impl Into<String>) -> Fault {
        let mut ledger = lock(&self.ledger);
        let now = Instant::now();
        ledger.mark(now);
        Fault {
            detail: detail.into(),
            ended: now,
            accepted: ledger.accepted,
            killed: None,
        }
    }

    /// Returns the number of a process, chosen by chance.
    pub fn any_process(&mut self) -> usize {
        self.chance.below(self.site.processes.len() as u64) as usize
    }

    /// Waits until every process accepts messages again, and all that was accepted by the end of the fault has arrived.
    pub async fn recover(&mut self, fault: &Fault) -> Result<Recovery, Failure> {
        let mut ended = 0;
        let patience = if self.may_take_long { PATIENCE } else { QUICK_PATIENCE };
        while fault.ended.elapsed() < patience {
            let again = self.site.restart_ended()?;
            for number in &again {
                lock(&self.ledger).complain("process ended", format!("process {number}, after: {}", fault.detail));
            }
            ended += again.len();
            if self.has_recovered(fault) {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        let mut ledger = lock(&self.ledger);
        let since = |at: Option<Instant>| at.map_or(patience, |at| at.saturating_duration_since(fault.ended));
        let first = ledger.first_accepted.values().min().copied();
        let slowest = ledger.first_accepted.values().max().copied();
        let all = ledger.first_accepted.len() == self.site.processes.len();
        let missing = ledger.missing_of(fault.ended);
        let (arrived, last) = match ledger.last_arrival_of(fault.ended) {
            Some((arrived, id)) => (arrived, id.to_owned()),
            None => (fault.ended, String::new()),
        };
        ledger.give_up(fault.ended);
        Ok(Recovery {
            accepts: since(first),
            all_accept: since(slowest.filter(|_| all)),
            arrived: if missing > 0 { patience } else { since(Some(arrived)) },
            last,
            missing,
            ended,
        })
    }

    /// Makes the last process run with a clock of the harness's, or with the machine's again: stops it in order and starts
    /// it. Done before and after the faults that need it, so that all others meet a program without a loaded library.
    pub async fn set_clock(&mut self, clock: Option<FakeClock>) -> Result<(), Failure> {
        let process = self.site.processes.last_mut().ok_or("no process")?;
        process.stop().await?;
        let environment = clock.as_ref().map_or(Vec::new(), FakeClock::environment);
        process.start(&environment)?;
        process.is_healthy().await?;
        self.clock = clock;
        Ok(())
    }

    fn has_recovered(&self, fault: &Fault) -> bool {
        let ledger = lock(&self.ledger);
        ledger.first_accepted.len() == self.site.processes.len() && ledger.missing_of(fault.ended) == 0
    }
}
