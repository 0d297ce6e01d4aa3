//! Settles a batch of outcomes in the settler's transaction: records the attempts, writes the results, and ends or
//! reschedules the delivery rows.
//!
//! An attempt is always recorded, because it happened. A failure changes the row and the result only if its lease still
//! holds; a success changes the result even if another process has taken the delivery over, because the receiver has
//! the message. The rows are locked in the order of their ids, so that two settlements cannot deadlock.
//!
//! Must not decide what an outcome means: the domain has done so.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, Value};

use super::disabled::record_disabled;
use super::events::find_events;
use super::health::change_health;
use super::settlement::{Changed, Settled, Settlement};
use crate::domain::delivery::{Decision, ResultState, Trigger};
use crate::domain::effect::Effect;
use crate::domain::timestamp::Timestamp;
use crate::domain::typed_id::DeliveryId;
use crate::error::Result;
use crate::store::database::rows::{Column, Rows, Write, execute_all, statement};
use crate::store::operational;
use crate::store::{Backend, Tx};

/// A settlement, and what it changes.
struct Effective<'a> {
    settlement: &'a Settlement,
    effect: Effect,
}

/// Settles `batch`. Returns what an operator should know. If a former try has committed without an answer, this changes
/// nothing, and there is nothing to report.
pub async fn settle<'a>(tx: &Tx, mut batch: Vec<&'a Settlement>) -> Result<Settled<'a>> {
    batch.sort_by(|a, b| a.delivery_id.cmp(&b.delivery_id));
    let batch = find_effects(tx, batch).await?;
    let endpoints = change_health(tx, &having(&batch, Effect::concerns_health)).await?;
    let disabled: Vec<&Changed> = endpoints.iter().filter(|endpoint| endpoint.disabled).collect();
    tx.store().metrics().endpoints_disabled.add(disabled.len() as u64);
    let new_results = having(&batch, Effect::becomes_result);
    // Before the results are written: the former result shows whether the message was delivered before.
    let events = find_events(tx, &new_results, disabled.clone()).await?;
    let mut given_up = new_results.clone();
    given_up.retain(|settlement| settlement.is_given_up());
    let statements = [
        attempts(&batch),
        results(tx.now, new_results),
        reschedule(&batch),
        finish(&having(&batch, Effect::ends_row)),
    ];
    execute_all(tx, statements.into_iter().flatten().collect()).await?;
    drop_waiting_rows(tx, &having(&batch, Effect::ends_waiting_rows)).await?;
    operational::notify(tx, &events).await?;
    record_disabled(tx, &disabled).await?;
    Ok(Settled { given_up, endpoints })
}

/// Returns the settlements with an effect for which `is_wanted` returns true.
fn having<'a>(batch: &[Effective<'a>], is_wanted: fn(Effect) -> bool) -> Vec<&'a Settlement> {
    let wanted = batch.iter().filter(|effective| is_wanted(effective.effect));
    wanted.map(|effective| effective.settlement).collect()
}

/// Finds the effect of each settlement. Locks the rows whose lease still holds.
async fn find_effects<'a>(tx: &Tx, batch: Vec<&'a Settlement>) -> Result<Vec<Effective<'a>>> {
    let held = find_held(tx, &batch).await?;
    let is_held = |settlement: &Settlement| held.contains(&settlement.delivery_id);
    let mut failed = batch.clone();
    failed.retain(|settlement| settlement.decision != Decision::Delivered && is_held(settlement));
    let delivered = find_delivered(tx, &failed).await?;
    let is_delivered = |settlement: &Settlement| delivered.contains(&settlement.delivery_id);
    let effective = batch.into_iter().map(|settlement| Effective {
        settlement,
        effect: Effect::of(
            settlement.decision,
            settlement.trigger,
            is_held(settlement),
            is_delivered(settlement),
        ),
    });
    Ok(effective.collect())
}

/// Makes a column with one text per settlement.
fn text<'a>(batch: &[&'a Settlement], of: impl Fn(&'a Settlement) -> &'a str) -> Column<'a> {
    Column::Text(batch.iter().map(|settlement| of(settlement)).collect())
}

/// Returns the ids of the deliveries whose lease still holds. Locks their rows, in the order of their ids.
async fn find_held(tx: &Tx, batch: &[&Settlement]) -> Result<HashSet<DeliveryId>> {
    let rows = Rows::new([
        ("id", text(batch, |settlement| settlement.delivery_id.as_str())),
        (
            "lease",
            Column::Int(batch.iter().map(|settlement| settlement.lease_id).collect()),
        ),
    ]);
    let sql = match tx.backend() {
        Backend::Postgres => {
            "select delivery.id from {t} join delivery on delivery.id = t.id and delivery.lease_id = t.lease \
             order by delivery.id for update of delivery"
        }
        Backend::Sqlite => {
            "select delivery.id from {t} join delivery on delivery.id = t.id and delivery.lease_id = t.lease"
        }
    };
    ids(tx, sql, &rows, []).await
}

