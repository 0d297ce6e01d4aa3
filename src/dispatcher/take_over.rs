//! Frees the leases of dead processes, so that their deliveries are due again. Postgres only.
//!
//! This is a task of its own: the heartbeat names the dead processes and never waits for it. A host that has vanished
//! may leave transactions open for some seconds. Rows that these have locked are left out and tried again with each
//! beat, until the dead owner has no rows left.
//!
//! A lease can also belong to an owner id that is not in the table `process`: its transaction began before its process
//! took another owner id or signed off, and committed after that. A sweep finds such leases. If the id is a former one
//! of this process, which is sending them, they move to its present id. All others are freed once two sweeps in a row
//! have found their owner.
//!
//! Must not decide that a process is dead: the heartbeat does.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::look::rest;
use crate::error::Result;
use crate::store::Store;
use crate::store::database::outage;
use crate::store::queue::process;

/// How often leases of unknown owners are looked for. Such a lease is freed by the second sweep: well before it ends by
/// itself, and late enough for its own process to sweep in between.
const SWEEP: Duration = Duration::from_secs(10);

/// What the heartbeat knows of the processes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Seen {
    /// The owner ids of this process, the present one last.
    pub own: Vec<String>,
    pub dead: Vec<Dead>,
}

/// A dead process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Dead {
    pub owner: String,
    /// Its last beat.
    pub beat: i64,
}

pub(super) struct TakeOver {
    store: Store,
    /// When the next sweep is due, by the monotonic clock.
    next_sweep: Duration,
    /// The unknown owners that the last sweep has found.
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

    /// Frees leases whenever the heartbeat names dead processes, and sweeps every ten seconds, until `ended`.
    pub async fn run(mut self, mut seen: watch::Receiver<Seen>, ended: CancellationToken) {
        let clock = self.store.clock().clone();
        loop {
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { return },
                () = clock.sleep_until(self.next_sweep) => {}
                () = ended.cancelled() => return,
            }
            let seen = seen.borrow_and_update().clone();
            if let Err(err) = self.round(&seen).await {
                let what = "the leases of dead processes could not be freed; trying again";
                outage::note_failure(&err, what);
            }
        }
    }

    /// Makes one round: frees the rows of dead owners and, if a sweep is due, those of unknown ones. Returns how many
    /// rows were freed.
    ///
    /// # Errors
    /// The error of the sweep, or the last error of an owner; the other owners were tried all the same.
    pub async fn round(&mut self, seen: &Seen) -> Result<u64> {
        let mut freed = 0;
        // An owner that cannot be freed now must not keep the others from being freed.
        let mut failure = None;
        for dead in &seen.dead {
            match self.free(&dead.owner, Some(dead.beat)).await {
                Ok(rows) => freed += rows,
                Err(err) => failure = Some(err),
            }
        }
        let now = self.store.clock().monotonic();
        if now >= self.next_sweep {
            // Set before the sweep too: if it fails, it is not tried again with the next beat.
            self.next_sweep = now + SWEEP;
            freed += self.sweep(&seen.own).await?;
            let swept = self.store.clock().monotonic();
            self.next_sweep = swept + rest(SWEEP, swept.saturating_sub(now));
        }
        failure.map_or(Ok(freed), Err)
    }

    /// Moves leases of this process' former ids to its present one, and frees those of the owners that the last sweep
    /// has found too. Returns how many rows were freed.
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

    /// Frees the rows of `owner` in chunks, and returns how many. `beat` is the last beat of a dead owner; `None` means
    /// an unknown one.
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
