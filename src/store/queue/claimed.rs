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
use crate::domain::typed_id::{AppId, DeliveryId, EndpointId, MessageId};
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
    pub id: DeliveryId,
    app_id: AppId,
    message_id: MessageId,
    pub endpoint_id: EndpointId,
    trigger: Trigger,
    attempts_made: i32,
}

/// Reads the rows of a claim.
pub(super) fn read(rows: &[QueryResult]) -> Result<Vec<Claimed>> {
    let rows = rows.iter().map(|row| Claimed::from_query_result(row, ""));
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The result of [`lease_all`].
#[derive(Default)]
pub(super) struct Leased {
    pub leases: Vec<Lease>,
    /// The endpoints of the rows that were parked.
    pub saturated: Vec<EndpointId>,
}

/// A claimed row that has got a slot.
struct Placed {
    row: Claimed,
    slot: Slot,
}

/// Gives claimed rows their slots, targets and contents, in the order of their ids. Parks rows for which there is no
/// slot.
pub(super) async fn lease_all(
    tx: &Tx,
    slots: &Arc<Slots>,
    terms: &LeaseTerms,
    lane: Lane,
    mut rows: Vec<Claimed>,
) -> Result<Leased> {
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    if rows.is_empty() {
        return Ok(Leased::default());
    }
    share_ids(&mut rows);
    let targets = find_targets(tx, &rows).await?;
    let mut placed: Vec<Placed> = Vec::with_capacity(rows.len());
    let mut parked: Vec<Claimed> = Vec::new();
    for row in rows {
        let slot = match targets.get(&row.endpoint_id) {
            Some(target) => slots.take(&row.endpoint_id, &row.app_id, &target.throttle, lane),
            None => {
                slots.set_gone(&row.endpoint_id);
                slots.take(&row.endpoint_id, &row.app_id, &Throttle::default(), lane)
            }
        };
        match slot {
            Some(slot) => placed.push(Placed { row, slot }),
            None => parked.push(row),
        }
    }
    let mut saturated: Vec<_> = parked.iter().map(|row| row.endpoint_id.clone()).collect();
    saturated.sort();
    saturated.dedup();
    if !parked.is_empty() {
        park_rows(tx, parked.iter().map(|row| row.id.as_str()).collect()).await?;
        tx.store().floors().forget_parked(&saturated);
        if slots.set_parked(&saturated) {
            tx.wake_on_commit();
        }
    }
    let leases = fill(tx, terms, placed, &targets).await?;
    Ok(Leased { leases, saturated })
}

/// Makes rows of the same endpoint share its id and its application's, because slots and leases keep them.
fn share_ids(rows: &mut [Claimed]) {
    let mut known: HashMap<EndpointId, AppId> = HashMap::new();
    for row in rows {
        match known.get_key_value(&row.endpoint_id) {
            Some((endpoint_id, app_id)) if *app_id == row.app_id => {
                (row.endpoint_id, row.app_id) = (endpoint_id.clone(), app_id.clone());
            }
            _ => drop(known.insert(row.endpoint_id.clone(), row.app_id.clone())),
        }
    }
}

/// Builds the lease of each row that has got a slot. Reads the payload of its message, and whether the message has been
/// delivered to the endpoint meanwhile; a manual delivery is sent all the same.
async fn fill(
    tx: &Tx,
    terms: &LeaseTerms,
    placed: Vec<Placed>,
    targets: &HashMap<EndpointId, Arc<Target>>,
) -> Result<Vec<Lease>> {
    if placed.is_empty() {
        return Ok(Vec::new());
    }
    let mut contents = find_contents(tx, &placed).await?;
    let ends_at = tx.began + terms.lasts;
    let leases = placed.into_iter().map(|Placed { row, slot }| {
        let mut found = contents.remove(&row.id);
        let delivered_already = found.as_ref().is_some_and(Found::is_delivered);
        let content_type = found.as_mut().and_then(|found| found.content_type.take());
        Lease {
            target: targets.get(&row.endpoint_id).cloned(),
            delivery_id: row.id,
            message_id: row.message_id,
            delivered_already: delivered_already && row.trigger == Trigger::Scheduled,
            trigger: row.trigger,
            attempts_made: row.attempts_made,
            lease_id: terms.lease_id,
            ends_at,
            content: found.map_or(Content::Gone, Found::content),
            content_type: content_type.map(Into::into),
            slot,
        }
    });
    Ok(leases.collect())
}

/// Returns the endpoints of `rows` as they are now, by id. Leaves out those that are deleted or disabled, or whose
/// application is deleted.
async fn find_targets(tx: &Tx, rows: &[Claimed]) -> Result<HashMap<EndpointId, Arc<Target>>> {
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
        let target = Target::from(TargetRow::from_query_result(row, "")?);
        targets.insert(target.endpoint_id.clone(), Arc::new(target));
    }
    Ok(targets)
}

/// The content of a delivery's message, and its result at the endpoint.
#[derive(FromQueryResult)]
struct Found {
    /// The delivery's id.
    id: DeliveryId,
    /// `None` if the body is large or gone.
    body: Option<String>,
    /// The size of the body; `None` if it is gone.
    bytes: Option<i64>,
    content_type: Option<String>,
    /// `None` if there is no result yet.
    state: Option<ResultState>,
}

impl Found {
    fn content(self) -> Content {
        match (self.body, self.bytes) {
            (Some(body), _) => Content::Body(body.into()),
            (None, Some(bytes)) => Content::Large(usize::try_from(bytes).unwrap_or(usize::MAX)),
            (None, None) => Content::Gone,
        }
    }

    fn is_delivered(&self) -> bool {
        self.state == Some(ResultState::Delivered)
    }
}

/// Returns the contents and results of `rows`, by delivery id.
async fn find_contents(tx: &Tx, rows: &[Placed]) -> Result<HashMap<DeliveryId, Found>> {
    let wanted = Rows::new([
        (
            "id",
            Column::Text(rows.iter().map(|placed| placed.row.id.as_str()).collect()),
        ),
        (
            "app_id",
            Column::Text(rows.iter().map(|placed| placed.row.app_id.as_str()).collect()),
        ),
        (
            "message_id",
            Column::Text(rows.iter().map(|placed| placed.row.message_id.as_str()).collect()),
        ),
        (
            "endpoint_id",
            Column::Text(rows.iter().map(|placed| placed.row.endpoint_id.as_str()).collect()),
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
