//! Delivers messages: leases deliveries, sends them over HTTP, and records how each attempt ended.
//!
//! Leases come from the claimer, and from the intake over the fast path. The sender makes the attempts, the settler
//! records them. Other loops keep the queue alive: the heartbeat, the take-over of dead processes' leases, the
//! extension of leases whose outcomes wait, the look for rows that no claim finds, the writing of sums, the janitor, and
//! the worker on background tasks. [`Dispatcher::run`] runs all of them; [`Dispatcher::step`] runs one round of each in order, for
//! tests.
//!
//! Must not contain SQL: the store does. Must not know the API.

mod cause;
mod claimer;
mod client;
mod connection;
mod done;
mod exchange;
mod extension;
mod heartbeat;
mod held;
mod janitor;
mod look;
mod name_servers;
mod names;
mod planner_statistics;
mod recorder;
mod rollup;
mod sender;
mod settings;
mod settler;
mod shared;
mod shares;
mod take_over;
mod tasks;
mod trace;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::claimer::Claimer;
use self::done::Done;
use self::heartbeat::Heartbeat;
use self::held::Held;
use self::janitor::Janitor;
use self::look::Look;
use self::rollup::Rollup;
use self::sender::Sender;
pub use self::settings::{LEASE_MARGIN, Settings};
use self::settler::Overdue;
use self::shared::{Shared, has_replicas};
use self::take_over::TakeOver;
use self::tasks::Tasks;
use crate::error::Result;
use crate::loops::Loops;
use crate::slots::Slots;
use crate::store::Store;
use crate::store::database::outage;
use crate::store::queue::Lease;

/// How long a stop waits for the database: once to give leases back after the grace period, and once to sign off.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// All that delivers messages in one process.
pub struct Dispatcher {
    shared: Arc<Shared>,
    /// Leases from the intake, over the fast path.
    fast: mpsc::Receiver<Lease>,
    /// Leases that have been dealt with, on their way to the settler.
    outcomes: mpsc::UnboundedReceiver<Done>,
    claimer: Claimer,
    look: Look,
    heartbeat: Heartbeat,
    take_over: TakeOver,
    janitor: Janitor,
    tasks: Tasks,
}

/// What one [`Dispatcher::step`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Step {
    /// The number of dead processes' rows that were made due.
    pub taken_over: u64,
    /// Whether the background tasks want their next step at once: one was worked on, or a round through them has ended.
    pub worked: bool,
    /// The number of leases that were sent or given back.
    pub sent: usize,
}

impl Dispatcher {
    /// Builds a dispatcher. `fast` brings the leases of the fast path.
    ///
    /// # Errors
    /// `Config` if the system has no root certificates.
    pub fn new(store: &Store, slots: &Arc<Slots>, fast: mpsc::Receiver<Lease>, settings: Settings) -> Result<Self> {
        let (unsettled, outcomes) = mpsc::unbounded_channel();
        let lease = settings.attempt_timeout + LEASE_MARGIN;
        let janitor = Janitor::new(store.for_background(), settings.history, settings.audit);
        let shared = Arc::new(Shared {
            store: store.clone(),
            slots: slots.clone(),
            sender: Sender::new(store.clone(), settings)?,
            unsettled,
            held: Held::default(),
            rollup: Arc::new(Rollup::new(store.for_background())),
            lease,
            stuck: AtomicUsize::new(0),
            ended: CancellationToken::new(),
        });
        let claimer = Claimer::new(store.clone(), slots.clone(), lease);
        Ok(Self {
            shared,
            fast,
            outcomes,
            claimer,
            look: Look::new(store.clone(), slots.clone()),
            heartbeat: Heartbeat::new(store.for_beat(), slots.clone()),
            take_over: TakeOver::new(store.clone()),
            janitor,
            tasks: Tasks::new(store.for_background(), slots.clone()),
        })
    }

    /// Takes an owner id, without which nothing is leased. On SQLite, makes due again what an earlier process had
    /// leased.
    pub async fn start(&mut self) -> Result<()> {
        self.heartbeat.start().await
    }

    /// Runs one round of every loop, in order: heartbeat, take-over, a background task's step, fast path, look, claim,
    /// send, settle.
    pub async fn step(&mut self) -> Result<Step> {
        self.heartbeat.tick().await?;
        let seen = self.heartbeat.seen().borrow().clone();
        let taken_over = match has_replicas(&self.shared.store) {
            true => self.take_over.round(&seen).await?,
            false => 0,
        };
        let worked = self.tasks.step().await?.is_none();
        let mut leases = Vec::new();
        while let Ok(lease) = self.fast.try_recv() {
            leases.push(lease);
        }
        self.look.round().await?;
        leases.extend(self.claimer.claim().await?.leases);
        leases.retain(|lease| self.shared.held.hold(lease));
        let sent = leases.len();
        let outcomes = join_all(leases.into_iter().map(|lease| self.shared.send(lease))).await;
        for batch in outcomes.chunks(settler::BATCH) {
            let mut left = batch.to_vec();
            while !left.is_empty() {
                left = recorder::settle(&self.shared, left).await;
            }
        }
        Ok(Step {
            taken_over,
            worked,
            sent,
        })
    }

