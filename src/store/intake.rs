//! Group commit: many accepted messages, one transaction. What waits while a commit runs is the next batch; there is
//! no timer. Each caller waits for its own answer. Must not decide which endpoint wants a message (domain does).
//! Called by service/message; hands freshly leased rows to the dispatcher through handoff.rs.

mod at_once;
mod batch;
mod insert;
mod keys;
mod known;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use self::at_once::Line;
use self::batch::Batch;
use self::known::Known;
use super::Store;
use super::handoff::Handoff;
use super::idempotency::Key;
use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};

/// Messages that may wait for a batch; more is overload.
const WAITING_CAP: usize = 4_096;
/// Bytes of payload that may wait; more is overload.
const WAITING_BYTES_CAP: usize = 64 << 20;
/// Bytes of payload in one batch.
const BATCH_BYTES: usize = 4 << 20;
/// A crowd is divided among workers into batches of no fewer: the least for which another statement's cost is worth its time.
const LEAST_SHARE: usize = 8;
/// How long a sender is kept waiting for a commit (wire contract: 503).
const COMMIT_DEADLINE: Duration = Duration::from_secs(5);
/// Pauses between tries of a batch that the database did not take.
const RETRY_PAUSES_MS: [u64; 5] = [10, 50, 100, 250, 500];

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages in one batch.
    pub members: usize,
    /// How long a delivery row handed to the own sender is leased.
    pub lease: Duration,
}

/// A message as the service checked it.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub org_id: String,
    /// The application's id or uid.
    pub app: String,
    pub event_type: String,
    pub event_id: Option<String>,
    pub channels: Vec<String>,
    /// The payload, byte for byte.
    pub body: String,
    /// None: `application/json`.
    pub content_type: Option<String>,
    /// Goes to this endpoint alone, by its id, whatever that one filters.
    pub only_to: Option<String>,
    /// How long the payload is kept.
    pub retention: Duration,
    pub key: Option<Key>,
}

/// A message that is stored, with one delivery for each endpoint that wants it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accepted {
    pub app_id: String,
    pub message_id: String,
    pub created_at: Timestamp,
    /// An earlier request with the same idempotency key had stored it.
    pub replayed: bool,
}

/// The way in. Cheap to clone; the intake ends when every clone is gone.
#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Member>,
    waiting_bytes: Arc<AtomicUsize>,
    store: Store,
}

/// One message on its way through a batch. Its ids are made once, so that a batch can be tried again.
pub(super) struct Member {
    pub message: NewMessage,
    pub id: String,
    pub created_at: Timestamp,
    reply: oneshot::Sender<Result<Accepted>>,
    _bytes: WaitingBytes,
}

impl Member {
    /// The application as the sender named it, in its organization.
    fn app_name(&self) -> (&str, &str) {
        (&self.message.org_id, &self.message.app)
    }
}

/// Counts a waiting payload as long as it waits.
struct WaitingBytes(Arc<AtomicUsize>, usize);

impl Drop for WaitingBytes {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Intake {
    /// Starts the intake's tasks on `tasks`: four on Postgres, where one batch is read and filled while others commit; one
    /// on SQLite, which has one writer.
    pub fn start(store: &Store, handoff: &Arc<Handoff>, limits: Limits, tasks: &TaskTracker) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_CAP);
        let waiting = Arc::new(Mutex::new(Waiting {
            queue: waiting,
            next: None,
        }));
        let free = Arc::new(AtomicUsize::new(store.intake_workers()));
        let known = Arc::new(Known::default());
        for _ in 0..store.intake_workers() {
            let worker = Worker {
                store: store.clone(),
                handoff: handoff.clone(),
                limits,
                waiting: waiting.clone(),
                free: free.clone(),
                known: known.clone(),
                line: Line::new(store),
            };
            tasks.spawn(worker.run());
        }
        Self {
            queue,
            waiting_bytes: Arc::default(),
            store: store.clone(),
        }
    }

    /// Stores a message durably, with its deliveries and the reply to its idempotency key.
    ///
    /// # Errors
    /// `NotFound`: no such application. `Conflict`: the event id is taken. `Unavailable`: too much is waiting, or the
    /// database did not commit in 5 s; the message may have been stored all the same, a repeat with the same
    /// idempotency key tells.
    pub async fn accept(&self, message: NewMessage) -> Result<Accepted> {
        let began = Instant::now();
        let size = message.body.len();
        let waiting = self.waiting_bytes.fetch_add(size, Ordering::Relaxed);
        let bytes = WaitingBytes(self.waiting_bytes.clone(), size);
        let overload = || Error::unavailable("too many messages are waiting to be stored; try again");
        if waiting > WAITING_BYTES_CAP {
            return Err(overload());
        }
        let created_at = self.store.clock().now();
        let id = self.store.clock().new_id_at(Prefix::Message, created_at);
        let (reply, answer) = oneshot::channel();
        let member = Member {
            message,
            id,
            created_at,
            reply,
            _bytes: bytes,
        };
        self.queue.try_send(member).map_err(|_| overload())?;
        let late = || Error::unavailable("the database did not store the message in 5 s; try again");
        match tokio::time::timeout(COMMIT_DEADLINE, answer).await {
            Ok(Ok(answer)) => {
                if answer.is_ok() {
                    self.store.metrics().acceptance.observe_time(began.elapsed());
                }
                answer
            }
            Ok(Err(_)) | Err(_) => Err(late()),
        }
    }
}

