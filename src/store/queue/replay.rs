//! Makes one step of a background task: looks at the next rows of its window, and queues a manual delivery for each
//! message that is wanted.
//!
//! The caller's transaction has locked the task's row, so no other process makes the same step. Must not decide when a
//! step is made: the dispatcher's tasks do.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement, Value};

use crate::domain::filter::{EndpointFilter, accepts};
use crate::domain::id::Prefix;
use crate::domain::task::{ReplayState, TaskKind};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::background_task::looks_at;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::entity::background_task::Model as Task;
use crate::store::entity::endpoint::Model as Endpoint;
use crate::store::entity::{attempt, message};
use crate::store::{Tx, endpoint};

/// An attempt or a message of the window.
struct Found {
    /// The id of the attempt or message.
    id: String,
    message_id: String,
    /// The instant of the attempt or message.
    at: Timestamp,
    /// Whether the message's event type and channels are wanted. Always true for an attempt.
    passes: bool,
}

/// Returns the endpoint that a task is for; `None` means that it or its application is deleted.
pub async fn find_replay_target(tx: &Tx, task: &Task) -> Result<Option<Endpoint>> {
    let app = crate::store::application::find(tx, &task.org_id, &task.app_id).await?;
    match app {
        Some(app) => endpoint::find(tx, &app.id, &task.endpoint_id).await,
        None => Ok(None),
    }
}

