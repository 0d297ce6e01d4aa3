//! Delivers messages: leases deliveries, sends them over HTTP, and records how each attempt ended.
//!
//! Leases come from the claimer, and from the intake over the fast path. The sender makes the attempts, the settler
//! records them. Other loops keep the queue alive: the heartbeat, the take-over of dead processes' leases, the
//! extension of leases whose outcomes wait, the look for rows that no claim finds, the janitor, and the worker on
//! background tasks. [`Dispatcher::run`] runs all of them; [`Dispatcher::step`] runs one turn of each in order, for
//! tests.
//!
//! Must not contain SQL: the store does. Must not know the API.

mod claimer;
mod client;
mod connection;
mod exchange;
mod extension;
mod heartbeat;
mod held;
mod janitor;
mod look;
mod name_servers;
mod names;
mod planner_statistics;
mod sender;
mod settler;
mod shares;
mod take_over;
mod tasks;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::claimer::Claimer;
use self::heartbeat::Heartbeat;
use self::held::Held;
use self::janitor::Janitor;
use self::look::Look;
use self::sender::{Done, Sender};
use self::settler::Overdue;
use self::take_over::TakeOver;
use self::tasks::Tasks;
use crate::domain::retry::RetrySchedule;
use crate::domain::target::TargetPolicy;
use crate::error::Result;
use crate::loops::Loops;
use crate::slots::Slots;
use crate::store::database::outage;
use crate::store::queue::{self, Lease};
use crate::store::{Backend, Store};

/// How much longer than an attempt a lease lasts: for the wait before the attempt begins, and for the time to settle
/// that must be left when it does.
pub const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// How long a stop waits for the database: once to give leases back after the grace period, and once to sign off.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// The part of the configuration that concerns deliveries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an attempt may take, from the start of its connect to the last byte of the answer.
    pub attempt_timeout: Duration,
    /// The delays between the attempts of a delivery.
    pub schedule: RetrySchedule,
    /// The addresses that may be called.
    pub targets: TargetPolicy,
    /// How long messages, their attempts and results are kept.
    pub history: Duration,
    /// Whether `svix-id`, `svix-timestamp` and `svix-signature` are sent beside the names of Standard Webhooks.
    pub svix_headers: bool,
    /// How long an endpoint may fail before it is disabled; `None` means that it never is.
    pub disable_after: Option<Duration>,
    /// The name server that resolves the names of receivers; `None` means those of the system's configuration.
    pub name_server: Option<SocketAddr>,
}

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