    /// Runs one round of the janitor, which removes what is past its retention.
    pub async fn prune(&mut self) -> Result<()> {
        self.janitor.round().await.map(drop)
    }

    /// Writes the sums of attempts that were settled.
    pub async fn flush(&self) -> Result<()> {
        self.shared.rollup.flush().await
    }

    /// Runs until `stop`, then finishes what is in flight. Leases that are still being sent at `grace_over` are given
    /// back.
    pub async fn run(self, stop: CancellationToken, grace_over: CancellationToken, loops: Loops) {
        let Self {
            shared,
            fast,
            outcomes,
            claimer,
            look,
            mut heartbeat,
            take_over,
            janitor,
            tasks,
        } = self;
        let sends = TaskTracker::new();
        // Loops that take on new work end at `stop`; those that finish what is in flight go on until `ended`.
        let ended = shared.ended.clone();
        // The heartbeat has a group of its own, because it signs off after all other loops have ended.
        let (loops, beats) = (loops.group(), loops.group());
        let overdue = Arc::new(Overdue::default());
        let settler = settler::run(shared.clone(), outcomes, overdue.clone());
        loops.spawn("settler", &ended, settler);
        let settler = settler::run_overdue(shared.clone(), overdue);
        loops.spawn("settler of overdue outcomes", &ended, settler);
        loops.spawn("extension of leases", &ended, extension::run(shared.clone()));
        loops.spawn("rollup", &ended, rollup::run(shared.rollup.clone(), ended.clone()));
        loops.spawn("janitor", &ended, janitor.run(ended.clone()));
        let replicated = has_replicas(&shared.store);
        if replicated {
            let notify = crate::store::queue::notify::run(shared.store.clone(), ended.clone());
            loops.spawn("listener for announcements", &ended, notify);
            let statistics = planner_statistics::run(shared.store.for_background(), ended.clone());
            loops.spawn("refresh of planner statistics", &ended, statistics);
            let take_over = take_over.run(heartbeat.seen(), ended.clone());
            loops.spawn("take-over", &ended, take_over);
        }
        let until = ended.clone();
        let beats = beats.spawn("heartbeat", &ended, async move {
            if replicated {
                heartbeat.run(until).await;
            } else {
                until.cancelled().await;
            }
            heartbeat
        });
        let fast = forward(shared.clone(), fast, sends.clone(), stop.clone());
        let fast = loops.spawn("fast path", &stop, fast);
        loops.spawn("worker on background tasks", &stop, tasks.run(stop.clone()));
        loops.spawn("look for waiting deliveries", &stop, look.run(stop.clone()));
        let claims = claimer.run(shared.clone(), sends.clone(), stop.clone());
        let claims = loops.spawn("claimer", &stop, claims);
        stop.cancelled().await;
        shared.slots.stop();
        let finished = async {
            let _ = tokio::join!(fast, claims);
            sends.close();
            shared.idle(&sends).await;
        };
        tokio::select! {
            () = finished => {}
            () = grace_over.cancelled() => within(LAST_WRITES, shared.give_back()).await,
        }
        ended.cancel();
        let signed_off = async {
            loops.wait().await;
            let signs_off = async {
                if let Ok(Some(heartbeat)) = beats.await {
                    heartbeat.stop().await;
                }
            };
            // Only now: the settler has added all outcomes.
            let (flushed, ()) = tokio::join!(shared.rollup.flush(), signs_off);
            if let Err(err) = flushed {
                outage::note_failure(&err, "the last sums of attempts could not be written");
            }
        };
        within(LAST_WRITES, signed_off).await;
    }
}

/// Waits for `writes`, but no longer than `deadline`, because the database may be away.
async fn within(deadline: Duration, writes: impl Future<Output = ()>) {
    if tokio::time::timeout(deadline, writes).await.is_err() {
        tracing::warn!("the database did not answer in time; the remaining leases will end by themselves");
    }
}

/// Sends the leases of the fast path until `stop`. Gives back those that the intake has handed over and that were not
/// begun by then.
async fn forward(shared: Arc<Shared>, mut fast: mpsc::Receiver<Lease>, sends: TaskTracker, stop: CancellationToken) {
    loop {
        let lease = tokio::select! {
            lease = fast.recv() => lease,
            () = stop.cancelled() => None,
        };
        let Some(lease) = lease else { break };
        shared.spawn_send(lease, &sends);
    }
    fast.close();
    while let Some(lease) = fast.recv().await {
        shared.held.hold(&lease);
        let (sent, unsettled) = done::returned(lease);
        shared.held.set_unsettled(sent.delivery_id(), unsettled);
        shared.pass_on(sent);
    }
}