/// Counts the parked rows of an endpoint, up to `most`.
pub async fn count_parked(tx: &Tx, endpoint_id: &str, most: usize) -> Result<usize> {
    // In the order of the index: otherwise Postgres may read the whole table, in the hope to find enough rows soon.
    let sql = "select count(*) as n from (select 1 from delivery where due_at is null and endpoint_id = $1 \
               order by id limit $2) as parked";
    let values = [endpoint_id.into(), (most as i64).into()];
    let counted = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    let row = tx.conn().query_one_raw(counted).await?;
    let count: i64 = row.map_or(Ok(0), |row| row.try_get("", "n"))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Looks at the next `most` rows of the task's window, and queues the messages that are wanted, as parked rows. Moves
/// the task on. Returns whether there may be more rows. A task queues a message only once: it never looks at a row
/// twice, and a message with several attempts in the window counts at the first of them.
pub async fn replay_next(tx: &Tx, task: &mut Task, endpoint: &Endpoint, most: usize) -> Result<bool> {
    let found = match task.kind {
        TaskKind::Recover => find_attempts(tx, task, most).await?,
        TaskKind::ReplayMissing | TaskKind::BulkReplay => find_messages(tx, task, endpoint, most).await?,
    };
    let passing: Vec<_> = found.iter().filter(|row| row.passes).collect();
    if !passing.is_empty() {
        task.queued += queue(tx, task, &passing).await? as i64;
    }
    task.looked += found.len() as i64;
    if let Some(last) = found.last() {
        task.reached.clone_from(&last.id);
        task.reached_at = last.at;
    }
    Ok(found.len() == most)
}

/// Returns the id at which the task's window ends, exclusive.
fn end(task: &Task) -> String {
    looks_at(task.kind).first_id_at(task.until_at)
}

/// Returns the next attempts at the task's endpoint.
async fn find_attempts(tx: &Tx, task: &Task, most: usize) -> Result<Vec<Found>> {
    use attempt::{Column, Entity};
    let rows: Vec<(String, String, Timestamp)> = Entity::find()
        .select_only()
        .columns([Column::Id, Column::MessageId, Column::CreatedAt])
        .filter(Column::AppId.eq(&task.app_id))
        .filter(Column::EndpointId.eq(&task.endpoint_id))
        .filter(Column::Id.gt(&task.reached))
        .filter(Column::Id.lt(end(task)))
        .order_by_asc(Column::Id)
        .limit(most as u64)
        .into_tuple()
        .all(tx.conn())
        .await?;
    let found = rows.into_iter().map(|(id, message_id, at)| Found {
        id,
        message_id,
        at,
        passes: true,
    });
    Ok(found.collect())
}

/// Returns the next messages of the task's application.
async fn find_messages(tx: &Tx, task: &Task, endpoint: &Endpoint, most: usize) -> Result<Vec<Found>> {
    use message::{Column, Entity};
    let rows = Entity::find()
        .filter(Column::AppId.eq(&task.app_id))
        .filter(Column::Id.gt(&task.reached))
        .filter(Column::Id.lt(end(task)))
        .order_by_asc(Column::Id)
        .limit(most as u64)
        .all(tx.conn())
        .await?;
    let wanted = EndpointFilter {
        event_types: endpoint.event_types.as_ref().map(|list| list.0.as_slice()),
        channels: endpoint.channels.as_ref().map(|list| list.0.as_slice()),
    };
    let found = rows.into_iter().map(|row| {
        let channels = row.channels.as_ref().map_or(&[][..], |list| &list.0);
        let passes = match &task.filter {
            Some(filter) => filter.0.accepts(&row.event_type, channels),
            None => accepts(&wanted, &row.event_type, channels),
        };
        Found {
            message_id: row.id.clone(),
            id: row.id,
            at: row.created_at,
            passes,
        }
    });
    Ok(found.collect())
}

/// Inserts a parked row with a manual attempt for each message that still has its payload and whose history at the
/// endpoint is as the task wants it. Returns how many.
async fn queue(tx: &Tx, task: &Task, passing: &[&Found]) -> Result<u64> {
    let clock = tx.store().clock();
    let ids: Vec<_> = passing
        .iter()
        .map(|_| clock.new_id_at(Prefix::Delivery, tx.now))
        .collect();
    let rows = Rows::new([
        ("id", Column::Text(ids.iter().map(String::as_str).collect())),
        (
            "found",
            Column::Text(passing.iter().map(|row| row.id.as_str()).collect()),
        ),
        (
            "message_id",
            Column::Text(passing.iter().map(|row| row.message_id.as_str()).collect()),
        ),
    ]);
    let mut values: Vec<Value> = vec![task.app_id.as_str().into(), task.endpoint_id.as_str().into()];
    let wanted = wanted(task, &mut values);
    // Parked (`due_at` is null), not due: as due rows they would stand before the retries of all other endpoints.
    let sql = format!(
        "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at) \
         select t.id, $1, t.message_id, $2, 1, 0, null from {{t}} where exists (select 1 from message_content c \
         where c.app_id = $1 and c.message_id = t.message_id) and {wanted}"
    );
    let insert = statement(tx.backend(), &sql, &[("t", &rows)], values);
    Ok(tx.conn().execute_raw(insert).await?.rows_affected())
}

/// Returns the condition on a message's history at the endpoint. Appends its parameters to `values`.
fn wanted(task: &Task, values: &mut Vec<Value>) -> String {
    let result = |and: &str| {
        format!(
            "exists (select 1 from delivery_result where app_id = $1 and message_id = t.message_id \
             and endpoint_id = $2 and {and})"
        )
    };
    // The attempts are found by their message, which has few; an endpoint may have many. So terms on the endpoint and on
    // ids are written in a way that no index matches.
    let attempt = |and: &str| {
        format!(
            "exists (select 1 from attempt where app_id = $1 and message_id = t.message_id \
             and endpoint_id || '' = $2 and {and})"
        )
    };
    match task.kind {
        TaskKind::Recover => {
            values.push(looks_at(task.kind).first_id_at(task.since_at).into());
            let (delivered, earlier) = (result("state = 0"), attempt("id || '' > $3 and id || '' < t.found"));
            format!("not {delivered} and not {earlier}")
        }
        TaskKind::ReplayMissing => {
            // A delivery that has failed without an attempt was not sent either. One that still waits in the queue will
            // be.
            let (sent, tried) = (result("state <> 2"), attempt("true"));
            let queued = "exists (select 1 from delivery where message_id = t.message_id and endpoint_id = $2)";
            format!("not {sent} and not {tried} and not {queued}")
        }
        TaskKind::BulkReplay => {
            let filter = task.filter.as_ref().map(|filter| &filter.0);
            let state = result(match filter.map(|filter| filter.state).unwrap_or_default() {
                ReplayState::Any => "true",
                ReplayState::Delivered => "state = 0",
                ReplayState::Waiting => "state = 1",
                ReplayState::Failed => "state = 2",
                ReplayState::None => "false",
            });
            let tried = match filter.and_then(|filter| filter.status_class) {
                None => attempt("true"),
                Some(first) => {
                    let last = if first == 0 { 0 } else { first + 99 };
                    values.extend([first.into(), last.into()]);
                    attempt("response_status between $3 and $4")
                }
            };
            format!("{state} and {tried}")
        }
    }
}
