//! Shows the other processes that this one lives, and finds those that are dead. Postgres only: on SQLite there is one
//! process, which at its start makes due again what an earlier one had leased.
//!
//! Each process raises its beat four times a second and reads the beats of the others with the same statement. A
//! process whose own beats were late may have been declared dead, so it takes a new owner id before it leases anything
//! more.
//!
//! Must not free the leases of dead processes: that can take long, and beats must not be late.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::look::rest;
use super::take_over::{Dead, Seen};
use crate::error::Result;
use crate::slots::{BEAT_IS_LATE, Slots};
use crate::store::Store;
use crate::store::database::outage;
use crate::store::queue::process::{self, KnownBeat};

/// The pause between two beats. With it, and with `DEAD_AFTER`, a death is noticed less than five seconds after it.
const PERIOD: Duration = Duration::from_millis(250);
/// A peer is dead if its beat has stood still for this long while own beats committed.
const DEAD_AFTER: Duration = Duration::from_secs(4);
/// How much of the time between two own beats counts at most towards the death of a peer: if this process hung, the
/// peers may have hung too.
const WATCHED_AT_MOST: Duration = Duration::from_secs(1);
/// The longest round trip after which the database's time is used. After a longer one it is too uncertain: leases of
/// other processes might seem to have ended.
const USABLE_ROUND_TRIP: Duration = Duration::from_secs(1);
/// How often new processes are looked for. The beats of known ones are read with each own beat.
const NEW_PEERS: Duration = Duration::from_secs(1);
/// Own owner ids that are remembered, the present one included. A batch that leased under a former one commits soon
/// after.
const OWN_IDS: usize = 8;
/// How far apart the clocks may be, in microseconds, before a warning is logged.
const CLOCK_WARNING_US: i64 = 1_000_000;

pub(super) struct Heartbeat {
    store: Store,
    slots: Arc<Slots>,
    /// The present owner id; empty before the start.
    owner: String,
    /// The owner ids that this process has taken or tried to take, the newest last. An id whose commit was not answered
    /// may be in the table too, and belongs to no other process.
    own: Vec<String>,
    /// The own beat as it was last read; it is at least this.
    own_beat: i64,
    /// When the last own beat that committed was sent, by the monotonic clock.
    beat_at: Duration,
    /// The other processes by owner id.
    peers: HashMap<String, Peer>,
    /// When new processes are looked for next, by the monotonic clock.
    next_look: Duration,
    /// What the take-over reads. Only this task writes it, with each beat.
    seen: watch::Sender<Seen>,
    /// Whether a warning of the present difference of the clocks was logged.
    warned: bool,
}

/// Another process.
struct Peer {
    /// Its beat as it was last read.
    beat: i64,
    /// How long the beat has stood still, as far as this process has watched it.
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

    /// Subscribes to what this process knows of all processes, as of its last beat.
    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Takes an owner id and beats once. On SQLite, makes due again what an earlier process had leased.
    pub async fn start(&mut self) -> Result<()> {
        if super::shared::has_replicas(&self.store) {
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

    /// Beats until `ended`. Does nothing on SQLite.
    pub async fn run(&mut self, ended: CancellationToken) {
        if !super::shared::has_replicas(&self.store) {
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

    /// Beats once and passes what it sees to the take-over. Takes a new owner id if this process may have been declared
    /// dead.
    pub async fn tick(&mut self) -> Result<()> {
        if !super::shared::has_replicas(&self.store) {
            return Ok(());
        }
        let before = self.store.clock().monotonic();
        let watched: Vec<_> = self
            .peers
            .iter()
            .map(|(owner, peer)| KnownBeat { owner, beat: peer.beat })
            .collect();
        let own = KnownBeat {
            owner: &self.owner,
            beat: self.own_beat,
        };
        let beat = process::beat(&self.store, own, &watched).await?;
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
            // Dead processes are passed on with each beat: rows that were locked at the last one may be free now.
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

    /// Adds new processes to the peers. Does so at most once a second, and less often if it takes long: it reads the
    /// whole table of processes, with all dead row versions that a held snapshot keeps.
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

    /// Signs off: makes every row due that is still leased under the owner id, and deletes the id.
    pub async fn stop(self) {
        if !super::shared::has_replicas(&self.store) {
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

    /// Takes a new owner id, at the start and whenever this process may have been declared dead: what it leases from
    /// now on cannot be confused with what other processes took from it. Leases that it still holds move to the new id.
    async fn take_owner_id(&mut self) -> Result<()> {
        let owner = process::new_owner();
        self.own.push(owner.clone());
        self.own.drain(..self.own.len().saturating_sub(OWN_IDS));
        let before = self.store.clock().monotonic();
        let tx = self.store.begin().await?;
        process::insert_process(&tx, &owner).await?;
        if !self.owner.is_empty() {
            let (former_owner, what) = (&self.owner, "own beats came late; going on under a new owner id");
            // An outage has log lines of its own.
            if outage::is_on() {
                tracing::debug!(owner, former_owner, "{what}");
            } else {
                tracing::warn!(owner, former_owner, "{what}");
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

    /// Notes the beats of the peers, which were watched for `watched` since the last ones. Returns the dead peers.
    /// Forgets peers that have no beat any more.
    fn watch(&mut self, beats: &HashMap<String, i64>, watched: Duration) -> Vec<Dead> {
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
                dead.push(Dead {
                    owner: owner.clone(),
                    beat,
                });
            }
        }
        dead
    }

    /// Sets this process' clock by the database's, so that replicas with different clocks agree on the time. Warns if
    /// the two differ by more than a second.
    fn watch_clock(&mut self, database_now: i64, asked_at: Duration) {
        let clock = self.store.clock();
        let answered_in = clock.monotonic().saturating_sub(asked_at);
        if answered_in > USABLE_ROUND_TRIP {
            return;
        }
        // The database read its clock about half-way.
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
