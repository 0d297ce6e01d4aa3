//! Runs the loops of a process: tasks that go on until the process stops, such as the claimer and the settler.
//!
//! If one loop panicked or ended early, its work would be left undone while the others went on and the probes reported
//! a healthy process. Therefore the unexpected end of a loop ends the process. Deliveries that were in flight are sent
//! again by another process, or at the next start.
//!
//! Must not know what a loop does.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::Error;

/// A group of loops that can be waited for together. Clones are the same group.
#[derive(Clone, Default)]
pub struct Loops {
    tasks: TaskTracker,
    /// The first failure in any group; `None` while there is none. Failing loops write it, and only the first write
    /// counts; `failed` reads it. The watch channel orders the two.
    failure: Arc<watch::Sender<Option<String>>>,
    /// Cancelled when the process ends without stopping its loops in order. They may end then, in any group: they lose
    /// what feeds them.
    abandoned: CancellationToken,
}

impl Loops {
    /// Returns a new group that shares the failure with this group.
    pub fn group(&self) -> Self {
        Self {
            tasks: TaskTracker::new(),
            failure: self.failure.clone(),
            abandoned: self.abandoned.clone(),
        }
    }

    /// Lets all loops end, because the process ends for a reason that it reports itself. Call it before anything is
    /// dropped that feeds a loop.
    pub fn abandon(&self) {
        self.abandoned.cancel();
    }

    /// Runs a loop that must not end before `stop` is cancelled. The handle returns `None` if the loop panicked.
    /// `name` names the loop in errors, as in `the NAME panicked`.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        stop: &CancellationToken,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let (loops, stop) = (self.clone(), stop.clone());
        self.spawn_to_its_end(name, async move {
            let ended = work.await;
            if !stop.is_cancelled() && !loops.abandoned.is_cancelled() {
                loops.fail(format!("the {name} ended before its stop"));
            }
            ended
        })
    }

    /// Runs a task that may end when it has no more work. A panic is a failure, as in [`Loops::spawn`].
    pub fn spawn_to_its_end<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let failure = self.clone();
        self.tasks.spawn(async move {
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(ended) => Some(ended),
                Err(panic) => {
                    failure.fail(format!("the {name} panicked: {}", text_of(&*panic)));
                    None
                }
            }
        })
    }

    fn fail(&self, reason: String) {
        tracing::error!(reason, "a loop of this process has ended unexpectedly");
        self.abandon();
        self.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert(reason);
            is_first
        });
    }

    /// Waits until a loop of any group has panicked or ended before its stop. Returns that failure.
    pub async fn failed(&self) -> Error {
        let mut failure = self.failure.subscribe();
        let reason = match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone(),
            // Cannot happen: `self` keeps the sender alive.
            Err(_) => None,
        };
        Error::internal(reason.unwrap_or_default())
    }

    /// Waits until every loop of this group has ended.
    pub async fn wait(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Returns the message of a panic, which is a string unless `panic_any` was called.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it gave no reason")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_ends_before_its_stop_is_a_failure_of_every_group() {
        let (loops, stop) = (Loops::default(), CancellationToken::new());
        loops.group().spawn("clockwork", &stop, async {});
        assert_eq!(loops.failed().await.message, "the clockwork ended before its stop");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_with_its_reason_though_the_stop_has_begun() {
        let (loops, stop) = (Loops::default(), CancellationToken::new());
        stop.cancel();
        let ended = loops.spawn("clockwork", &stop, async { panic!("a spring broke") });
        assert_eq!(loops.failed().await.message, "the clockwork panicked: a spring broke");
        assert!(ended.await.is_ok_and(|ended: Option<()>| ended.is_none()));
    }

    #[tokio::test]
    async fn a_loop_that_ends_because_the_process_ends_is_no_failure() {
        let loops = Loops::default();
        let (feeder, fed) = tokio::sync::oneshot::channel::<()>();
        loops
            .group()
            .spawn("clockwork", &CancellationToken::new(), async { fed.await.is_err() });
        loops.abandon();
        drop(feeder);
        loops.wait().await;
        assert!(loops.failure.borrow().is_none());
    }

    #[tokio::test]
    async fn loops_that_end_when_they_should_are_no_failure() {
        let (loops, stop) = (Loops::default(), CancellationToken::new());
        let until = stop.clone();
        loops.spawn("clockwork", &stop, async move { until.cancelled().await });
        loops.spawn_to_its_end("apprentice", async {});
        stop.cancel();
        loops.wait().await;
        assert!(loops.failure.borrow().is_none());
    }
}
