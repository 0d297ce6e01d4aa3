//! Looks over the deliveries of one organization that are in the queue: how many, at which endpoints, and since when.
//!
//! The queue knows no organizations, and an index for this would cost every message. So the look is bounded by rows, not
//! by what it finds: the oldest 10,000 rows of each lane; and of the parked ones, which an index has by endpoint, those of
//! the first 1,000 endpoints. It jumps from endpoint to endpoint, so one with a million parked rows hides no other. If a
//! bound is reached, all numbers are lower bounds. Must not change anything.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::{ConnectionTrait, QueryResult, TransactionOptions, Value};

use super::lift::in_index;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::slots::Lane;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::{Backend, Store};

/// The rows of each lane that are looked at, and the parked rows of an endpoint that are counted.
const LOOK_MOST: i64 = 10_000;
/// The endpoints with parked rows that are looked at, of all organizations.
const ENDPOINTS_MOST: i64 = 1_000;
/// The parked rows that are counted in all, unless each endpoint has few.
const PARKED_MOST: i64 = 200_000;
/// How long each statement may take on Postgres. They take some tens of milliseconds even if all bounds are reached.
const DEADLINE: Duration = Duration::from_secs(1);

/// What one endpoint has in the queue.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EndpointQueue {
    pub app_id: String,
    pub endpoint_id: String,
    /// The deliveries that are not under way: due, due later, or parked.
    pub waiting: i64,
    /// Those of them whose time has come.
    pub due: i64,
    /// Those of them that wait until the endpoint may get more requests.
    pub parked: i64,
    pub sending: i64,
    /// The instant since which the oldest due delivery is due.
    pub due_since: Option<Timestamp>,
}

/// What an organization has in the queue.
#[derive(Debug)]
pub struct Overview {
    /// The endpoints that have something in the queue.
    pub endpoints: Vec<EndpointQueue>,
    /// Whether a bound was reached, so that there may be more.
    pub is_capped: bool,
}

/// Looks over the queue of an organization.
pub async fn find_overview(store: &Store, org_id: &str) -> Result<Overview> {
    match store.backend() {
        // Its connections for reads have a deadline of their own.
        Backend::Sqlite => look(store, store.pool(), org_id).await,
        Backend::Postgres => {
            let tx = store.pool().begin(TransactionOptions::default()).await?;
            let deadline = format!("set local statement_timeout = {}", DEADLINE.as_millis());
            tx.execute_unprepared(&deadline).await?;
            let found = look(store, &tx, org_id).await?;
            tx.commit().await?;
            Ok(found)
        }
    }
}

async fn look(store: &Store, on: &impl ConnectionTrait, org_id: &str) -> Result<Overview> {
    let mut endpoints = BTreeMap::new();
    let mut is_capped = look_at_lanes(store, on, org_id, &mut endpoints).await?;
    is_capped |= look_at_parked(store, on, org_id, &mut endpoints).await?;
    Ok(Overview {
        endpoints: endpoints.into_values().collect(),
        is_capped,
    })
}

type ById = BTreeMap<String, EndpointQueue>;

/// Returns the endpoint that a row is about.
fn endpoint<'a>(row: &QueryResult, endpoints: &'a mut ById) -> Result<&'a mut EndpointQueue> {
    let id: String = row.try_get("", "endpoint_id")?;
    let endpoint = endpoints.entry(id.clone()).or_default();
    endpoint.app_id = row.try_get("", "app_id")?;
    endpoint.endpoint_id = id;
    Ok(endpoint)
}