/// What the loops of a dispatcher share.
struct Shared {
    store: Store,
    slots: Arc<Slots>,
    sender: Sender,
    /// Hands leases that have been dealt with to the settler. Without a limit of its own: the slots count unsettled
    /// outcomes, and nothing more is sent when there are too many.
    unsettled: mpsc::UnboundedSender<Done>,
    held: Held,
    /// How long a lease lasts.
    lease: Duration,
    /// The number of batches of outcomes that an outage keeps from being stored; above 0 nothing is claimed. The two
    /// loops of the settler write it and the claimer reads it. `Relaxed`: no other memory depends on its value.
    stuck: AtomicUsize,
    /// Cancelled when the dispatcher ends: rows of outcomes that are not stored by then are due when their leases end.
    ended: CancellationToken,
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
        let janitor = Janitor::new(store.for_background(), settings.history);
        let shared = Arc::new(Shared {
            store: store.clone(),
            slots: slots.clone(),
            sender: Sender::new(store.clone(), settings)?,
            unsettled,
            held: Held::default(),
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

    /// Runs one turn of everything, in order: heartbeat, take-over, a background task's step, fast path, look, claim,
    /// send, settle.
    pub async fn step(&mut self) -> Result<Step> {
        self.heartbeat.tick().await?;
        let seen = self.heartbeat.seen().borrow().clone();
        let taken_over = match has_replicas(&self.shared.store) {
            true => self.take_over.turn(&seen).await?,
            false => 0,
        };
        let worked = self.tasks.step().await?.is_none();
        let mut leases = Vec::new();
        while let Ok(lease) = self.fast.try_recv() {
            leases.push(lease);
        }
        self.look.turn().await?;
        leases.extend(self.claimer.claim().await?.leases);
        leases.retain(|lease| self.shared.held.hold(lease));
        let sent = leases.len();
        let outcomes = join_all(leases.into_iter().map(|lease| self.shared.send(lease))).await;
        for batch in outcomes.chunks(settler::BATCH) {
            let mut left = batch.to_vec();
            while !left.is_empty() {
                left = settler::settle(&self.shared, left).await;
            }
        }
        Ok(Step {
            taken_over,
            worked,
            sent,
        })
    }

    /// Runs one turn of the janitor, which removes what is past its retention.
    pub async fn prune(&mut self) -> Result<()> {
        self.janitor.turn().await.map(drop)
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
            if let Ok(Some(heartbeat)) = beats.await {
                heartbeat.stop().await;
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
        let (sent, unsettled) = sender::returned(lease);
        shared.held.set_unsettled(sent.delivery_id(), unsettled);
        shared.done(sent);
    }
}

impl Shared {
    /// Starts a task that sends `lease`, unless this process holds an older lease of the same delivery.
    fn spawn_send(self: &Arc<Self>, lease: Lease, sends: &TaskTracker) {
        if !self.held.hold(&lease) {
            return;
        }
        let shared = self.clone();
        sends.spawn(async move {
            let delivery_id = lease.delivery_id.clone();
            match AssertUnwindSafe(shared.send(lease)).catch_unwind().await {
                Ok(sent) => shared.done(sent),
                // Not given back: it would be due at once, and might panic again and again without a pause.
                Err(_) => {
                    tracing::error!(
                        delivery = delivery_id,
                        "a send panicked; the delivery is sent again when its lease ends"
                    );
                    shared.held.forget(&delivery_id);
                }
            }
        });
    }

    /// Sends a held lease. Its outcome counts as unsettled as long as the delivery is held.
    async fn send(&self, lease: Lease) -> Done {
        let (sent, unsettled) = self.sender.send(lease).await;
        self.held.set_unsettled(sent.delivery_id(), unsettled);
        sent
    }

    /// Hands a lease that has been dealt with to the settler.
    fn done(&self, sent: Done) {
        if self.unsettled.send(sent).is_err() {
            tracing::error!("an outcome came after the settler had ended; its lease will end by itself");
        }
    }

    /// Returns whether an outage keeps outcomes from being stored.
    fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed) > 0
    }

    /// Waits until every send has ended, every outcome is settled, and no slot is taken: the intake takes slots for the
    /// messages that it is about to store.
    async fn idle(&self, sends: &TaskTracker) {
        sends.wait().await;
        while !self.held.is_empty() || !self.slots.is_idle() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Gives back the leases that are still being sent: they are due again, for another process or for the next start.
    /// Then waits until all outcomes are settled: those deliveries were made, or count as attempts, so the settler goes
    /// on with them as long as the stop waits for the database.
    async fn give_back(&self) {
        let unanswered = self.held.take_unanswered();
        tracing::info!(
            leases = unanswered.len(),
            "giving back what could not be finished in the grace period"
        );
        let given = async {
            let tx = self.store.begin().await?;
            queue::release(&tx, unanswered.iter().map(|(id, lease)| (id.as_str(), *lease))).await?;
            tx.commit().await
        };
        if let Err(err) = given.await {
            let what = "leases could not be given back; they will end by themselves";
            outage::note_failure(&err, what);
        }
        self.settled().await;
    }

    /// Waits until every outcome is settled.
    async fn settled(&self) {
        while !self.held.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Returns whether other processes may serve the same database, which only Postgres allows. Without them there are
/// neither heartbeats nor NOTIFY.
fn has_replicas(store: &Store) -> bool {
    store.backend() == Backend::Postgres
}
