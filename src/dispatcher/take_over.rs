//! Frees the leases of dead processes. Postgres only.
//!
//! A task of its own: the heartbeat tells it who is dead, and never waits for it. A host that has vanished may leave
//! transactions open for some seconds; what they have locked is left out, and tried again with each beat until the dead
//! owner has no rows left.
//!
//! A lease can also belong to an owner that no table names: its transaction was begun before its process took another
//! owner id or signed off, and committed after that. A sweep finds these. A process gives what it leased under a former
//! id to its present one, for it is sending that; it frees what others left behind once two sweeps have seen it.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::look::rest;
use crate::error::Result;
use crate::store::Store;
use crate::store::database::outage;
use crate::store::queue::process;

/// Twice this, and a lease of an unknown owner is free: well before it ends by itself, and time enough for its own process
/// to sweep in between.
const SWEEP: Duration = Duration::from_secs(10);

/// What the heartbeat knows of the processes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Seen {
    /// The owner ids of this process, the present one last.
    pub own: Vec<String>,
    /// Owners that are dead, with their last beats.
    pub dead: Vec<(String, i64)>,
}

pub(super) struct TakeOver {
    store: Store,
    next_sweep: Duration,
    /// Unknown owners that the last sweep has seen.
    unknown: HashSet<String>,
}

impl TakeOver {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            next_sweep: Duration::ZERO,
            unknown: HashSet::new(),
        }
    }

    pub async fn run(mut self, mut seen: watch::Receiver<Seen>, ended: CancellationToken) {
        let clock = self.store.clock().clone();
        loop {
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { return },
                () = clock.sleep_until(self.next_sweep) => {}
                () = ended.cancelled() => return,
            }
            let seen = seen.borrow_and_update().clone();
            if let Err(err) = self.turn(&seen).await {
                let what = "what dead processes had in flight could not be freed; trying again";
                outage::note_failure(&err, what);
            }
        }
    }

    /// Frees what the dead held, and now and then what unknown owners hold. Returns how many rows.
    pub async fn turn(&mut self, seen: &Seen) -> Result<u64> {
        let mut freed = 0;
        // One that cannot be freed now keeps nothing from the others.
        let mut failure = None;
        for (owner, beat) in &seen.dead {
            match self.free(owner, Some(*beat)).await {
                Ok(rows) => freed += rows,
                Err(err) => failure = Some(err),
            }
        }
        let now = self.store.clock().monotonic();
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            freed += self.sweep(&seen.own).await?;
            let swept = self.store.clock().monotonic();
            self.next_sweep = swept + rest(SWEEP, swept.saturating_sub(now));
        }
        failure.map_or(Ok(freed), Err)
    }

    async fn sweep(&mut self, own: &[String]) -> Result<u64> {
        let mut freed = 0;
        let unknown = process::list_unknown_owners(&self.store).await?;
        for owner in &unknown {
            match own.last() {
                Some(present) if own.contains(owner) => {
                    let tx = self.store.begin().await?;
                    process::adopt(&tx, owner, present).await?;
                    tx.commit().await?;
                }
                _ if self.unknown.contains(owner) => freed += self.free(owner, None).await?,
                _ => {}
            }
        }
        self.unknown = unknown.into_iter().collect();
        Ok(freed)
    }

    /// Frees, in chunks, what `owner` holds: a dead one with its last beat, or an unknown one.
    async fn free(&self, owner: &str, beat: Option<i64>) -> Result<u64> {
        let mut freed = 0;
        loop {
            let tx = self.store.begin().await?;
            let chunk = match beat {
                Some(beat) => process::take_over(&tx, owner, beat).await?,
                None => process::free_chunk(&tx, owner).await?,
            };
            tx.commit().await?;
            self.store.metrics().taken_over.add(chunk);
            freed += chunk;
            if chunk < process::TAKE_OVER_CHUNK {
                break;
            }
        }
        if freed > 0 {
            tracing::warn!(owner, freed, "a process is dead; what it had in flight is due again");
        }
        Ok(freed)
    }
}
