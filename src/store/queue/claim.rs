//! Claims deliveries: leases due and parked rows to this process, in batches.
//!
//! First attempts and retries (with resends and replays) are claimed apart, each lane by its own partial index. Every
//! leased row takes a slot; a row for which there is none is parked, so that no claim reads it again until its endpoint
//! has a free slot. Rows that other processes are claiming are skipped.
//!
//! Must not send, and must not decide how much to claim: the claimer does.

use std::collections::HashMap;
use std::sync::Arc;

use sea_orm::{ConnectionTrait, FromQueryResult, Statement, Value};

use super::lease::{Content, LARGE_BODY, Lease, LeaseTerms, TARGET_BUT_HEADERS, Target, TargetRow};
use super::lift::in_index;
use super::park::{park, park_rows};
use crate::domain::delivery::{ResultState, Trigger};
use crate::domain::throttle::Throttle;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::slots::{Lane, Slot, Slots};
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::{Backend, Tx};

/// A row that a claim has leased.
#[derive(FromQueryResult)]
struct Claimed {
    id: String,
    app_id: String,
    message_id: String,
    endpoint_id: String,
    trigger: Trigger,
    attempts_made: i32,
}

/// The result of [`claim`].
pub struct DueClaim {
    pub leases: Vec<Lease>,
    /// The number of due rows that were found, with those that were parked because they got no slot.
    pub found: usize,
    /// The due time up to which all rows of the lane are taken, once the transaction commits. `None` on SQLite, which
    /// needs no floors.
    pub drained: Option<Timestamp>,
}

/// Leases up to `most` due rows of `lane`, oldest first, and gives each a slot. Parks rows of endpoints that have no
/// free slot.
pub async fn claim(tx: &Tx, slots: &Arc<Slots>, terms: &LeaseTerms, lane: Lane, most: usize) -> Result<DueClaim> {
    let floor = tx.store().floors().of(lane, tx.now);
    let rows = tx
        .conn()
        .query_all_raw(claim_statement(tx.backend(), terms, lane, (floor, tx.now), most))
        .await?;
    let found = rows.len();
    let drained = match (tx.backend(), rows.first()) {
        // SQLite leaves no deleted entries in an index, so it needs no floor.
        (Backend::Sqlite, _) => None,
        (Backend::Postgres, Some(row)) if found == most => Some(Timestamp(row.try_get("", "last_due")?)),
        (Backend::Postgres, _) => Some(tx.now),
    };
    let rows = rows
        .iter()
        .map(|row| Claimed::from_query_result(row, ""))
        .collect::<Result<Vec<_>, _>>()?;
    let (leases, saturated) = lease_all(tx, slots, terms, lane, rows).await?;
    if found == most && !saturated.is_empty() {
        park(tx, lane, &saturated).await?;
    }
    Ok(DueClaim { leases, found, drained })
}

/// Leases parked rows, oldest first: of each endpoint at most the given number. Returns the leases, and the endpoints
/// that have no parked rows left. Raises the floors of `endpoints`, so the caller must forget these if the transaction
/// does not commit.
pub async fn claim_parked(
    tx: &Tx,
    slots: &Arc<Slots>,
    terms: &LeaseTerms,
    endpoints: &[(Arc<str>, usize)],
) -> Result<(Vec<Lease>, Vec<Arc<str>>)> {
    if endpoints.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let floors = tx.store().floors();
    let from: Vec<_> = match tx.backend() {
        Backend::Sqlite => vec![String::new(); endpoints.len()],
        Backend::Postgres => {
            let from = |(endpoint, _): &(Arc<str>, usize)| floors.first_parked(endpoint, tx.began);
            endpoints.iter().map(from).collect()
        }
    };
    let rows = tx
        .conn()
        .query_all_raw(claim_parked_statement(tx.backend(), terms, tx.now, endpoints, &from))
        .await?;
    let claimed = rows
        .iter()
        .map(|row| Claimed::from_query_result(row, ""))
        .collect::<Result<Vec<_>, _>>()?;
    let mut brought: HashMap<&str, (usize, &str)> = HashMap::new();
    for row in &claimed {
        let (count, last) = brought.entry(&row.endpoint_id).or_default();
        *count += 1;
        *last = (*last).max(&row.id);
    }
    let mut empty = Vec::new();
    for (endpoint, room) in endpoints {
        let (count, last) = brought.get(&**endpoint).copied().unwrap_or_default();
        floors.raise_parked(endpoint, last);
        if count < *room {
            empty.push(endpoint.clone());
        }
    }
    let (leases, _) = lease_all(tx, slots, terms, Lane::Retry, claimed).await?;
    Ok((leases, empty))
}