/// Adds what is due now or later, and what is under way. Returns whether there may be more.
async fn look_at_lanes(store: &Store, on: &impl ConnectionTrait, org_id: &str, endpoints: &mut ById) -> Result<bool> {
    let now = store.clock().now();
    let lanes = [(0, Lane::First, "$2"), (1, Lane::Retry, "$3")];
    let [first, retry] = lanes.map(|(number, lane, floor)| {
        format!(
            "select * from (select {number} as lane, app_id, endpoint_id, owner, due_at from delivery \
             where {} and due_at > {floor} order by due_at, id limit $4) as oldest",
            in_index(lane)
        )
    });
    // The organization is looked up for each group and not joined: for so many rows the planner would read all applications.
    let sql = format!(
        "with live as materialized ({first} union all {retry}), grouped as materialized (\
         select app_id, endpoint_id, count(*) as found, \
         sum(case when owner is not null and due_at > $1 then 1 else 0 end) as sending, \
         sum(case when due_at <= $1 then 1 else 0 end) as due, \
         min(case when due_at <= $1 then due_at end) as due_since from live group by app_id, endpoint_id) \
         select app_id, endpoint_id, found, sending, due, due_since from grouped \
         where (select a.org_id from application a where a.id = grouped.app_id) = $5 \
         union all select '', '', count(*), 0, 0, cast(null as bigint) from live group by lane"
    );
    let floors = lanes.map(|(_, lane, _)| Value::from(store.floors().of(lane, now).0));
    let values = [now.0.into()].into_iter().chain(floors);
    let values = values.chain([LOOK_MOST.into(), org_id.into()]);
    let mut is_capped = false;
    for row in &on.query_all_raw(statement(store.backend(), &sql, &[], values)).await? {
        let found: i64 = row.try_get("", "found")?;
        if row.try_get::<String>("", "endpoint_id")?.is_empty() {
            is_capped |= found >= LOOK_MOST;
            continue;
        }
        let endpoint = endpoint(row, endpoints)?;
        endpoint.sending = row.try_get("", "sending")?;
        endpoint.waiting += found - endpoint.sending;
        endpoint.due = row.try_get("", "due")?;
        endpoint.due_since = row.try_get("", "due_since")?;
    }
    Ok(is_capped)
}

/// Finds the organization's endpoints with parked rows, and how many endpoints were looked at, as a row without an
/// endpoint.
const PARKED_ENDPOINTS: &str = "with recursive jump(endpoint_id) as (\
    select * from (select endpoint_id from delivery where due_at is null and endpoint_id > '' order by endpoint_id limit 1) as first \
    union all select (select d.endpoint_id from delivery d where d.due_at is null and d.endpoint_id > jump.endpoint_id \
    order by d.endpoint_id limit 1) from jump where jump.endpoint_id is not null), \
    found as materialized (select endpoint_id from jump where endpoint_id is not null limit $1), \
    named as materialized (select endpoint_id, (select d.app_id from delivery d where d.due_at is null \
    and d.endpoint_id = found.endpoint_id order by d.id limit 1) as app_id from found) \
    select app_id, endpoint_id, cast(0 as bigint) as looked from named \
    where (select a.org_id from application a where a.id = named.app_id) = $2 \
    union all select '', '', count(*) from found";

// In the order of the index: otherwise Postgres may read the whole table, in the hope to find enough rows soon.
const PARKED_COUNTS: &str = "select t.endpoint_id, (select count(*) from (select 1 from delivery d \
    where d.due_at is null and d.endpoint_id = t.endpoint_id order by d.id limit $1) as counted) as parked from {t}";

/// Adds what is parked. Returns whether there may be more.
async fn look_at_parked(store: &Store, on: &impl ConnectionTrait, org_id: &str, endpoints: &mut ById) -> Result<bool> {
    let values = [ENDPOINTS_MOST.into(), org_id.into()];
    let found = on
        .query_all_raw(statement(store.backend(), PARKED_ENDPOINTS, &[], values))
        .await?;
    let (mut ids, mut is_capped) = (Vec::new(), false);
    for row in &found {
        match row.try_get::<String>("", "endpoint_id")? {
            id if id.is_empty() => is_capped = row.try_get::<i64>("", "looked")? >= ENDPOINTS_MOST,
            id => {
                endpoint(row, endpoints)?;
                ids.push(id);
            }
        }
    }
    if ids.is_empty() {
        return Ok(is_capped);
    }
    let most = (PARKED_MOST / ids.len() as i64).clamp(LOOK_MOST / 10, LOOK_MOST);
    let ids = Rows::new([("endpoint_id", Column::Text(ids.iter().map(String::as_str).collect()))]);
    let counts = statement(store.backend(), PARKED_COUNTS, &[("t", &ids)], [most.into()]);
    for row in &on.query_all_raw(counts).await? {
        let parked: i64 = row.try_get("", "parked")?;
        is_capped |= parked >= most;
        if let Some(endpoint) = endpoints.get_mut(&row.try_get::<String>("", "endpoint_id")?) {
            endpoint.parked = parked;
            endpoint.waiting += parked;
        }
    }
    Ok(is_capped)
}
