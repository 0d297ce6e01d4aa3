//! Claims parked deliveries of endpoints that have free slots again: leases them to this process.
//!
//! Must not decide which endpoints, nor how many deliveries of each: the slots do.

use std::collections::HashMap;
use std::sync::Arc;

use sea_orm::{ConnectionTrait, Statement};

use super::claimed::{LEASE, ROW, lease_all, lease_values, read};
use super::lease::{Lease, LeaseTerms};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::slots::{Lane, Slots};
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::{Backend, Tx};

/// Leases parked rows, oldest first: of each endpoint at most the given number. Returns the leases, and the endpoints
/// of which fewer rows were found.
///
/// Raises the floors of `endpoints`. If the transaction does not commit, the caller must forget these floors.
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
    let claimed = read(&rows)?;
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
