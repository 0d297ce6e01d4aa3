//! Stores accepted messages, many in one transaction (group commit).
//!
//! A caller puts its message into a bounded queue and waits for the result. The workers, one on SQLite and by default
//! two on Postgres, take batches out of the queue. While another batch is in flight, a worker waits until as many
//! messages wait as that batch has, but no longer than 10 ms from that batch's start (waiting.rs). Without another
//! batch no timer runs, so a lone message is not delayed.
//!
//! A batch stores each message with its deliveries and the reply to its idempotency key. Deliveries for which this
//! process has a free slot are inserted leased to it, and go to the sender right after the commit (the fast path).
//!
//! If a commit is not answered, the messages may be stored or not. The batch is then tried again and finds out: ids are
//! made before the first try.
//!
//! Must not decide which endpoint wants a message: the domain does.

mod apps;
mod at_once;
mod batch;
mod columns;
mod insert;
mod keys;
mod known;
mod member;
mod place;
mod plan;
mod replies;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::Instant;

use self::at_once::WorkerConnection;
use self::batch::Batch;
use self::known::Known;
use self::member::Member;
pub use self::member::{Accepted, Limits, NewMessage};
use self::waiting::{UnderWay, Waiting};
use super::Store;
use super::database::{outage, request};
use crate::error::{Error, Kind, Result};
use crate::loops::Loops;
use crate::slots::{Caps, Slots};
use crate::store::queue::Lease;

/// Messages that may wait for a batch. Further ones are refused with 503.
const WAITING_CAP: usize = 4_096;
/// How long a caller waits for the commit. After that it gets a 503, as the contract with the SDKs says.
const COMMIT_DEADLINE: Duration = Duration::from_secs(5);
/// The pauses between tries of a batch that the database did not take, in milliseconds. The last one is repeated.
const RETRY_PAUSES_MS: [u64; 5] = [10, 50, 100, 250, 500];

/// Accepts messages. Cheap to clone; the workers end when every clone is dropped and the queue is empty.
#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Member>,
    store: Store,
}

/// Makes the channel of the fast path, on which leases go from the intake to the sender without a claim. It holds as
/// many leases as the process has slots, so it is never full.
pub fn fast_path(caps: &Caps) -> (mpsc::Sender<Lease>, mpsc::Receiver<Lease>) {
    mpsc::channel(caps.process)
}

impl Intake {
    /// Starts the workers among `loops`: by default two on Postgres, so that one batch fills while another commits; one
    /// on SQLite, which has one writer.
    pub fn start(
        store: &Store,
        slots: &Arc<Slots>,
        leases: &mpsc::Sender<Lease>,
        limits: Limits,
        loops: &Loops,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_CAP);
        let waiting = Arc::new(Mutex::new(Waiting::new(waiting)));
        let under_way = watch::Sender::new(vec![None; store.intake_workers()]);
        let known = Arc::new(Known::default());
        for number in 0..store.intake_workers() {
            let worker = Worker {
                number,
                store: store.clone(),
                slots: slots.clone(),
                leases: leases.clone(),
                limits,
                waiting: waiting.clone(),
                under_way: under_way.clone(),
                known: known.clone(),
                connection: WorkerConnection::new(store),
            };
            loops.spawn_to_its_end("intake", worker.run());
        }
        Self {
            queue,
            store: store.clone(),
        }
    }

    /// Stores a message durably, with its deliveries and the reply to its idempotency key.
    ///
    /// # Errors
    /// `NotFound` if there is no such application; `Conflict` if the event id is taken, or if the idempotency key came
    /// with another message before; `Unavailable` if too many messages wait, or if the database did not commit within
    /// five seconds. In the last case the message may have been stored all the same; a repetition with the same
    /// idempotency key finds out.
    pub async fn accept(&self, message: impl Into<Box<NewMessage>>) -> Result<Accepted> {
        let began = Instant::now();
        let message = message.into();
        let bytes = request::take_along(message.body.len()).await?;
        let overload = || Error::unavailable("too many messages are waiting to be stored; try again");
        let created_at = self.store.clock().now();
        let id = self.store.clock().new_typed_id_at(created_at);
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

/// A task that stores one batch after the other.
struct Worker {
    /// The index of this worker's entry in `under_way`.
    number: usize,
    store: Store,
    slots: Arc<Slots>,
    leases: mpsc::Sender<Lease>,
    limits: Limits,
    /// Held by one worker at a time, while it waits for its next batch; the others wait for the lock.
    waiting: Arc<Mutex<Waiting>>,
    /// The batch of each worker, by the worker's number; `None` means that it has none. Each worker writes its own
    /// entry: the start of a batch while it holds the lock of `waiting`, the end without it. The holder of that lock
    /// reads all.
    under_way: watch::Sender<Vec<Option<UnderWay>>>,
    known: Arc<Known>,
    /// `None` on SQLite.
    connection: Option<WorkerConnection>,
}

impl Worker {
    /// Stores batches until the intake ends.
    async fn run(mut self) {
        loop {
            let mut waiting = self.waiting.lock().await;
            let taken = waiting.take(&self.limits, self.under_way.subscribe()).await;
            let Some(mut members) = taken else { return };
            let batch = UnderWay {
                members: members.len(),
                began: Instant::now(),
            };
            self.under_way.send_modify(|batches| batches[self.number] = Some(batch));
            drop(waiting);
            while !members.is_empty() {
                let batch = self.new_batch();
                members = self.store_some(members, batch).await;
            }
            self.under_way.send_modify(|batches| batches[self.number] = None);
        }
    }

    fn new_batch(&self) -> Batch {
        Batch::new(
            self.store.clone(),
            self.slots.clone(),
            self.leases.clone(),
            self.limits.lease,
        )
    }

    /// Stores as many of `members` as fit in one transaction and sends each its result. Returns the rest. Tries again
    /// as long as the database cannot be reached; if it refuses the batch, stores the members one by one.
    async fn store_some(&mut self, mut members: Vec<Member>, mut batch: Batch) -> Vec<Member> {
        let mut pauses = RETRY_PAUSES_MS.into_iter();
        loop {
            // Drop members whose caller hung up: nothing was promised. Not after an unanswered commit: they may be
            // stored already, and then must be sent.
            if !batch.is_uncertain() {
                members.retain(|member| !member.reply.is_closed());
            }
            if members.is_empty() {
                return members;
            }
            let began = Instant::now();
            match batch.store(&members, &self.known, self.connection.as_mut()).await {
                Ok(answers) => {
                    self.count(&answers, began.elapsed());
                    let rest = members.split_off(answers.len());
                    for (member, answer) in members.into_iter().zip(answers) {
                        let _ = member.reply.send(answer);
                    }
                    return rest;
                }
                Err(err) if err.kind == Kind::Database || err.kind == Kind::Unavailable => {
                    let count = members.len();
                    let what = "messages was not stored; trying again";
                    outage::note_failure(&err, format_args!("a batch of {count} {what}"));
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

    /// Counts a stored batch in the metrics.
    fn count(&self, answers: &[Result<Accepted>], took: Duration) {
        let metrics = self.store.metrics();
        let accepted = answers.iter().flatten().filter(|answer| !answer.replayed);
        metrics.accepted.add(accepted.count() as u64);
        metrics.batch.observe(answers.len() as f64);
        metrics.commit.observe_time(took);
    }

    /// Stores members one by one, so that one that the database refuses cannot fail the others.
    async fn store_singly(&mut self, members: Vec<Member>, batch: Batch) -> Vec<Member> {
        for member in members {
            Box::pin(self.store_some(vec![member], batch.clone())).await;
        }
        Vec::new()
    }
}
