//! Divides the messages that wait to be stored into batches.
//!
//! Must not store them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep};

use super::member::{Limits, Member};

/// Bytes of payload in one batch. A batch always has at least one message.
const BATCH_BYTES: usize = 4 << 20;
/// If many messages wait, the workers divide them, but into batches of at least this many: with fewer, the cost of
/// another statement is more than the time that it saves.
const LEAST_SHARE: usize = 8;
/// How long the next batch waits for the one in flight, from the start of that one. Most batches take a few
/// milliseconds; a batch that takes longer does not delay the next one.
const USUAL_TIME: Duration = Duration::from_millis(10);

/// A batch in flight.
#[derive(Clone, Copy)]
pub(super) struct UnderWay {
    pub members: usize,
    pub began: Instant,
}

/// The messages that wait. One worker at a time has it.
pub(super) struct Waiting {
    queue: mpsc::Receiver<Member>,
    /// Messages that are out of the queue and not in a batch yet. They come before those in the queue.
    taken: VecDeque<Member>,
    /// When we stop waiting for the batch in flight. One reusable timer: resetting it is cheap, a new `Sleep` per batch
    /// would wake the timer thread.
    patience: Pin<Box<Sleep>>,
}

impl Waiting {
    pub fn new(queue: mpsc::Receiver<Member>) -> Self {
        Self {
            queue,
            taken: VecDeque::new(),
            patience: Box::pin(tokio::time::sleep(USUAL_TIME)),
        }
    }

    /// Returns how many messages wait.
    fn len(&self) -> usize {
        self.taken.len() + self.queue.len()
    }

    /// Waits for messages and takes the next batch: an equal part of those that wait for each worker without a batch,
    /// up to the limits. `None` means that every `Intake` is dropped and the queue is empty.
    pub async fn take(
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

    /// Waits until it is time to take a batch.
    ///
    /// After a commit its callers return one at a time. A batch of the first few would make all others wait for another
    /// round trip. So this waits until the batch is no smaller than the one in flight, or until that one has ended or
    /// has taken longer than usual. With none in flight it only yields, as long as more messages come in meanwhile; if
    /// none comes, that costs nothing.
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

    /// Yields to the other tasks until that brings no more messages, or `most` wait.
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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::Poll;

    use futures_util::poll;

    use tokio::sync::oneshot;

    use super::*;
    use crate::domain::timestamp::Timestamp;
    use crate::store::intake::NewMessage;

    const LIMITS: Limits = Limits {
        members: 200,
        lease: Duration::from_secs(60),
    };

    struct Shared {
        sender: mpsc::Sender<Member>,
        waiting: Waiting,
        under_way: watch::Sender<Vec<Option<UnderWay>>>,
    }

    /// Returns what two workers share. `under_way` holds their batches.
    fn shared(under_way: [Option<UnderWay>; 2]) -> Shared {
        let (sender, queue) = mpsc::channel(1_000);
        Shared {
            sender,
            waiting: Waiting::new(queue),
            under_way: watch::Sender::new(under_way.to_vec()),
        }
    }

    impl Shared {
        fn take(&mut self) -> Pin<Box<dyn Future<Output = Option<Vec<Member>>> + '_>> {
            Box::pin(self.waiting.take(&LIMITS, self.under_way.subscribe()))
        }
    }

    fn batch(members: usize, began: Instant) -> Option<UnderWay> {
        Some(UnderWay { members, began })
    }

    /// Returns a start in the future, so that no batch in a test takes unusually long.
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
                tags: Vec::new(),
                body: "{}".to_owned(),
                content_type: None,
                only_to: None,
                retention: Duration::ZERO,
                key: None,
            });
            let member = Member {
                message,
                id: "msg_1".into(),
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
        let mut shared = shared([batch(3, fresh()), None]);
        let sender = shared.sender.clone();
        come(&sender, 2);
        let mut take = shared.take();
        assert_eq!(size(poll!(&mut take)), Poll::Pending);
        come(&sender, 1);
        assert_eq!(size(poll!(&mut take)), Poll::Ready(Some(3)));
    }

    #[tokio::test]
    async fn a_smaller_batch_is_taken_when_the_one_under_way_has_ended() {
        let mut shared = shared([None, batch(200, fresh())]);
        let ends = shared.under_way.clone();
        come(&shared.sender, 2);
        let mut take = shared.take();
        assert_eq!(size(poll!(&mut take)), Poll::Pending);
        ends.send_modify(|batches| batches[1] = None);
        assert_eq!(size(poll!(&mut take)), Poll::Ready(Some(2)));
    }

    #[tokio::test]
    async fn a_batch_that_takes_unusually_long_does_not_delay_the_next_one() {
        let mut shared = shared([batch(200, Instant::now()), None]);
        come(&shared.sender, 1);
        assert_eq!(shared.take().await.map(|members| members.len()), Some(1));
        // Messages that come one after another do not wait for it either.
        come(&shared.sender, 1);
        assert_eq!(size(poll!(&mut shared.take())), Poll::Ready(Some(1)));
    }

    #[tokio::test]
    async fn what_waits_is_divided_among_the_workers_that_have_no_batch() {
        let mut shared = shared([None, None]);
        come(&shared.sender, 40);
        assert_eq!(shared.take().await.map(|members| members.len()), Some(20));
        shared.under_way.send_modify(|batches| batches[0] = batch(20, fresh()));
        assert_eq!(shared.take().await.map(|members| members.len()), Some(20));
    }
}
