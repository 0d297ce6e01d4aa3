//! Works background tasks off, a step a transaction. The transaction holds the task's row, so no two processes are at the
//! same step, and what dies leaves the task to whoever looks next. Called by the dispatcher.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::crash_point;
use crate::domain::task::TaskStatus;
use crate::error::Result;
use crate::store::entity::background_task::Model as Task;
use crate::store::handoff::Handoff;
use crate::store::queue;
use crate::store::{Store, Tx, background_task as task};

/// How often the tasks are looked at where none is due.
const POLL: Duration = Duration::from_secs(1);
/// Rows that one step looks at.
const STEP: usize = 250;
/// Parked rows that an endpoint may have for a task to go on: new messages for the endpoint come after these.
const AHEAD: usize = 500;
/// How long a task gives the sender to catch up.
const CATCH_UP: Duration = Duration::from_millis(250);
/// How long a step that failed waits, and lets other tasks go first.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

pub(super) struct Tasks {
    store: Store,
    handoff: Arc<Handoff>,
}

impl Tasks {
    pub fn new(store: Store, handoff: Arc<Handoff>) -> Self {
        Self { store, handoff }
    }

    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.step().await {
                Ok(None) => continue,
                Ok(Some(pause)) => pause,
                Err(err) => {
                    tracing::warn!(%err, "a background task could not be worked on; trying again");
                    POLL
                }
            };
            tokio::select! {
                () = self.store.clock().sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// One step of the task that has waited the longest. Answers how long there is nothing to do; none: go on at once.
    pub async fn step(&self) -> Result<Option<Duration>> {
        let now = self.store.clock().now();
        let Some(due_at) = task::find_next_due(&self.store, now.plus(POLL)).await? else {
            return Ok(Some(POLL));
        };
        let wait = due_at.unix_micros().saturating_sub(now.unix_micros());
        if let Ok(wait @ 1..) = u64::try_from(wait) {
            return Ok(Some(Duration::from_micros(wait)));
        }
        let tx = self.store.begin().await?;
        let Some(task) = task::find_due_locked(&tx).await? else {
            // Another process is at it.
            return Ok(Some(CATCH_UP));
        };
        let id = task.id.clone();
        let done = self.work_on(tx, task).await;
        if done.is_err() {
            self.postpone(&id).await;
        }
        done.map(|()| None)
    }

    async fn work_on(&self, tx: Tx, mut task: Task) -> Result<()> {
        let before = task.queued;
        match queue::find_replay_target(&tx, &task).await? {
            None => end(&mut task, TaskStatus::Failed, Some("the endpoint is deleted")),
            Some(endpoint) if endpoint.disabled => end(&mut task, TaskStatus::Failed, Some("the endpoint is disabled")),
            Some(endpoint) => {
                let room = AHEAD - queue::count_parked(&tx, &endpoint.id, AHEAD).await?;
                task.due_at = Some(tx.now);
                if room < STEP {
                    task.due_at = Some(tx.now.plus(CATCH_UP));
                } else if !queue::replay_next(&tx, &mut task, &endpoint, STEP).await? {
                    end(&mut task, TaskStatus::Finished, None);
                }
            }
        }
        task::update(&tx, &task).await?;
        crash_point::pass("task.before_commit");
        tx.commit().await?;
        crash_point::pass("task.after_commit");
        if task.queued > before {
            self.handoff.set_parked([&Arc::from(task.endpoint_id.as_str())]);
            self.store.wake();
        }
        Ok(())
    }

    /// A step that fails again and again must not keep the others waiting.
    async fn postpone(&self, id: &str) {
        let postponed = async {
            let tx = self.store.begin().await?;
            task::postpone(&tx, id, tx.now.plus(AFTER_FAILURE)).await?;
            tx.commit().await
        };
        if let Err(err) = postponed.await {
            tracing::debug!(%err, task = id, "a background task could not be put off");
        }
    }
}

fn end(task: &mut Task, status: TaskStatus, failure: Option<&str>) {
    task.status = status;
    task.failure = failure.map(str::to_owned);
    task.due_at = None;
}
