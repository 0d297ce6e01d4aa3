//! Works on background tasks, which queue deliveries of past messages: one step per transaction.
//!
//! The transaction locks the task's row, so no two processes make the same step; if a process dies, the next process
//! that looks goes on with the task. Applications take turns, and so do the tasks of each application: a hundred tasks
//! of one application slow another one's task no more than a single task does.
//!
//! Must not choose the messages of a step: the store's replay does.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::crash_point;
use crate::domain::task::TaskStatus;
use crate::domain::typed_id::{AppId, EndpointId, TaskId};
use crate::error::Result;
use crate::slots::Slots;
use crate::store::database::outage;
use crate::store::entity::background_task::Model as Task;
use crate::store::queue;
use crate::store::{Store, Tx, background_task as task};
use crate::telemetry::log_fields::LogFields;

/// How often tasks are looked for if none is due.
const POLL: Duration = Duration::from_secs(1);
/// Rows that one step looks at.
const STEP: usize = 250;
/// Parked rows that an endpoint may have after a step. If a whole step does not fit, the task waits: new messages for
/// the endpoint come after the parked rows.
const AHEAD: usize = 500;
/// The least time that a task waits for the sender to catch up. It is so short that a fast endpoint never waits for
/// rows. Between this and [`MOST_CATCH_UP`], a task waits a quarter of the time since its last step.
const LEAST_CATCH_UP: Duration = Duration::from_millis(250);
/// The longest. The wait grows, so that a hundred tasks of endpoints that hang do not keep the database busy.
const MOST_CATCH_UP: Duration = Duration::from_secs(10);
/// How long to wait if other processes are working on all tasks that are due.
const AFTER_OTHERS: Duration = Duration::from_millis(250);
/// Applications that one look goes through at most.
const LOOK: usize = 32;
/// How long a task waits after a failed step, so that other tasks go first.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

pub(super) struct Tasks {
    store: Store,
    slots: Arc<Slots>,
    /// The application that had the last turn; empty means that the next round begins.
    after: String,
}

/// What a look for tasks finds.
enum Found {
    /// A task to work on, and the transaction that holds its row.
    Task(Tx, Box<Task>),
    /// Nothing, and how long to wait before the next look; `None` means not at all.
    Nothing(Option<Duration>),
}

impl Tasks {
    pub fn new(store: Store, slots: Arc<Slots>) -> Self {
        Self {
            store,
            slots,
            after: String::new(),
        }
    }

    /// Works on tasks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.step().await {
                Ok(None) => continue,
                Ok(Some(pause)) => pause,
                // The step has logged it.
                Err(_) => POLL,
            };
            tokio::select! {
                () = self.store.clock().sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Makes one step of the task that has waited longest, of the application whose turn it is. Returns how long to
    /// wait before the next step; `None` means not at all. Logs a failure.
    pub async fn step(&mut self) -> Result<Option<Duration>> {
        match self.find().await {
            Ok(Found::Nothing(pause)) => Ok(pause),
            Ok(Found::Task(tx, task)) => {
                let fields = LogFields::of_task(&AppId::from(&*task.app_id), &TaskId::from(&*task.id));
                fields.scope(self.work_or_postpone(tx, *task)).await.map(|()| None)
            }
            Err(err) => {
                outage::note_failure(&err, "background tasks could not be looked for; trying again");
                Err(err)
            }
        }
    }

    /// Finds and locks the task whose turn it is.
    async fn find(&mut self) -> Result<Found> {
        let now = self.store.clock().now();
        let Some(due_at) = task::find_next_due(&self.store, now.plus(POLL)).await? else {
            return Ok(Found::Nothing(Some(POLL)));
        };
        let wait = due_at.unix_micros().saturating_sub(now.unix_micros());
        if let Ok(wait @ 1..) = u64::try_from(wait) {
            return Ok(Found::Nothing(Some(Duration::from_micros(wait))));
        }
        let mut turns = task::list_turns(&self.store, &self.after, LOOK).await?;
        if turns.len() < LOOK && turns.iter().all(|turn| turn.due_at > now) {
            turns = task::list_turns(&self.store, "", LOOK).await?;
        }
        let mut held_by_others = false;
        for turn in turns.iter().filter(|turn| turn.due_at <= now) {
            self.after.clone_from(&turn.app_id);
            let tx = self.store.begin().await?;
            match task::find_due_locked(&tx, &turn.app_id).await? {
                Some(task) => return Ok(Found::Task(tx, Box::new(task))),
                None => held_by_others = true,
            }
        }
        self.after = match turns.last() {
            Some(last) if turns.len() == LOOK => last.app_id.clone(),
            _ => String::new(),
        };
        Ok(Found::Nothing(held_by_others.then_some(AFTER_OTHERS)))
    }

    /// Makes one step of `task`, or logs why it failed and puts the task off.
    async fn work_or_postpone(&self, tx: Tx, task: Task) -> Result<()> {
        let id = task.id.clone();
        let worked = self.work_on(tx, task).await;
        if let Err(err) = &worked {
            outage::note_failure(err, "a background task could not be worked on; trying again");
            self.postpone(&id).await;
        }
        worked
    }

    /// Makes one step of `task` and commits `tx`, which holds the task's row.
    async fn work_on(&self, tx: Tx, mut task: Task) -> Result<()> {
        let before = task.queued;
        match queue::find_replay_target(&tx, &task).await? {
            None => end(&mut task, TaskStatus::Failed, Some("the endpoint is deleted")),
            Some(endpoint) if endpoint.disabled => end(&mut task, TaskStatus::Failed, Some("the endpoint is disabled")),
            Some(endpoint) => {
                let room = AHEAD - queue::count_parked(&tx, &endpoint.id, AHEAD).await?;
                task.due_at = Some(tx.now);
                if room < STEP {
                    let quarter = Duration::from_micros(tx.now.0.saturating_sub(task.updated_at.0).unsigned_abs() / 4);
                    task::postpone(&tx, &task.id, tx.now.plus(quarter.clamp(LEAST_CATCH_UP, MOST_CATCH_UP))).await?;
                    return tx.commit().await;
                }
                if !queue::replay_next(&tx, &mut task, &endpoint, STEP).await? {
                    end(&mut task, TaskStatus::Finished, None);
                }
            }
        }
        task::update(&tx, &task).await?;
        crash_point::pass("task.before_commit");
        tx.commit().await?;
        crash_point::pass("task.after_commit");
        if task.queued > before {
            self.slots.set_parked([&EndpointId::from(&*task.endpoint_id)]);
            self.store.wake();
        }
        Ok(())
    }

    /// Puts off a task whose step has failed: if it fails again and again, other tasks must not wait for it.
    async fn postpone(&self, id: &str) {
        let postponed = async {
            let tx = self.store.begin().await?;
            task::postpone(&tx, id, tx.now.plus(AFTER_FAILURE)).await?;
            tx.commit().await
        };
        if let Err(err) = postponed.await {
            tracing::debug!(%err, "a background task could not be put off");
        }
    }
}

/// Marks a task as ended, with the reason if it has failed.
fn end(task: &mut Task, status: TaskStatus, failure: Option<&str>) {
    task.status = status;
    task.failure = failure.map(str::to_owned);
    task.due_at = None;
}