/// Returns the ids of those deliveries whose message another row has delivered to the endpoint in the meantime.
async fn find_delivered(tx: &Tx, batch: &[&Settlement]) -> Result<HashSet<DeliveryId>> {
    if batch.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = Rows::new([
        ("id", text(batch, |settlement| settlement.delivery_id.as_str())),
        ("app_id", text(batch, |settlement| settlement.app_id.as_str())),
        ("message_id", text(batch, |settlement| settlement.message_id.as_str())),
        ("endpoint_id", text(batch, |settlement| settlement.endpoint_id.as_str())),
    ]);
    let sql = "select t.id from {t} join delivery_result result on result.app_id = t.app_id \
               and result.message_id = t.message_id and result.endpoint_id = t.endpoint_id where result.state = $1";
    ids(tx, sql, &rows, [Value::from(ResultState::Delivered as i16)]).await
}

/// Runs a query over the table `t` and returns the ids that it finds.
async fn ids(
    tx: &Tx,
    sql: &str,
    rows: &Rows<'_>,
    values: impl IntoIterator<Item = Value>,
) -> Result<HashSet<DeliveryId>> {
    let found = tx
        .conn()
        .query_all_raw(statement(tx.backend(), sql, &[("t", rows)], values))
        .await?;
    found.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Makes the insert of attempts, with further columns.
macro_rules! insert_attempts {
    ($more:literal) => {
        concat!(
            "insert into attempt (app_id, message_id, id, endpoint_id, url, trigger, delivered, response_status, \
             response, duration_ms, created_at, next_at",
            $more,
            ") select app_id, message_id, id, endpoint_id, url, trigger, delivered <> 0, response_status, \
             response, duration_ms, created_at, next_at",
            $more,
            " from {t} where true on conflict do nothing"
        )
    };
}

/// Builds the insert of attempts; `None` if none was made.
fn attempts<'a>(batch: &[Effective<'a>]) -> Option<Write<'a>> {
    let made = batch.iter().filter_map(|Effective { settlement, effect }| {
        let attempt = settlement.attempt.as_ref()?;
        Some((*settlement, attempt, effect.next_at()))
    });
    let (batch, made, next_at): (Vec<_>, Vec<_>, Vec<_>) = made.collect();
    if batch.is_empty() {
        return None;
    }
    let mut columns = vec![
        ("app_id", text(&batch, |settlement| settlement.app_id.as_str())),
        ("message_id", text(&batch, |settlement| settlement.message_id.as_str())),
        (
            "endpoint_id",
            text(&batch, |settlement| settlement.endpoint_id.as_str()),
        ),
        (
            "id",
            Column::Text(made.iter().map(|attempt| attempt.id.as_str()).collect()),
        ),
        (
            "url",
            Column::Text(made.iter().map(|attempt| attempt.url.as_str()).collect()),
        ),
        (
            "response",
            Column::Text(made.iter().map(|attempt| attempt.response.as_str()).collect()),
        ),
        (
            "trigger",
            Column::Int(batch.iter().map(|settlement| settlement.trigger as i64).collect()),
        ),
        (
            "delivered",
            Column::Int(
                batch
                    .iter()
                    .map(|settlement| i64::from(settlement.decision == Decision::Delivered))
                    .collect(),
            ),
        ),
        (
            "response_status",
            Column::Int(made.iter().map(|attempt| attempt.response_status.into()).collect()),
        ),
        (
            "duration_ms",
            Column::Int(made.iter().map(|attempt| attempt.duration_ms).collect()),
        ),
        (
            "created_at",
            Column::Int(made.iter().map(|attempt| attempt.created_at.0).collect()),
        ),
        ("next_at", Column::MaybeInt(next_at)),
    ];
    // If all was delivered, no more is bound than must be.
    let sql = match made.iter().any(|attempt| attempt.detail.is_some()) {
        true => {
            let details = made.iter().map(|attempt| attempt.detail.as_deref());
            columns.push(("detail", Column::MaybeText(details.collect())));
            insert_attempts!(", detail")
        }
        false => insert_attempts!(""),
    };
    Some(Write {
        sql,
        rows: Rows::new(columns),
    })
}

