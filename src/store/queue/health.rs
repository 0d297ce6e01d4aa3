//! Writes what a batch of outcomes changes of its endpoints' health: the instant since which an endpoint fails, and
//! whether it is disabled.
//!
//! One statement for the whole batch, and none if nothing changes, which is usual. Must not judge an attempt: the
//! domain has done so.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use sea_orm::{ActiveEnum, ConnectionTrait};

use super::settlement::{AttemptRow, Changed, Settlement};
use crate::domain::delivery::Decision;
use crate::domain::health::{DisabledReason, Health};
use crate::domain::typed_id::{AppId, EndpointId};
use crate::error::Result;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::{Backend, Tx};

/// Changes the endpoints of `batch`, and returns those that it has changed. A failure counts only if the endpoint still
/// has the URL that was called. An exhausted endpoint is disabled only if it still fails since the instant by which it
/// was judged: if that has changed, it has worked in the meantime.
pub(super) async fn change_health(tx: &Tx, batch: &[&Settlement]) -> Result<Vec<Changed>> {
    let changes = changes(batch);
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let text = |of: fn(&Settlement) -> &str| Column::Text(changes.iter().map(|settlement| of(settlement)).collect());
    let tries = || changes.iter().filter_map(|settlement| settlement.attempt.as_ref());
    let judged_by = changes.iter().map(|settlement| match settlement.health {
        Health::Exhausted { since } => Some(since.0),
        _ => None,
    });
    let rows = Rows::new([
        ("app_id", text(|settlement| settlement.app_id.as_str())),
        ("endpoint_id", text(|settlement| settlement.endpoint_id.as_str())),
        (
            "url",
            Column::Text(tries().map(|attempt| attempt.url.as_str()).collect()),
        ),
        ("at", Column::Int(tries().map(|attempt| attempt.created_at.0).collect())),
        ("judged_by", Column::MaybeInt(judged_by.collect())),
        (
            "change",
            Column::Int(changes.iter().map(|settlement| code(settlement.health)).collect()),
        ),
    ]);
    let found = tx
        .conn()
        .query_all_raw(statement(
            tx.backend(),
            &sql(tx.backend()),
            &[("t", &rows)],
            [tx.now.0.into()],
        ))
        .await?;
    let mut changed = Vec::new();
    for row in &found {
        let (app_id, endpoint_id): (AppId, EndpointId) = (row.try_get("", "app_id")?, row.try_get("", "id")?);
        let by = changes
            .iter()
            .find(|settlement| settlement.app_id == app_id && settlement.endpoint_id == endpoint_id);
        let attempt = by.and_then(|settlement| settlement.attempt.as_ref());
        changed.push(Changed {
            app_id,
            endpoint_id,
            uid: row.try_get("", "uid")?,
            disabled: row.try_get("", "disabled")?,
            failing_since: row.try_get("", "failing_since")?,
            disabled_reason: row.try_get("", "disabled_reason")?,
            summary: attempt.map(AttemptRow::summary).unwrap_or_default(),
        });
    }
    Ok(changed)
}

/// Chooses one settlement for each endpoint whose health changes, in the order of the endpoints' ids. A success in the
/// batch outweighs every failure except a 410. Among equal ones the earliest attempt is chosen.
fn changes<'a>(batch: &[&'a Settlement]) -> Vec<&'a Settlement> {
    let weight = |settlement: &Settlement| match settlement.health {
        Health::Gone410 => 4,
        _ if settlement.decision == Decision::Delivered => 3,
        Health::Exhausted { .. } => 2,
        Health::Failing => 1,
        Health::Restored | Health::Unchanged => 0,
    };
    let earlier =
        |settlement: &Settlement| Reverse(settlement.attempt.as_ref().map_or(0, |attempt| attempt.created_at.0));
    let mut chosen: BTreeMap<(&AppId, &EndpointId), &Settlement> = BTreeMap::new();
    for settlement in batch {
        let known = chosen
            .entry((&settlement.app_id, &settlement.endpoint_id))
            .or_insert(settlement);
        // Among successes, one that changes the health comes first.
        let rank = |settlement: &Settlement| {
            (
                weight(settlement),
                settlement.health != Health::Unchanged,
                earlier(settlement),
            )
        };
        if rank(settlement) > rank(known) {
            *known = settlement;
        }
    }
    let changing = chosen
        .into_values()
        .filter(|settlement| settlement.health != Health::Unchanged && settlement.attempt.is_some());
    changing.collect()
}

const RESTORED: i64 = 0;
const FAILING: i64 = 1;
const EXHAUSTED: i64 = 2;
const RETIRED: i64 = 3;

/// Returns the number by which the statement knows a change.
fn code(health: Health) -> i64 {
    match health {
        Health::Restored | Health::Unchanged => RESTORED,
        Health::Failing => FAILING,
        Health::Exhausted { .. } => EXHAUSTED,
        Health::Gone410 => RETIRED,
    }
}

/// Builds the statement. It locks only endpoints that change, in the order of their ids: otherwise two settlements
/// could deadlock.
fn sql(backend: Backend) -> String {
    let lock = match backend {
        Backend::Postgres => "for update of e",
        Backend::Sqlite => "",
    };
    let [failing, gone] = [DisabledReason::Failing, DisabledReason::Gone].map(|reason| reason.to_value());
    format!(
        "with due as (select e.app_id as due_app, e.id as due_id, t.at, t.change from {{t}} \
         join endpoint e on e.app_id = t.app_id and e.id = t.endpoint_id \
         where e.deleted_at is null and not e.disabled and case t.change \
         when {RESTORED} then e.failing_since is not null \
         when {FAILING} then e.failing_since is null and e.url = t.url \
         when {EXHAUSTED} then e.failing_since = t.judged_by and e.url = t.url \
         else e.url = t.url end \
         order by e.app_id, e.id {lock}) \
         update endpoint set disabled = (due.change >= {EXHAUSTED}), \
         failing_since = case due.change when {RESTORED} then null else coalesce(endpoint.failing_since, due.at) end, \
         updated_at = case when due.change >= {EXHAUSTED} then $1 else endpoint.updated_at end, \
         disabled_at = case when due.change >= {EXHAUSTED} then $1 else endpoint.disabled_at end, \
         disabled_reason = case due.change when {EXHAUSTED} then {failing} when {RETIRED} then {gone} \
         else endpoint.disabled_reason end \
         from due where endpoint.app_id = due.due_app and endpoint.id = due.due_id \
         returning app_id, id, uid, failing_since, disabled, disabled_reason"
    )
}
