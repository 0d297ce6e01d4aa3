//! Makes leases of the rows that a claim has taken.
//!
//! Every leased row takes a slot; a row for which there is none is parked, so that no claim reads it again until its
//! endpoint has a free slot. A lease gets its endpoint and payload as they are now. Must not choose rows.

use std::collections::HashMap;
use std::sync::Arc;

use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult, Value};

use super::lease::{Content, LARGE_BODY, Lease, LeaseTerms, TARGET_BUT_HEADERS, Target, TargetRow};
use super::park::park_rows;
use crate::domain::delivery::{ResultState, Trigger};
use crate::domain::throttle::Throttle;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::slots::{Lane, Slot, Slots};
use crate::store::Tx;
use crate::store::database::rows::{Column, Rows, statement};

/// The beginning of the statement of a claim. Its values are those of [`lease_values`].
pub(super) const LEASE: &str = "update delivery set due_at = $1, owner = $2, lease_id = $3";
/// The columns of a claimed row.
pub(super) const ROW: &str = "id, app_id, message_id, endpoint_id, trigger, attempts_made";

/// Returns the values of [`LEASE`].
pub(super) fn lease_values(terms: &LeaseTerms, now: Timestamp) -> [Value; 3] {
    [
        now.plus(terms.lasts).0.into(),
        (&*terms.owner).into(),
        terms.lease_id.into(),
    ]
}

/// A row that a claim has leased.
#[derive(FromQueryResult)]
pub(super) struct Claimed {
    pub id: String,
    app_id: String,
    message_id: String,
    pub endpoint_id: String,
    trigger: Trigger,
    attempts_made: i32,
}

/// Reads the rows of a claim.
pub(super) fn read(rows: &[QueryResult]) -> Result<Vec<Claimed>> {
    let rows = rows.iter().map(|row| Claimed::from_query_result(row, ""));
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Gives claimed rows their slots, targets and contents, in the order of their ids. Parks rows for which there is no
/// slot. Returns the leases, and the endpoints of the rows that it has parked.
pub(super) async fn lease_all(
    tx: &Tx,
    slots: &Arc<Slots>,
    terms: &LeaseTerms,
    lane: Lane,
    mut rows: Vec<Claimed>,
) -> Result<(Vec<Lease>, Vec<Arc<str>>)> {
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    let mut names: HashMap<String, Arc<str>> = HashMap::new();
    for row in &rows {
        if !names.contains_key(&row.endpoint_id) {
            names.insert(row.endpoint_id.clone(), row.endpoint_id.as_str().into());
        }
    }
    if rows.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let targets = find_targets(tx, &rows, &names).await?;
    let unthrottled = Throttle::new();
    let mut placed: Vec<(Claimed, Slot)> = Vec::with_capacity(rows.len());
    let mut saturated: Vec<(Claimed, Arc<str>)> = Vec::new();
    for row in rows {
        let endpoint = names[&row.endpoint_id].clone();
        let slot = match targets.get(&row.endpoint_id) {
            Some(target) => slots.take(&endpoint, &target.app_id, &target.throttle, lane),
            None => {
                slots.set_gone(&endpoint);
                slots.take(&endpoint, &row.app_id.as_str().into(), &unthrottled, lane)
            }
        };
        match slot {
            Some(slot) => placed.push((row, slot)),
            None => saturated.push((row, endpoint)),
        }
    }
    let mut endpoints: Vec<_> = saturated.iter().map(|(_, endpoint)| endpoint.clone()).collect();
    endpoints.sort();
    endpoints.dedup();
    if !saturated.is_empty() {
        park_rows(tx, saturated.iter().map(|(row, _)| row.id.as_str()).collect()).await?;
        tx.store().floors().forget_parked(&endpoints);
        if slots.set_parked(&endpoints) {
            tx.wake_on_commit();
        }
    }
    Ok((fill(tx, terms, placed, &targets, &names).await?, endpoints))
}

/// Builds the lease of each row that has got a slot. Reads the payload of its message, and whether the message has been
/// delivered to the endpoint meanwhile; a manual delivery is sent all the same.
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
            attempts_made: row.attempts_made,
            lease_id: terms.lease_id,
            ends_at,
            content,
            content_type,
            slot,
        }
    });
    Ok(leases.collect())
}

/// Returns the endpoints of `rows` as they are now, by id. Leaves out those that are deleted or disabled, or whose
/// application is deleted.
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

/// The content of a delivery's message, and its result at the endpoint.
#[derive(FromQueryResult)]
struct Found {
    /// The delivery's id.
    id: String,
    /// `None` if the body is large or gone.
    body: Option<String>,
    /// The size of the body; `None` if it is gone.
    bytes: Option<i64>,
    content_type: Option<String>,
    /// `None` if there is no result yet.
    state: Option<ResultState>,
}

impl Found {
    /// Returns the content with its media type.
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

/// Returns the contents and results of `rows`, by delivery id.
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