/// Builds the upsert of results; `None` if there is none to write. A message that was delivered stays so, and a manual
/// attempt that failed does not replace the state of a retry that waits.
fn results<'a>(now: Timestamp, mut batch: Vec<&'a Settlement>) -> Option<Write<'a>> {
    // One row for each message and endpoint, because an upsert cannot touch a row twice. A success comes before a
    // waiting retry, and that before a failure.
    let key = |settlement: &&'a Settlement| (&settlement.app_id, &settlement.message_id, &settlement.endpoint_id);
    batch.sort_by_key(|settlement| (key(settlement), state(settlement.decision) as i16));
    batch.dedup_by_key(|settlement| key(settlement));
    if batch.is_empty() {
        return None;
    }
    let rows = Rows::new([
        ("app_id", text(&batch, |settlement| settlement.app_id.as_str())),
        ("message_id", text(&batch, |settlement| settlement.message_id.as_str())),
        (
            "endpoint_id",
            text(&batch, |settlement| settlement.endpoint_id.as_str()),
        ),
        (
            "state",
            Column::Int(
                batch
                    .iter()
                    .map(|settlement| state(settlement.decision) as i64)
                    .collect(),
            ),
        ),
        (
            "next_at",
            Column::MaybeInt(batch.iter().map(|settlement| next_at(settlement.decision)).collect()),
        ),
        ("updated_at", Column::Int(vec![now.0; batch.len()])),
        (
            "manual",
            Column::Int(
                batch
                    .iter()
                    .map(|settlement| i64::from(settlement.trigger == Trigger::Manual))
                    .collect(),
            ),
        ),
    ]);
    let sql = "insert into delivery_result (app_id, message_id, endpoint_id, state, next_at, updated_at) \
               select t.app_id, t.message_id, t.endpoint_id, t.state, t.next_at, t.updated_at from {t} \
               left join delivery_result was on t.manual = 1 and t.state = 2 and was.state = 1 and was.app_id = t.app_id \
               and was.message_id = t.message_id and was.endpoint_id = t.endpoint_id where was.state is null \
               order by t.app_id, t.message_id, t.endpoint_id \
               on conflict (app_id, message_id, endpoint_id) do update set state = excluded.state, \
               next_at = excluded.next_at, updated_at = excluded.updated_at where delivery_result.state <> 0";
    Some(Write { sql, rows })
}

/// Returns the state of a result.
fn state(decision: Decision) -> ResultState {
    match decision {
        Decision::Delivered => ResultState::Delivered,
        Decision::Retry { .. } => ResultState::Waiting,
        Decision::Failed => ResultState::Failed,
    }
}

/// Returns when the next attempt is due, in microseconds since 1970; `None` means there is none.
fn next_at(decision: Decision) -> Option<i64> {
    match decision {
        Decision::Retry { at } => Some(at.0),
        Decision::Delivered | Decision::Failed => None,
    }
}

/// Builds the update that makes deliveries due for their next attempt; `None` if there are none.
fn reschedule<'a>(batch: &[Effective<'a>]) -> Option<Write<'a>> {
    let rescheduled = batch
        .iter()
        .filter_map(|Effective { settlement, effect }| Some((settlement.delivery_id.as_str(), effect.next_at()?)));
    let (ids, due): (Vec<_>, Vec<_>) = rescheduled.unzip();
    let sql = "update delivery set attempts_made = attempts_made + 1, due_at = t.due, owner = null, lease_id = null from {t} \
               where delivery.id = t.id";
    (!ids.is_empty()).then(|| Write {
        sql,
        rows: Rows::new([("id", Column::Text(ids)), ("due", Column::Int(due))]),
    })
}

/// Builds the deletion of deliveries that have ended; `None` if there are none.
fn finish<'a>(batch: &[&'a Settlement]) -> Option<Write<'a>> {
    let ids: Vec<_> = batch.iter().map(|settlement| settlement.delivery_id.as_str()).collect();
    let sql = "delete from delivery where id in (select id from {t})";
    (!ids.is_empty()).then(|| Write {
        sql,
        rows: Rows::new([("id", Column::Text(ids))]),
    })
}

/// Deletes the rows of messages that were delivered to their endpoints, except those that a process has leased: they
/// end when they are settled.
async fn drop_waiting_rows(tx: &Tx, batch: &[&Settlement]) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let rows = Rows::new([
        ("message_id", text(batch, |settlement| settlement.message_id.as_str())),
        ("endpoint_id", text(batch, |settlement| settlement.endpoint_id.as_str())),
    ]);
    let sql = "delete from delivery where owner is null and (message_id, endpoint_id) in (select message_id, endpoint_id from {t})";
    tx.conn()
        .execute_raw(statement(tx.backend(), sql, &[("t", &rows)], []))
        .await?;
    Ok(())
}