/// Builds the claim of due rows of `lane` with a due time above the first of the two instants and not above the second.
pub fn claim_statement(
    backend: Backend,
    terms: &LeaseTerms,
    lane: Lane,
    (floor, now): (Timestamp, Timestamp),
    most: usize,
) -> Statement {
    let found = format!(
        "select id, due_at from delivery where {} and due_at > $4 and due_at <= $5 order by due_at, id limit $6 {}",
        in_index(lane),
        backend.skip_locked()
    );
    let sql = match backend {
        Backend::Sqlite => format!("{LEASE} where id in (select id from ({found})) returning {ROW}"),
        Backend::Postgres => format!(
            "with found as materialized ({found}) {LEASE} where id = any(array(select id from found)) \
             returning {ROW}, (select max(due_at) from found) as last_due"
        ),
    };
    let range = [floor.0.into(), now.0.into(), (most as i64).into()];
    let values = lease_values(terms, now).into_iter().chain(range);
    Statement::from_sql_and_values(backend.orm(), sql, values)
}

/// Builds the claim of parked rows of many endpoints in one round trip: of each at most the given number, in the order
/// of their ids, from its id in `from` on.
pub fn claim_parked_statement(
    backend: Backend,
    terms: &LeaseTerms,
    now: Timestamp,
    endpoints: &[(Arc<str>, usize)],
    from: &[String],
) -> Statement {
    let wanted = Rows::new([
        (
            "endpoint_id",
            Column::Text(endpoints.iter().map(|(endpoint, _)| &**endpoint).collect()),
        ),
        ("first_id", Column::Text(from.iter().map(String::as_str).collect())),
        (
            "room",
            Column::Int(endpoints.iter().map(|(_, room)| *room as i64).collect()),
        ),
    ]);
    let found = match backend {
        // In SQLite a limit cannot come from a row, so the query goes from one id to the next.
        Backend::Sqlite => {
            "with recursive parked(endpoint_id, room, id) as (\
             select wanted.endpoint_id, wanted.room, (select d.id from delivery d where d.due_at is null \
             and d.endpoint_id = wanted.endpoint_id and d.id >= wanted.first_id order by d.id limit 1) from {wanted} \
             union all select parked.endpoint_id, parked.room - 1, (select d.id from delivery d where d.due_at is null \
             and d.endpoint_id = parked.endpoint_id and d.id > parked.id order by d.id limit 1) \
             from parked where parked.room > 1 and parked.id is not null) \
             select id from parked where id is not null"
        }
        Backend::Postgres => {
            "select parked.id from {wanted} cross join lateral (select id from delivery where due_at is null \
             and endpoint_id = wanted.endpoint_id and id >= wanted.first_id order by id limit wanted.room \
             for update skip locked) as parked"
        }
    };
    let sql = format!("{LEASE} where {} returning {ROW}", backend.is_among("id", found));
    statement(backend, &sql, &[("wanted", &wanted)], lease_values(terms, now))
}

const LEASE: &str = "update delivery set due_at = $1, owner = $2, lease_id = $3";
const ROW: &str = "id, app_id, message_id, endpoint_id, trigger, attempts_made";

/// Returns the values of [`LEASE`].
fn lease_values(terms: &LeaseTerms, now: Timestamp) -> [Value; 3] {
    [
        now.plus(terms.lasts).0.into(),
        (&*terms.owner).into(),
        terms.lease_id.into(),
    ]
}

/// Gives claimed rows their slots, targets and contents, in the order of their ids. Parks rows for which there is no
/// slot. Returns the leases, and the endpoints of the rows that it has parked.
async fn lease_all(
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

/// Makes the leases of rows that have a slot.
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

/// Makes rows due again that a claim has leased whose commit was not answered: no process sends them. Leaves out rows
/// that another transaction has locked. Returns the leases that are still in the database, by delivery id and lease id.
pub async fn release_lost(tx: &Tx, leases: impl IntoIterator<Item = (&str, i64)>) -> Result<Vec<(String, i64)>> {
    const JOINED: &str = "from {lost} join delivery d on d.id = lost.id and d.lease_id = lost.lease";
    let (ids, lease_ids): (Vec<_>, Vec<_>) = leases.into_iter().unzip();
    let lost = Rows::new([("id", Column::Text(ids)), ("lease", Column::Int(lease_ids))]);
    let lock = match tx.backend() {
        Backend::Sqlite => "",
        Backend::Postgres => "for update of d skip locked",
    };
    let sql = format!(
        "update delivery set due_at = $1, owner = null, lease_id = null where {}",
        tx.backend().is_among("id", &format!("select d.id {JOINED} {lock}"))
    );
    let tables = [("lost", &lost)];
    tx.conn()
        .execute_raw(statement(tx.backend(), &sql, &tables, [tx.now.0.into()]))
        .await?;
    let sql = format!("select d.id, d.lease_id {JOINED}");
    let left = tx
        .conn()
        .query_all_raw(statement(tx.backend(), &sql, &tables, []))
        .await?;
    left.iter()
        .map(|row| Ok((row.try_get("", "id")?, row.try_get("", "lease_id")?)))
        .collect()
}