struct Waiting {
    queue: mpsc::Receiver<Member>,
    /// Taken from the queue, but too much for the batch before.
    next: Option<Member>,
}

impl Waiting {
    /// The next batch: of what waits an equal share for each of the `free` workers, up to the limits. `None` when every
    /// `Intake` is gone and the queue is empty.
    async fn take(&mut self, limits: &Limits, free: &AtomicUsize) -> Option<Vec<Member>> {
        let first = match self.next.take() {
            Some(member) => member,
            None => self.queue.recv().await?,
        };
        self.gather(limits.members).await;
        let share = (1 + self.queue.len()).div_ceil(free.load(Ordering::Relaxed).max(1));
        let most = share.max(LEAST_SHARE).min(limits.members);
        let mut bytes = first.message.body.len();
        let mut members = Vec::with_capacity(most);
        members.push(first);
        while members.len() < most {
            let Ok(member) = self.queue.try_recv() else { break };
            bytes += member.message.body.len();
            if bytes > BATCH_BYTES {
                self.next = Some(member);
                break;
            }
            members.push(member);
        }
        Some(members)
    }

    /// Gives way as long as others use that to get in line: those who were just answered come back one by one, and a
    /// batch of the first of them would make all the rest wait for its round trips. Where nobody comes it costs nothing.
    async fn gather(&self, most: usize) {
        let mut waiting = self.queue.len();
        loop {
            tokio::task::yield_now().await;
            let before = std::mem::replace(&mut waiting, self.queue.len());
            if waiting <= before || waiting >= most {
                return;
            }
        }
    }
}

struct Worker {
    store: Store,
    handoff: Arc<Handoff>,
    limits: Limits,
    waiting: Arc<Mutex<Waiting>>,
    /// How many workers have no batch.
    free: Arc<AtomicUsize>,
    known: Arc<Known>,
    line: Option<Line>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let mut waiting = self.waiting.lock().await;
            let taken = waiting.take(&self.limits, &self.free).await;
            let Some(mut members) = taken else { return };
            self.free.fetch_sub(1, Ordering::Relaxed);
            drop(waiting);
            while !members.is_empty() {
                let batch = self.new_batch();
                members = self.store_some(members, batch).await;
            }
            self.free.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn new_batch(&self) -> Batch {
        Batch::new(self.store.clone(), self.handoff.clone(), self.limits.lease)
    }

    /// Stores as many of `members` as fit in one transaction and answers them; returns the rest.
    async fn store_some(&mut self, mut members: Vec<Member>, mut batch: Batch) -> Vec<Member> {
        let mut pauses = RETRY_PAUSES_MS.into_iter();
        loop {
            // Those whose caller has left: nobody was promised anything. But what may be stored must also be sent.
            if !batch.is_uncertain() {
                members.retain(|member| !member.reply.is_closed());
            }
            if members.is_empty() {
                return members;
            }
            let began = Instant::now();
            match batch.store(&members, &self.known, self.line.as_mut()).await {
                Ok(answers) => {
                    self.count(&answers, began.elapsed());
                    let rest = members.split_off(answers.len());
                    for (member, answer) in members.into_iter().zip(answers) {
                        let _ = member.reply.send(answer);
                    }
                    return rest;
                }
                Err(err) if err.kind == Kind::Database || err.kind == Kind::Unavailable => {
                    tracing::warn!(%err, members = members.len(), "a batch of messages was not stored; trying again");
                    let pause = pauses.next().unwrap_or(500);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                Err(err) if members.len() == 1 => {
                    for member in members.drain(..) {
                        let _ = member.reply.send(Err(
                            Error::internal("the message could not be stored").because(err.to_string())
                        ));
                    }
                    return members;
                }
                Err(err) => {
                    tracing::error!(%err, members = members.len(), "a batch of messages failed; storing them one by one");
                    return self.store_singly(members, batch).await;
                }
            }
        }
    }

    fn count(&self, answers: &[Result<Accepted>], took: Duration) {
        let metrics = self.store.metrics();
        let accepted = answers.iter().flatten().filter(|answer| !answer.replayed);
        metrics.accepted.add(accepted.count() as u64);
        metrics.batch.observe(answers.len() as f64);
        metrics.commit.observe_time(took);
    }

    async fn store_singly(&mut self, members: Vec<Member>, batch: Batch) -> Vec<Member> {
        for member in members {
            Box::pin(self.store_some(vec![member], batch.clone())).await;
        }
        Vec::new()
    }
}
