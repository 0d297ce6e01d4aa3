//! Starts and cancels background tasks: recoveries and replays of messages at an endpoint.
//!
//! Must not work on them: the dispatcher does.

use super::audit;
use crate::domain::audit::Origin;
use crate::domain::task::{ReplayFilter, TaskKind, TaskStatus, Window};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::store::background_task::{self, NewTask, Seen};
use crate::store::entity::application::Model as Application;
use crate::store::entity::background_task::Model;
use crate::store::idempotency::{self, Key, Reply};
use crate::store::{Store, Tx, endpoint};

/// The most tasks of one application that may run at a time.
const MOST_RUNNING: u64 = 100;
/// Why a cancelled task failed.
const CANCELLED: &str = "it was cancelled";

/// The messages to queue again, as the caller describes them.
#[derive(Debug)]
pub struct Wish {
    pub kind: TaskKind,
    pub since: Timestamp,
    /// The end of the window; `None` means now.
    pub until: Option<Timestamp>,
    /// The filter of a bulk replay; `None` means that a replay uses the filter of the endpoint.
    pub filter: Option<ReplayFilter>,
}

/// Starts a task for the endpoint with this id or uid. `render` makes the reply from its row.
///
/// # Errors
/// `Invalid`, which names the field; `NotFound`; `LimitReached` while 100 tasks of the application are running;
/// `Conflict` if the idempotency key came with another body before.
pub async fn start(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    id_or_uid: &str,
    wish: Wish,
    key: Option<&Key>,
    render: fn(Model) -> Result<Reply>,
) -> Result<Reply> {
    idempotency::once(store, key, async |tx: &Tx| {
        let window = Window::new(wish.kind, wish.since, wish.until, tx.now)
            .map_err(|(field, rule)| Error::invalid(field, rule))?;
        let endpoint = endpoint::get(tx, &app.id, id_or_uid).await?;
        if background_task::count_running(tx, &app.id).await? >= MOST_RUNNING {
            let message = format!(
                "an application has at most {MOST_RUNNING} running background tasks; wait until one ends, or cancel one"
            );
            return Err(Error::new(Kind::LimitReached, message));
        }
        let new = NewTask {
            org_id: &app.org_id,
            app_id: &app.id,
            endpoint_id: &endpoint.id,
            kind: wish.kind,
            window,
            filter: wish.filter,
        };
        let made = background_task::insert(tx, new).await?;
        audit::created(tx, origin, &app.org_id, (&made).into()).await?;
        render(made)
    })
    .await
}

/// Cancels a task that the caller sees: it makes no further step, and has failed. Messages that it has queued already
/// are sent. A task that has ended stays as it is. `render` makes the reply from its row.
///
/// # Errors
/// `NotFound`.
pub async fn cancel(
    store: &Store,
    origin: &Origin<'_>,
    seen: Seen<'_>,
    id: &str,
    key: Option<&Key>,
    render: fn(Model) -> Result<Reply>,
) -> Result<Reply> {
    idempotency::once(store, key, async |tx: &Tx| {
        let mut task = background_task::get_locked(tx, seen, id).await?;
        if task.status == TaskStatus::Running {
            let known = task.clone();
            task.status = TaskStatus::Failed;
            task.failure = Some(CANCELLED.to_owned());
            task.due_at = None;
            task.updated_at = tx.now;
            background_task::update(tx, &task).await?;
            audit::changed(tx, origin, &task.org_id, (&known).into(), (&task).into()).await?;
        }
        render(task)
    })
    .await
}
