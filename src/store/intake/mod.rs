//! Group commit: many accepted messages, one transaction. What waits while a commit runs is the next batch; there is
//! no timer. Each caller waits for its own answer. Must not decide which endpoint wants a message (domain does).
//! Called by service/message; hands freshly leased rows to the dispatcher through slots.rs.

mod at_once;
mod batch;
mod insert;
mod keys;
mod known;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep};

use self::at_once::WorkerConnection;
use self::batch::Batch;
use self::known::Known;
use super::Store;
use super::database::budget::Reserved;
use super::database::{outage, request};
use super::idempotency::Key;
use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::loops::Loops;
use crate::slots::{Caps, Slots};
use crate::store::queue::Lease;

/// Messages that may wait for a batch; more is overload.
const WAITING_CAP: usize = 4_096;
/// Bytes of payload in one batch.
const BATCH_BYTES: usize = 4 << 20;
/// A crowd is divided among workers into batches of no fewer: the least for which another statement's cost is worth its time.
const LEAST_SHARE: usize = 8;
/// How long a batch is waited for; one that takes longer holds nobody up. Usual ones take a few milliseconds.
const USUAL_TIME: Duration = Duration::from_millis(10);
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
    store: Store,
}

/// One message on its way through a batch. Its ids are made once, so that a batch can be tried again.
pub(crate) struct Member {
    pub message: Box<NewMessage>,
    pub id: String,
    pub created_at: Timestamp,
    reply: oneshot::Sender<Result<Accepted>>,
    /// The payload's bytes, which it takes along from its request.
    _bytes: Option<Reserved>,
}

impl Member {
    /// The application as the sender named it, in its organization.
    fn app_name(&self) -> (&str, &str) {
        (&self.message.org_id, &self.message.app)
    }
}

/// Makes the way from the intake to the sender that passes through no claim. It holds as many leases as there are slots, so
/// it is never full.
pub fn fast_path(caps: &Caps) -> (mpsc::Sender<Lease>, mpsc::Receiver<Lease>) {
    mpsc::channel(caps.process)
}

