//! Tells the others that this process lives, and sees who does not. Postgres only: on SQLite the process is alone, and what
//! an earlier one held is free at its start. Must not free the leases of the dead: that may take long, and beats may not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::look::rest;
use super::take_over::Seen;
use crate::error::Result;
use crate::slots::{BEAT_IS_LATE, Slots};
use crate::store::Store;
use crate::store::database::outage;
use crate::store::queue::process;

/// Four a second, so that death is noticed, by the rule below, less than five seconds after it.
const PERIOD: Duration = Duration::from_millis(250);
/// A peer is dead when its beat stood still for so long while the own beats committed.
const DEAD_AFTER: Duration = Duration::from_secs(4);
/// Between two own beats no more than this counts as watching: if mine hung, so may have theirs.
const WATCHED_AT_MOST: Duration = Duration::from_secs(1);
/// An answer that took longer says nothing about the time: leases of others would seem to have ended.
const TELLS_THE_TIME: Duration = Duration::from_secs(1);
/// New processes are looked for so often. The beats of those that are known are read with each own one.
const NEW_PEERS: Duration = Duration::from_secs(1);
/// Former owner ids that are remembered: what a batch has leased under one of them commits soon.
const OWN_IDS: usize = 8;
/// Clocks this far apart are worth a warning.
const CLOCK_WARNING_US: i64 = 1_000_000;

pub(super) struct Heartbeat {
    store: Store,
    slots: Arc<Slots>,
    owner: String,
    /// The owner ids that this process has taken or tried to take, the newest last: one whose commit was not answered may be
    /// in the table, and is nobody else's.
    own: Vec<String>,
    /// The own beat is at least this.
    own_beat: i64,
    /// When the last own beat committed.
    beat_at: Duration,
    peers: HashMap<String, Peer>,
    next_look: Duration,
    /// Read by the take-over; written with each beat.
    seen: watch::Sender<Seen>,
    warned: bool,
}

/// How long a peer's beat has stood still, as far as it was watched.
struct Peer {
    beat: i64,
    still: Duration,
}

impl Heartbeat {
    pub fn new(store: Store, slots: Arc<Slots>) -> Self {
        Self {
            store,
            slots,
            owner: String::new(),
            own: Vec::new(),
            own_beat: 0,
            beat_at: Duration::ZERO,
            peers: HashMap::new(),
            next_look: Duration::ZERO,
            seen: watch::Sender::default(),
            warned: false,
        }
    }

    /// What this process knows of all processes, as of its last beat.
    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    pub async fn start(&mut self) -> Result<()> {
        if super::has_replicas(&self.store) {
            self.take_owner_id().await?;
            return self.tick().await;
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
        self.slots.set_owner("sole", None);
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
                outage::note_missed_beat(&err, "a heartbeat was not committed");
            }
        }
    }

    /// One beat; what it sees goes to the take-over.
    pub async fn tick(&mut self) -> Result<()> {
        if !super::has_replicas(&self.store) {
            return Ok(());
        }
        let before = self.store.clock().monotonic();
        let watched: Vec<_> = self
            .peers
            .iter()
            .map(|(owner, peer)| (owner.as_str(), peer.beat))
            .collect();
        let beat = process::beat(&self.store, (&self.owner, self.own_beat), &watched).await?;
        self.own_beat = beat.own;
        self.watch_clock(beat.database_now.0, before);
        let since = before.saturating_sub(self.beat_at);
        if !beat.alive || since > BEAT_IS_LATE {
            self.take_owner_id().await?;
        } else {
            self.beat_at = before;
            self.slots.set_owner(&self.owner, Some(before));
        }
        let dead = self.watch(&beat.peers, since.min(WATCHED_AT_MOST));
        self.seen.send_if_modified(|seen| {
            // The dead are told of with each beat: what was locked at the last one may be free.
            let modified = !dead.is_empty() || seen.own != self.own || !seen.dead.is_empty();
            if seen.own != self.own {
                seen.own.clone_from(&self.own);
            }
            seen.dead = dead;
            modified
        });
        if let Err(err) = self.look_for_peers().await {
            let what = "new processes could not be looked for; trying again with the next beat";
            outage::note_failure(&err, what);
        }
        self.slots.set_processes(self.peers.len() + 1);
        Ok(())
    }

    async fn look_for_peers(&mut self) -> Result<()> {
        let now = self.store.clock().monotonic();
        if now < self.next_look {
            return Ok(());
        }
        let beats = process::find_beats(&self.store).await?;
        for (owner, beat) in beats.into_iter().filter(|(owner, _)| !self.own.contains(owner)) {
            self.peers.entry(owner).or_insert(Peer {
                beat,
                still: Duration::ZERO,
            });
        }
        let looked = self.store.clock().monotonic();
        self.next_look = looked + rest(NEW_PEERS, looked.saturating_sub(now));
        Ok(())
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
            let what = "this process could not sign off; its peers will find it dead";
            outage::note_failure(&err, what);
        }
    }

    /// A new owner id, for a start and for a process that may have been taken for dead: what it leases from now on
    /// cannot be confused with what others took from it. Leases that it still holds go over to the new id.
    async fn take_owner_id(&mut self) -> Result<()> {
        let owner = process::new_owner();
        self.own.push(owner.clone());
        self.own.drain(..self.own.len().saturating_sub(OWN_IDS));
        let before = self.store.clock().monotonic();
        let tx = self.store.begin().await?;
        process::insert_process(&tx, &owner).await?;
        if !self.owner.is_empty() {
            let (old, why) = (&self.owner, "own beats came late; going on under a new owner id");
            // An outage has lines of its own.
            if outage::is_on() {
                tracing::debug!(old, new = owner, "{why}");
            } else {
                tracing::warn!(old, new = owner, "{why}");
            }
            for former in self.own.iter().filter(|former| **former != owner) {
                process::rename(&tx, former, &owner).await?;
            }
        }
        tx.commit().await?;
        self.slots.set_owner(&owner, Some(before));
        self.owner = owner;
        self.own_beat = 0;
        self.beat_at = before;
        Ok(())
    }

    /// Takes in the beats of the peers and returns those that are dead, with their last beats. Forgets those that have none.
    fn watch(&mut self, beats: &HashMap<String, i64>, watched: Duration) -> Vec<(String, i64)> {
        self.peers.retain(|owner, _| beats.contains_key(owner));
        let mut dead = Vec::new();
        for (owner, peer) in &mut self.peers {
            let beat = beats[owner];
            if peer.beat == beat {
                peer.still += watched;
            } else {
                *peer = Peer {
                    beat,
                    still: Duration::ZERO,
                };
            }
            if peer.still >= DEAD_AFTER {
                dead.push((owner.clone(), beat));
            }
        }
        dead
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
