//! Claims due deliveries: leases them to this process, in batches.
//!
//! First attempts and retries (with resends and replays) are claimed apart, each lane by its own partial index. Rows
//! that other processes are claiming are skipped.
//!
//! Must not send, and must not decide how much to claim: the claimer does.

use std::sync::Arc;

use sea_orm::{ConnectionTrait, Statement};

use super::claimed::{LEASE, Leased, ROW, lease_all, lease_values, read};
use super::lease::{Lease, LeaseTerms};
use super::lift::in_index;
use super::park::park;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::slots::{Lane, Slots};
use crate::store::{Backend, Tx};

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
    let Leased { leases, saturated } = lease_all(tx, slots, terms, lane, read(&rows)?).await?;
    if found == most && !saturated.is_empty() {
        park(tx, lane, &saturated).await?;
    }
    Ok(DueClaim { leases, found, drained })
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
