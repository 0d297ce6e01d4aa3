//! Background tasks over REST: their state and their progress, and cancelling them.
//!
//! An application's token sees the tasks of its application. `endpoint/replay.rs` starts tasks.
//!
//! Must not work on a task: the dispatcher does.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Enum, Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::rights::{AnyToken, SendAgain, View};
use super::wire::error::{ApiError, Read, Write};
use super::wire::idempotency::IdempotencyKey;
use super::wire::paging::{Iterates, Limit, ListOut, ListQuery, Ordering, ascending};
use super::wire::response::{Answer, reply};
use super::wire::values::Instant;
use super::{ApiState, Tag};
use crate::domain::id::Prefix;
use crate::domain::task::{TaskKind, TaskStatus};
use crate::error::Result;
use crate::service;
use crate::store::background_task::{self, Filter, Seen};
use crate::store::entity::background_task::Model;
use crate::store::idempotency::Reply;
use crate::store::{Page, PageRequest, Store};

/// The state of a background task.
#[derive(Clone, Copy, Debug, Deserialize, Enum, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase")]
pub enum BackgroundTaskStatus {
    Running,
    Finished,
    Failed,
}

/// The kind of a background task. This server has tasks of the kinds `endpoint.*` only.
#[derive(Clone, Copy, Debug, Deserialize, Enum, Eq, PartialEq, Serialize)]
pub enum BackgroundTaskType {
    #[serde(rename = "endpoint.replay")]
    #[oai(rename = "endpoint.replay")]
    Replay,
    #[serde(rename = "endpoint.recover")]
    #[oai(rename = "endpoint.recover")]
    Recover,
    #[serde(rename = "endpoint.bulk-replay")]
    #[oai(rename = "endpoint.bulk-replay")]
    BulkReplay,
    #[serde(rename = "application.stats")]
    #[oai(rename = "application.stats")]
    ApplicationStats,
    #[serde(rename = "application.purge_content")]
    #[oai(rename = "application.purge_content")]
    PurgeContent,
    #[serde(rename = "message.broadcast")]
    #[oai(rename = "message.broadcast")]
    Broadcast,
    #[serde(rename = "sdk.generate")]
    #[oai(rename = "sdk.generate")]
    GenerateSdk,
    #[serde(rename = "event-type.aggregate")]
    #[oai(rename = "event-type.aggregate")]
    AggregateEventTypes,
}

/// The period of a background task, and its progress.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct BackgroundTaskData {
    app_id: String,
    endpoint_id: String,
    /// The start of the period, inclusive.
    since: Instant,
    /// The end of the period, exclusive.
    until: Instant,
    /// Everything before this instant is done.
    reached: Instant,
    /// The number of attempts (`endpoint.recover`) or messages (other kinds) that were looked at.
    looked_at: i64,
    // Named as in the documentation of the SDKs.
    /// The number of messages that were queued for one more attempt.
    messages_sent: i64,
    /// Why the task failed; absent if it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A recovery or a replay that runs in the background.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct BackgroundTaskOut {
    id: String,
    status: BackgroundTaskStatus,
    task: BackgroundTaskType,
    data: BackgroundTaskData,
    updated_at: Instant,
}

impl From<Model> for BackgroundTaskOut {
    fn from(row: Model) -> Self {
        let status = match row.status {
            TaskStatus::Running => BackgroundTaskStatus::Running,
            TaskStatus::Finished => BackgroundTaskStatus::Finished,
            TaskStatus::Failed => BackgroundTaskStatus::Failed,
        };
        let task = match row.kind {
            TaskKind::Recover => BackgroundTaskType::Recover,
            TaskKind::ReplayMissing => BackgroundTaskType::Replay,
            TaskKind::BulkReplay => BackgroundTaskType::BulkReplay,
        };
        // A finished task is done with its whole period, even if the last row of the period lies before its end. The
        // end lies before the start if the caller named a start in the future: no period ends later than now.
        let reached = match row.status {
            TaskStatus::Finished => row.until_at.max(row.since_at),
            _ => row.reached_at,
        };
        Self {
            id: row.id,
            status,
            task,
            data: BackgroundTaskData {
                app_id: row.app_id,
                endpoint_id: row.endpoint_id,
                since: Instant(row.since_at),
                until: Instant(row.until_at),
                reached: Instant(reached),
                looked_at: row.looked,
                messages_sent: row.queued,
                error: row.failure,
            },
            updated_at: Instant(row.updated_at),
        }
    }
}

