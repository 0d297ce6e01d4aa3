//! Claims parked deliveries of endpoints that have free slots again: leases them to this process.
//!
//! Must not decide which endpoints, nor how many deliveries of each: the slots do.

use std::collections::HashMap;
use std::sync::Arc;

use sea_orm::{ConnectionTrait, Statement};

use super::claimed::{LEASE, ROW, lease_all, lease_values, read};
use super::lease::{Lease, LeaseTerms};
use crate::domain::timestamp::Timestamp;
use crate::domain::typed_id::{DeliveryId, EndpointId};
use crate::error::Result;
use crate::slots::{Grant, Lane, Slots};
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::{Backend, Tx};

/// The result of [`claim_parked`].
pub struct ParkedClaim {
    pub leases: Vec<Lease>,
    /// The endpoints of which fewer rows were found than were granted.
    pub empty: Vec<EndpointId>,
}

/// The rows of an endpoint that a claim has found.
#[derive(Default)]
struct Brought<'a> {
    rows: usize,
    /// The greatest id among them; `None` means that there are none.
    last: Option<&'a DeliveryId>,
}

/// Leases parked rows, oldest first: of each endpoint at most the granted number.
///
/// Raises the floors of the endpoints. If the transaction does not commit, the caller must forget these floors.
pub async fn claim_parked(tx: &Tx, slots: &Arc<Slots>, terms: &LeaseTerms, grants: &[Grant]) -> Result<ParkedClaim> {
    if grants.is_empty() {
        return Ok(ParkedClaim {
            leases: Vec::new(),
            empty: Vec::new(),
        });
    }
    let floors = tx.store().floors();
    let from: Vec<_> = match tx.backend() {
        Backend::Sqlite => vec![String::new(); grants.len()],
        Backend::Postgres => {
            let from = |grant: &Grant| floors.first_parked(&grant.endpoint_id, tx.began);
            grants.iter().map(from).collect()
        }
    };
    let rows = tx
        .conn()
        .query_all_raw(claim_parked_statement(tx.backend(), terms, tx.now, grants, &from))
        .await?;
    let claimed = read(&rows)?;
    let mut brought: HashMap<&EndpointId, Brought> = HashMap::new();
    for row in &claimed {
        let of_endpoint = brought.entry(&row.endpoint_id).or_default();
        of_endpoint.rows += 1;
        of_endpoint.last = of_endpoint.last.max(Some(&row.id));
    }
    let mut empty = Vec::new();
    for grant in grants {
        let of_endpoint = brought.get(&grant.endpoint_id);
        if let Some(last) = of_endpoint.and_then(|brought| brought.last) {
            floors.raise_parked(&grant.endpoint_id, last);
        }
        if of_endpoint.map_or(0, |brought| brought.rows) < grant.rows {
            empty.push(grant.endpoint_id.clone());
        }
    }
    let leased = lease_all(tx, slots, terms, Lane::Retry, claimed).await?;
    Ok(ParkedClaim {
        leases: leased.leases,
        empty,
    })
}

/// Builds the claim of parked rows of many endpoints in one round trip: of each at most the granted number, in the order
/// of their ids, from its id in `from` on.
pub fn claim_parked_statement(
    backend: Backend,
    terms: &LeaseTerms,
    now: Timestamp,
    grants: &[Grant],
    from: &[String],
) -> Statement {
    let wanted = Rows::new([
        (
            "endpoint_id",
            Column::Text(grants.iter().map(|grant| grant.endpoint_id.as_str()).collect()),
        ),
        ("first_id", Column::Text(from.iter().map(String::as_str).collect())),
        (
            "room",
            Column::Int(grants.iter().map(|grant| grant.rows as i64).collect()),
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
