//! HTTP out: claim -> send -> settle, what keeps the queue alive (heartbeat, janitor), and background tasks. Writes only
//! through the store's queue functions; knows nothing of the API. Built and run by app; tests drive it with
//! [`Dispatcher::step`].

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

/// A lease outlasts the attempt's deadline by what may pass before the attempt begins, and by the margin that must be
/// left when it does.
pub const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// How long a stop waits for the database when the grace period is over.
const LAST_WRITES: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct Settings {
    /// From the first connect to the last byte read.
    pub attempt_timeout: Duration,
    pub schedule: RetrySchedule,
    pub targets: TargetPolicy,
    /// How long messages, their attempts and results are kept.
    pub history: Duration,
    /// Signs under the names `svix-id`, `svix-timestamp` and `svix-signature` too.
    pub svix_headers: bool,
    /// How long an endpoint may fail before it is disabled; `None` means that it never is.
    pub disable_after: Option<Duration>,
    /// The name server that resolves the names of receivers; `None` means those of the system's configuration.
    pub name_server: Option<SocketAddr>,
}

pub struct Dispatcher {
    shared: Arc<Shared>,
    fast: mpsc::Receiver<Lease>,
    outcomes: mpsc::UnboundedReceiver<Done>,
    claimer: Claimer,
    look: Look,
    heartbeat: Heartbeat,
    take_over: TakeOver,
    janitor: Janitor,
    tasks: Tasks,
}

struct Shared {
    store: Store,
    slots: Arc<Slots>,
    sender: Sender,
    /// The slots bounds what is in it.
    unsettled: mpsc::UnboundedSender<Done>,
    held: Held,
    /// How long a lease lasts.
    lease: Duration,
    /// Writes of outcomes that the database does not take: nothing is claimed until it does.
    stuck: AtomicUsize,
    /// The end of everything: what the database does not take now is left to the end of its lease.
    ended: CancellationToken,
}

/// What one [`Dispatcher::step`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Step {
    pub taken_over: u64,
    /// A background task was worked on.
    pub worked: bool,
    pub sent: usize,
}

impl Dispatcher {
    /// `fast` is the receiving end of the slots.
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

    /// Takes an owner id, without which nothing is leased; on SQLite frees what a dead predecessor held.
    pub async fn start(&mut self) -> Result<()> {
        self.heartbeat.start().await
    }

    /// One turn of everything, in order: heartbeat and take-over, a background task's step, fast path and claim, send,
    /// settle.
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

    /// One turn of the janitor: removes what is kept no longer.
    pub async fn prune(&mut self) -> Result<()> {
        self.janitor.turn().await.map(drop)
    }

    /// Runs until `stop`, then finishes what is in flight; what is left at `grace_over` it gives back.
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
        let ended = shared.ended.clone();
        let (loops, beats) = (loops.group(), loops.group());
        let overdue = Arc::new(Overdue::default());
        let settler = settler::run(shared.clone(), outcomes, overdue.clone());
        loops.spawn("settler", &ended, settler);
        let settler = settler::run_overdue(shared.clone(), overdue);
        loops.spawn("settler of what is overdue", &ended, settler);
        loops.spawn("extension of leases", &ended, extension::run(shared.clone()));
        loops.spawn("janitor", &ended, janitor.run(ended.clone()));
        let replicated = has_replicas(&shared.store);
        if replicated {
            let notify = crate::store::queue::notify::run(shared.store.clone(), ended.clone());
            loops.spawn("listener for announcements", &ended, notify);
            let statistics = planner_statistics::run(shared.store.for_background(), ended.clone());
            loops.spawn("renewal of statistics", &ended, statistics);
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
        loops.spawn("look", &stop, look.run(stop.clone()));
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

/// Waits for what the database may be too far away to let happen.
async fn within(deadline: Duration, writes: impl Future<Output = ()>) {
    if tokio::time::timeout(deadline, writes).await.is_err() {
        tracing::warn!("the database did not answer in time; leases that are left end by themselves");
    }
}

/// The fast path's loop: leases from the intake go straight to a send.
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
    fn spawn_send(self: &Arc<Self>, lease: Lease, sends: &TaskTracker) {
        if !self.held.hold(&lease) {
            return;
        }
        let shared = self.clone();
        sends.spawn(async move {
            let delivery_id = lease.delivery_id.clone();
            match AssertUnwindSafe(shared.send(lease)).catch_unwind().await {
                Ok(sent) => shared.done(sent),
                // Giving it back at once would try it, and perhaps panic, again and again without a pause.
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

    /// Sends a lease that is held. Its outcome counts as unsettled until it is let go.
    async fn send(&self, lease: Lease) -> Done {
        let (sent, unsettled) = self.sender.send(lease).await;
        self.held.set_unsettled(sent.delivery_id(), unsettled);
        sent
    }

    fn done(&self, sent: Done) {
        if self.unsettled.send(sent).is_err() {
            tracing::error!("an outcome came after the settler had ended; its lease will end by itself");
        }
    }

    fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed) > 0
    }

    /// Waits until every send has ended, every outcome is settled, and no batch is being stored with leases in it.
    async fn idle(&self, sends: &TaskTracker) {
        sends.wait().await;
        while !self.held.is_empty() || !self.slots.is_idle() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What could not be finished in time is due again, for others or for the next start. What is sent and not settled yet
    /// was delivered, or counts as an attempt: the settler goes on with that as long as the stop waits for the database.
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

/// Heartbeats and NOTIFY are for replicas, which only Postgres has.
fn has_replicas(store: &Store) -> bool {
    store.backend() == Backend::Postgres
}
