//! Claim: due rows become leases of this process, in batches, first attempts and all others apart.

use std::collections::HashMap;
use std::sync::Arc;

use sea_orm::{ConnectionTrait, FromQueryResult, Statement, Value};

use super::lease::{Content, LARGE_BODY, Lease, LeaseTerms, TARGET_BUT_HEADERS, Target, TargetRow, Throttle};
use super::park::park_rows;
use crate::domain::delivery::{ResultState, Trigger};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::handoff::{Handoff, Lane, Slot};
use crate::store::rows::{Column, Rows, statement};
use crate::store::{Backend, Tx};

/// What a claim answers with.
#[derive(FromQueryResult)]
struct Claimed {
    id: String,
    app_id: String,
    message_id: String,
    endpoint_id: String,
    trigger: Trigger,
    attempt: i32,
}

/// Leases up to `most` due rows of `lane`, oldest first, and gives each a slot. Rows of an endpoint without room are
/// parked. Answers the leases and how many rows were due in all, at most `most`.
pub async fn claim(
    tx: &Tx,
    handoff: &Arc<Handoff>,
    terms: &LeaseTerms,
    lane: Lane,
    most: usize,
) -> Result<(Vec<Lease>, usize)> {
    let rows = tx
        .conn()
        .query_all_raw(claim_statement(tx.backend(), terms, lane, tx.now, most))
        .await?;
    let rows = rows
        .iter()
        .map(|row| Claimed::from_query_result(row, ""))
        .collect::<Result<Vec<_>, _>>()?;
    let found = rows.len();
    Ok((lease_all(tx, handoff, terms, lane, rows).await?, found))
}

/// Leases parked rows: of each endpoint, oldest first, as many as it has room for. Answers the leases and the
/// endpoints that have no parked rows left.
pub async fn claim_parked(
    tx: &Tx,
    handoff: &Arc<Handoff>,
    terms: &LeaseTerms,
    endpoints: &[(Arc<str>, usize)],
) -> Result<(Vec<Lease>, Vec<Arc<str>>)> {
    let mut claimed = Vec::new();
    let mut empty = Vec::new();
    for (endpoint, room) in endpoints {
        let sql = lease_sql(tx.backend(), "endpoint_id = $5 and due_at is null", "id");
        let values = lease_values(terms, tx.now, *room)
            .into_iter()
            .chain([Value::from(&**endpoint)]);
        let rows = tx
            .conn()
            .query_all_raw(Statement::from_sql_and_values(tx.backend().orm(), sql, values))
            .await?;
        if rows.len() < *room {
            empty.push(endpoint.clone());
        }
        for row in &rows {
            claimed.push(Claimed::from_query_result(row, "")?);
        }
    }
    Ok((lease_all(tx, handoff, terms, Lane::Again, claimed).await?, empty))
}

/// The claim of `lane`: literals, not parameters, in what a partial index must match.
pub fn claim_statement(backend: Backend, terms: &LeaseTerms, lane: Lane, now: Timestamp, most: usize) -> Statement {
    let due = match lane {
        Lane::First => "due_at is not null and attempt = 0 and trigger = 0 and due_at <= $5",
        Lane::Again => "due_at is not null and (attempt > 0 or trigger <> 0) and due_at <= $5",
    };
    let values = lease_values(terms, now, most).into_iter().chain([now.0.into()]);
    Statement::from_sql_and_values(backend.orm(), lease_sql(backend, due, "due_at, id"), values)
}

fn lease_sql(backend: Backend, which: &str, order: &str) -> String {
    const SET: &str = "set due_at = $1, owner = $2, lease_id = $3";
    const ROW: &str = "id, app_id, message_id, endpoint_id, trigger, attempt";
    let lock = backend.skip_locked();
    let found = format!("select id from delivery where {which} order by {order} limit $4 {lock}");
    format!(
        "update delivery {SET} where {} returning {ROW}",
        backend.is_among("id", &found)
    )
}

fn lease_values(terms: &LeaseTerms, now: Timestamp, most: usize) -> [Value; 4] {
    [
        now.plus(terms.lasts).0.into(),
        (&*terms.owner).into(),
        terms.lease_id.into(),
        (most as i64).into(),
    ]
}