/// Returns a page of the tasks of this kind and in this state; `None` means of any kind or in any state.
/// The page is empty if this server has no tasks of the kind.
async fn page(
    store: &Store,
    seen: Seen<'_>,
    task: Option<BackgroundTaskType>,
    status: Option<BackgroundTaskStatus>,
    request: &PageRequest,
) -> Result<Page<Model>> {
    let kind = match task {
        None => None,
        Some(BackgroundTaskType::Recover) => Some(TaskKind::Recover),
        Some(BackgroundTaskType::Replay) => Some(TaskKind::ReplayMissing),
        Some(BackgroundTaskType::BulkReplay) => Some(TaskKind::BulkReplay),
        Some(_) => return Ok(Page::empty()),
    };
    let status = status.map(|status| match status {
        BackgroundTaskStatus::Running => TaskStatus::Running,
        BackgroundTaskStatus::Finished => TaskStatus::Finished,
        BackgroundTaskStatus::Failed => TaskStatus::Failed,
    });
    background_task::list(store, seen, &Filter { kind, status }, request).await
}

/// Returns the tasks that a caller sees.
///
/// # Errors
/// `NotFound` if the token belongs to a deleted application.
async fn seen<'a>(store: &Store, caller: &'a Caller) -> Result<Seen<'a>> {
    caller.check_application(store).await?;
    Ok(Seen {
        org_id: &caller.org_id,
        app_id: caller.app_id.as_deref(),
    })
}

/// Returns the reply to a cancellation, which is also stored for the idempotency key.
fn cancelled(row: Model) -> Result<Reply> {
    reply(200, &BackgroundTaskOut::from(row))
}

pub(super) struct BackgroundTasks;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::BackgroundTask")]
impl BackgroundTasks {
    /// List background tasks
    ///
    /// Tasks that have ended are kept for 90 days from their start.
    #[oai(path = "/background-task", method = "get", operation_id = "v1.background-task.list")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        /// Only tasks in this state.
        status: Query<Option<BackgroundTaskStatus>>,
        /// Only tasks of this kind.
        task: Query<Option<BackgroundTaskType>>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        /// Default: descending, newest first.
        order: Query<Option<Ordering>>,
    ) -> Result<Answer<ListOut<BackgroundTaskOut>>, ApiError<Read>> {
        let upwards = ascending(order.0, Ordering::Descending);
        let request = ListQuery { limit, iterator }.request(&Iterates::Over(Prefix::BackgroundTask), upwards)?;
        let seen = seen(&state.store, &caller).await?;
        let page = page(&state.store, seen, task.0, status.0, &request).await?;
        let out = |row| Ok(BackgroundTaskOut::from(row));
        Ok(ListOut::answer(page, &request, |row| &row.id, out)?)
    }

    /// Get a background task
    #[oai(
        path = "/background-task/:task_id",
        method = "get",
        operation_id = "v1.background-task.get"
    )]
    async fn get(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        task_id: Path<String>,
    ) -> Result<Answer<BackgroundTaskOut>, ApiError<Read>> {
        let seen = seen(&state.store, &caller).await?;
        let found = background_task::get(&state.store, seen, &task_id.0).await?;
        Ok(Answer::ok(&found.into())?)
    }

    /// Cancel a background task
    ///
    /// Its status is then `failed`, and `data.error` says why. Messages that it has queued already are sent. A task that
    /// has ended stays as it is.
    #[oai(
        path = "/background-task/:task_id/cancel",
        method = "post",
        operation_id = "v1.background-task.cancel"
    )]
    async fn cancel(
        &self,
        caller: AnyToken<SendAgain>,
        state: Data<&Arc<ApiState>>,
        task_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
    ) -> Result<Answer<BackgroundTaskOut>, ApiError<Write>> {
        let key = key.of(&caller, None);
        let seen = seen(&state.store, &caller).await?;
        let (store, origin) = (&state.store, caller.origin("v1.background-task.cancel"));
        let done = service::background_task::cancel(store, &origin, seen, &task_id.0, key.as_ref(), cancelled).await?;
        Ok(done.into())
    }
}