impl Intake {
    /// Starts the intake's workers as `loops`: two on Postgres, where one batch is filled while the other commits; one on
    /// SQLite, which has one writer.
    pub fn start(
        store: &Store,
        slots: &Arc<Slots>,
        leases: &mpsc::Sender<Lease>,
        limits: Limits,
        loops: &Loops,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_CAP);
        let waiting = Arc::new(Mutex::new(Waiting {
            queue: waiting,
            taken: VecDeque::new(),
            patience: Box::pin(tokio::time::sleep(USUAL_TIME)),
        }));
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
                line: WorkerConnection::new(store),
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
    /// `NotFound`: no such application. `Conflict`: the event id is taken. `Unavailable`: too much is waiting, or the
    /// database did not commit in 5 s; the message may have been stored all the same, a repeat with the same
    /// idempotency key tells.
    pub async fn accept(&self, message: impl Into<Box<NewMessage>>) -> Result<Accepted> {
        let began = Instant::now();
        let message = message.into();
        let bytes = request::take_along(message.body.len()).await?;
        let overload = || Error::unavailable("too many messages are waiting to be stored; try again");
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

/// A batch under way.
#[derive(Clone, Copy)]
struct UnderWay {
    members: usize,
    began: Instant,
}

struct Waiting {
    queue: mpsc::Receiver<Member>,
    /// From the queue, and not yet in a batch.
    taken: VecDeque<Member>,
    /// The end of patience with the batch under way. One for all: it is put off for next to nothing, while a new one would
    /// wake a thread to look at the clock.
    patience: Pin<Box<Sleep>>,
}

impl Waiting {
    fn len(&self) -> usize {
        self.taken.len() + self.queue.len()
    }

    /// The next batch: of what waits an equal share for each worker that has none, up to the limits. `None` when every
    /// `Intake` is gone and the queue is empty.
    async fn take(
        &mut self,
        limits: &Limits,
        mut under_way: watch::Receiver<Vec<Option<UnderWay>>>,
    ) -> Option<Vec<Member>> {
        if self.taken.is_empty() {
            self.taken.push_back(self.queue.recv().await?);
        }
        self.gather(limits.members, &mut under_way).await;
        let free = under_way.borrow().iter().filter(|batch| batch.is_none()).count();
        let most = (self.len() / free.max(1)).max(LEAST_SHARE).min(limits.members);
        let mut bytes = 0;
        let mut members = Vec::with_capacity(most.min(self.len()));
        while members.len() < most {
            let Some(member) = self.taken.pop_front().or_else(|| self.queue.try_recv().ok()) else {
                break;
            };
            bytes += member.message.body.len();
            if bytes > BATCH_BYTES && !members.is_empty() {
                self.taken.push_front(member);
                break;
            }
            members.push(member);
        }
        Some(members)
    }

    /// Those who were just answered come back one by one, and a batch of the first of them would make all the rest wait
    /// for its round trip. So a batch is taken when it is no smaller than the other one under way, or that has ended.
    /// Where none is under way it gives way as long as others use that to get in line, which costs
    /// nothing where nobody comes.
    async fn gather(&mut self, most: usize, under_way: &mut watch::Receiver<Vec<Option<UnderWay>>>) {
        let other = |batches: &mut watch::Receiver<Vec<Option<UnderWay>>>| {
            let batches = batches.borrow_and_update();
            batches.iter().flatten().next().copied()
        };
        if other(under_way).is_none() {
            return self.give_way(most).await;
        }
        while let Some(other) = other(under_way)
            && self.len() < other.members.min(most)
        {
            self.patience.as_mut().reset(other.began + USUAL_TIME);
            tokio::select! {
                member = self.queue.recv() => match member {
                    Some(member) => self.taken.push_back(member),
                    None => return,
                },
                _ = under_way.changed() => {}
                () = &mut self.patience => return,
            }
        }
    }

    async fn give_way(&self, most: usize) {
        let mut waiting = self.len();
        loop {
            tokio::task::yield_now().await;
            let before = std::mem::replace(&mut waiting, self.len());
            if waiting <= before || waiting >= most {
                return;
            }
        }
    }
}

struct Worker {
    number: usize,
    store: Store,
    slots: Arc<Slots>,
    leases: mpsc::Sender<Lease>,
    limits: Limits,
    waiting: Arc<Mutex<Waiting>>,
    /// By the workers' numbers.
    under_way: watch::Sender<Vec<Option<UnderWay>>>,
    known: Arc<Known>,
    line: Option<WorkerConnection>,
}

impl Worker {
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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::Poll;

    use futures_util::poll;

    use super::*;

    const LIMITS: Limits = Limits {
        members: 200,
        lease: Duration::from_secs(60),
    };

    struct Line {
        sender: mpsc::Sender<Member>,
        waiting: Waiting,
        under_way: watch::Sender<Vec<Option<UnderWay>>>,
    }

    /// Two workers, of which these have a batch.
    fn line(under_way: [Option<UnderWay>; 2]) -> Line {
        let (sender, queue) = mpsc::channel(1_000);
        Line {
            sender,
            waiting: Waiting {
                queue,
                taken: VecDeque::new(),
                patience: Box::pin(tokio::time::sleep(USUAL_TIME)),
            },
            under_way: watch::Sender::new(under_way.to_vec()),
        }
    }

    impl Line {
        fn take(&mut self) -> Pin<Box<dyn Future<Output = Option<Vec<Member>>> + '_>> {
            Box::pin(self.waiting.take(&LIMITS, self.under_way.subscribe()))
        }
    }

    fn batch(members: usize, began: Instant) -> Option<UnderWay> {
        Some(UnderWay { members, began })
    }

    /// So late that nothing in a test takes unusually long beside it.
    fn fresh() -> Instant {
        Instant::now() + Duration::from_secs(3_600)
    }

    fn come(sender: &mpsc::Sender<Member>, messages: usize) {
        for _ in 0..messages {
            let message = Box::new(NewMessage {
                org_id: "org_1".to_owned(),
                app: "app_1".to_owned(),
                event_type: "a".to_owned(),
                event_id: None,
                channels: Vec::new(),
                body: "{}".to_owned(),
                content_type: None,
                only_to: None,
                retention: Duration::ZERO,
                key: None,
            });
            let member = Member {
                message,
                id: "msg_1".to_owned(),
                created_at: Timestamp(0),
                reply: oneshot::channel().0,
                _bytes: None,
            };
            assert!(sender.try_send(member).is_ok(), "the queue is full");
        }
    }

    fn size(taken: Poll<Option<Vec<Member>>>) -> Poll<Option<usize>> {
        taken.map(|taken| taken.map(|members| members.len()))
    }

    #[tokio::test]
    async fn a_batch_is_taken_when_it_is_no_smaller_than_the_one_under_way() {
        let mut line = line([batch(3, fresh()), None]);
        let sender = line.sender.clone();
        come(&sender, 2);
        let mut take = line.take();
        assert_eq!(size(poll!(&mut take)), Poll::Pending);
        come(&sender, 1);
        assert_eq!(size(poll!(&mut take)), Poll::Ready(Some(3)));
    }

    #[tokio::test]
    async fn a_smaller_batch_is_taken_when_the_one_under_way_has_ended() {
        let mut line = line([None, batch(200, fresh())]);
        let ends = line.under_way.clone();
        come(&line.sender, 2);
        let mut take = line.take();
        assert_eq!(size(poll!(&mut take)), Poll::Pending);
        ends.send_modify(|batches| batches[1] = None);
        assert_eq!(size(poll!(&mut take)), Poll::Ready(Some(2)));
    }

    #[tokio::test]
    async fn a_batch_that_takes_unusually_long_holds_nobody_up() {
        let mut line = line([batch(200, Instant::now()), None]);
        come(&line.sender, 1);
        assert_eq!(line.take().await.map(|members| members.len()), Some(1));
        // Nor does it when messages come one after another.
        come(&line.sender, 1);
        assert_eq!(size(poll!(&mut line.take())), Poll::Ready(Some(1)));
    }

    #[tokio::test]
    async fn what_waits_is_divided_among_the_workers_that_have_no_batch() {
        let mut line = line([None, None]);
        come(&line.sender, 40);
        assert_eq!(line.take().await.map(|members| members.len()), Some(20));
        line.under_way.send_modify(|batches| batches[0] = batch(20, fresh()));
        assert_eq!(line.take().await.map(|members| members.len()), Some(20));
    }
}
