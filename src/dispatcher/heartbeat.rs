//! Tells the others that this process lives, sees who does not, and frees the leases of the dead. Postgres only: on
//! SQLite the process is alone, and what an earlier one held is free at its start.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::store::Store;
use crate::store::handoff::{BEAT_IS_LATE, Handoff};
use crate::store::process;

/// Four a second, so that death is noticed, by the rule below, less than five seconds after it.
const PERIOD: Duration = Duration::from_millis(250);
/// A peer is dead when its beat stood still for so long while the own beats committed.
const DEAD_AFTER: Duration = Duration::from_secs(4);
/// Between two own beats no more than this counts as watching: if mine hung, so may have theirs.
const WATCHED_AT_MOST: Duration = Duration::from_secs(1);
/// An answer that took longer says nothing about the time: leases of others would seem to have ended.
const TELLS_THE_TIME: Duration = Duration::from_secs(1);
/// Clocks this far apart are worth a warning.
const CLOCK_WARNING_US: i64 = 1_000_000;

pub(super) struct Heartbeat {
    store: Store,
    handoff: Arc<Handoff>,
    owner: String,
    /// When the last own beat committed.
    beat_at: Duration,
    peers: HashMap<String, Peer>,
    warned: bool,
}

/// How long a peer's beat has stood still, as far as it was watched.
struct Peer {
    beat: i64,
    still: Duration,
}

impl Heartbeat {
    pub fn new(store: Store, handoff: Arc<Handoff>) -> Self {
        Self {
            store,
            handoff,
            owner: String::new(),
            beat_at: Duration::ZERO,
            peers: HashMap::new(),
            warned: false,
        }
    }

    pub async fn start(&mut self) -> Result<()> {
        if super::has_replicas(&self.store) {
            self.take_owner_id().await?;
            return self.tick().await.map(drop);
        }
        let tx = self.store.begin().await?;
        let freed = process::free_all(&tx).await?;
        tx.commit().await?;
        if freed > 0 {
            tracing::info!(
                freed,
                "deliveries that were in flight when the last process ended are due again"
            );
        }
        self.handoff.set_owner("sole", None);
        Ok(())
    }

    pub async fn run(&mut self, ended: CancellationToken) {
        if !super::has_replicas(&self.store) {
            return;
        }
        let clock = self.store.clock().clone();
        loop {
            tokio::select! {
                () = clock.sleep(PERIOD) => {}
                () = ended.cancelled() => return,
            }
            if let Err(err) = self.tick().await {
                tracing::warn!(%err, "a heartbeat was not committed");
            }
        }
    }

    /// One beat, and the take-over of the dead. Answers how many rows were freed.
    pub async fn tick(&mut self) -> Result<u64> {
        if !super::has_replicas(&self.store) {
            return Ok(0);
        }
        let before = self.store.clock().monotonic();
        let beat = process::beat(&self.store, &self.owner).await?;
        self.watch_clock(beat.database_now.0, before);
        let since = before.saturating_sub(self.beat_at);
        if !beat.alive || since > BEAT_IS_LATE {
            self.take_owner_id().await?;
        } else {
            self.beat_at = before;
            self.handoff.set_owner(&self.owner, Some(before));
        }
        self.handoff.set_processes(beat.peers.len());
        let mut freed = 0;
        for (owner, beat) in self.watch(beat.peers, since.min(WATCHED_AT_MOST)) {
            freed += self.take_over(&owner, beat).await?;
        }
        Ok(freed)
    }

    /// Gives the owner id up, and with it what was leased too late to be sent.
    pub async fn stop(self) {
        if !super::has_replicas(&self.store) {
            return;
        }
        let gone = async {
            let tx = self.store.begin().await?;
            process::sign_off(&tx, &self.owner).await?;
            tx.commit().await
        };
        if let Err(err) = gone.await {
            tracing::warn!(%err, "this process could not sign off; its peers will find it dead");
        }
    }

    /// A new owner id, for a start and for a process that may have been taken for dead: what it leases from now on
    /// cannot be confused with what others took from it. Leases that it still holds go over to the new id.
    async fn take_owner_id(&mut self) -> Result<()> {
        let owner = process::new_owner();
        let before = self.store.clock().monotonic();
        let tx = self.store.begin().await?;
        process::insert_process(&tx, &owner).await?;
        if !self.owner.is_empty() {
            tracing::warn!(
                old = self.owner,
                new = owner,
                "own beats came late; going on under a new owner id"
            );
            process::rename(&tx, &self.owner, &owner).await?;
        }
        tx.commit().await?;
        self.handoff.set_owner(&owner, Some(before));
        self.owner = owner;
        self.beat_at = before;
        Ok(())
    }

    /// Takes in the beats of all and answers those that are dead, with their last beat.
    fn watch(&mut self, beats: HashMap<String, i64>, watched: Duration) -> Vec<(String, i64)> {
        self.peers.retain(|owner, _| beats.contains_key(owner));
        let mut dead = Vec::new();
        for (owner, beat) in beats.into_iter().filter(|(owner, _)| *owner != self.owner) {
            let peer = self.peers.entry(owner.clone()).or_insert(Peer {
                beat,
                still: Duration::ZERO,
            });
            if peer.beat == beat {
                peer.still += watched;
            } else {
                *peer = Peer {
                    beat,
                    still: Duration::ZERO,
                };
            }
            if peer.still >= DEAD_AFTER {
                dead.push((owner, beat));
            }
        }
        dead
    }

    async fn take_over(&self, owner: &str, beat: i64) -> Result<u64> {
        let mut freed = 0;
        let store = self.store.for_queue();
        loop {
            let tx = store.begin().await?;
            let chunk = process::take_over(&tx, owner, beat).await?;
            tx.commit().await?;
            self.store.metrics().taken_over.add(chunk);
            freed += chunk;
            if chunk < process::TAKE_OVER_CHUNK {
                tracing::warn!(owner, freed, "a process is dead; what it had in flight is due again");
                return Ok(freed);
            }
        }
    }

    /// Replicas with different clocks agree on the database's.
    fn watch_clock(&mut self, database_now: i64, asked_at: Duration) {
        let clock = self.store.clock();
        let answered_in = clock.monotonic().saturating_sub(asked_at);
        if answered_in > TELLS_THE_TIME {
            return;
        }
        let half = answered_in.as_micros() as i64 / 2;
        let apart = clock.agree_with(crate::domain::timestamp::Timestamp(database_now + half));
        let warn = apart.abs() > CLOCK_WARNING_US;
        if warn && !self.warned {
            tracing::warn!(
                apart_ms = apart / 1_000,
                "this machine's clock and the database's differ; going by the database's"
            );
        }
        self.warned = warn;
    }
}