/// Gives claimed rows their slots, targets and contents, in the order of their ids; parks those without a slot.
async fn lease_all(
    tx: &Tx,
    handoff: &Arc<Handoff>,
    terms: &LeaseTerms,
    lane: Lane,
    mut rows: Vec<Claimed>,
) -> Result<Vec<Lease>> {
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    let mut names: HashMap<String, Arc<str>> = HashMap::new();
    for row in &rows {
        if !names.contains_key(&row.endpoint_id) {
            names.insert(row.endpoint_id.clone(), row.endpoint_id.as_str().into());
        }
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let targets = find_targets(tx, &rows, &names).await?;
    let unthrottled = Throttle::new();
    let mut placed: Vec<(Claimed, Slot)> = Vec::with_capacity(rows.len());
    let mut saturated: Vec<(Claimed, Arc<str>)> = Vec::new();
    for row in rows {
        let endpoint = names[&row.endpoint_id].clone();
        let slot = match targets.get(&row.endpoint_id) {
            Some(target) => handoff.take(&endpoint, &target.app_id, &target.throttle, lane),
            None => {
                handoff.set_gone(&endpoint);
                handoff.take(&endpoint, &row.app_id.as_str().into(), &unthrottled, lane)
            }
        };
        match slot {
            Some(slot) => placed.push((row, slot)),
            None => saturated.push((row, endpoint)),
        }
    }
    if !saturated.is_empty() {
        let ids = saturated.iter().map(|(row, _)| row.id.as_str()).collect();
        let mut endpoints: Vec<_> = saturated.iter().map(|(_, endpoint)| endpoint.clone()).collect();
        endpoints.sort();
        endpoints.dedup();
        park_rows(tx, ids, &endpoints).await?;
        if handoff.set_parked(&endpoints) {
            tx.wake_on_commit();
        }
    }
    fill(tx, terms, placed, &targets, &names).await
}

async fn fill(
    tx: &Tx,
    terms: &LeaseTerms,
    placed: Vec<(Claimed, Slot)>,
    targets: &HashMap<String, Arc<Target>>,
    names: &HashMap<String, Arc<str>>,
) -> Result<Vec<Lease>> {
    if placed.is_empty() {
        return Ok(Vec::new());
    }
    let mut contents = find_contents(tx, &placed).await?;
    let ends_at = tx.began + terms.lasts;
    let leases = placed.into_iter().map(|(row, slot)| {
        let found = contents.remove(&row.id);
        let delivered_already = found.as_ref().is_some_and(Found::is_delivered);
        let (content, content_type) = found.map_or((Content::Gone, None), Found::content);
        Lease {
            target: targets.get(&row.endpoint_id).cloned(),
            endpoint_id: names[&row.endpoint_id].clone(),
            delivery_id: row.id,
            app_id: row.app_id,
            message_id: row.message_id,
            delivered_already: delivered_already && row.trigger == Trigger::Scheduled,
            trigger: row.trigger,
            attempt: row.attempt,
            lease_id: terms.lease_id,
            ends_at,
            content,
            content_type,
            slot,
        }
    });
    Ok(leases.collect())
}

/// The endpoints of `rows` that may be called, as they are now.
async fn find_targets(
    tx: &Tx,
    rows: &[Claimed],
    names: &HashMap<String, Arc<str>>,
) -> Result<HashMap<String, Arc<Target>>> {
    let mut pairs: Vec<_> = rows
        .iter()
        .map(|row| (row.app_id.as_str(), row.endpoint_id.as_str()))
        .collect();
    pairs.sort();
    pairs.dedup();
    let (apps, endpoints) = pairs.into_iter().unzip();
    let wanted = Rows::new([("app_id", Column::Text(apps)), ("id", Column::Text(endpoints))]);
    let sql = format!(
        "select {TARGET_BUT_HEADERS}, e.headers from {{wanted}} join endpoint e on e.app_id = wanted.app_id and e.id = wanted.id \
         join application a on a.id = wanted.app_id \
         where e.deleted_at is null and not e.disabled and a.deleted_at is null"
    );
    let found = tx
        .conn()
        .query_all_raw(statement(tx.backend(), &sql, &[("wanted", &wanted)], []))
        .await?;
    let mut targets = HashMap::new();
    for row in &found {
        let row = TargetRow::from_query_result(row, "")?;
        let mut target = Target::from(row);
        if let Some(name) = names.get(&*target.endpoint_id) {
            target.endpoint_id = name.clone();
        }
        targets.insert(target.endpoint_id.to_string(), Arc::new(target));
    }
    Ok(targets)
}

#[derive(FromQueryResult)]
struct Found {
    id: String,
    body: Option<String>,
    bytes: Option<i64>,
    content_type: Option<String>,
    state: Option<ResultState>,
}

impl Found {
    /// The content with its type.
    fn content(self) -> (Content, Option<Arc<str>>) {
        let content = match (self.body, self.bytes) {
            (Some(body), _) => Content::Body(body.into()),
            (None, Some(bytes)) => Content::Large(usize::try_from(bytes).unwrap_or(usize::MAX)),
            (None, None) => Content::Gone,
        };
        (content, self.content_type.map(Into::into))
    }

    fn is_delivered(&self) -> bool {
        self.state == Some(ResultState::Delivered)
    }
}

/// The contents and results of `rows`, by delivery id.
async fn find_contents(tx: &Tx, rows: &[(Claimed, Slot)]) -> Result<HashMap<String, Found>> {
    let wanted = Rows::new([
        (
            "id",
            Column::Text(rows.iter().map(|(row, _)| row.id.as_str()).collect()),
        ),
        (
            "app_id",
            Column::Text(rows.iter().map(|(row, _)| row.app_id.as_str()).collect()),
        ),
        (
            "message_id",
            Column::Text(rows.iter().map(|(row, _)| row.message_id.as_str()).collect()),
        ),
        (
            "endpoint_id",
            Column::Text(rows.iter().map(|(row, _)| row.endpoint_id.as_str()).collect()),
        ),
    ]);
    let sql = "select wanted.id, case when octet_length(content.body) <= $1 then content.body end as body, \
               cast(octet_length(content.body) as bigint) as bytes, content.content_type, result.state from {wanted} \
               left join message_content content \
               on content.app_id = wanted.app_id and content.message_id = wanted.message_id \
               left join delivery_result result on result.app_id = wanted.app_id \
               and result.message_id = wanted.message_id and result.endpoint_id = wanted.endpoint_id";
    let limit = [(LARGE_BODY as i32).into()];
    let found = tx
        .conn()
        .query_all_raw(statement(tx.backend(), sql, &[("wanted", &wanted)], limit))
        .await?;
    found
        .iter()
        .map(|row| {
            let row = Found::from_query_result(row, "")?;
            Ok((row.id.clone(), row))
        })
        .collect()
}
