//! Parks rows of endpoints that have no free slot: they leave the due index, so that a claim never reads past them.
//!
//! A parked row has no `due_at`. `claim_parked` leases parked rows when their endpoint has free slots again. Must not
//! decide which endpoints are saturated: the slots do.

use sea_orm::{ConnectionTrait, Statement};

use super::lift::in_index;
use crate::domain::typed_id::EndpointId;
use crate::error::Result;
use crate::slots::Lane;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::{Store, Tx};

/// The number of due rows, oldest first, that one [`park`] looks through.
const LOOK_AHEAD: i64 = 5_000;

/// Parks rows that this transaction has claimed, given by their ids.
pub(super) async fn park_rows(tx: &Tx, ids: Vec<&str>) -> Result<()> {
    let claimed = Rows::new([("id", Column::Text(ids))]);
    let sql = "update delivery set due_at = null, owner = null, lease_id = null where id in (select id from {claimed})";
    tx.conn()
        .execute_raw(statement(tx.backend(), sql, &[("claimed", &claimed)], []))
        .await?;
    Ok(())
}

/// Parks the rows of `endpoints` that are among the 5,000 oldest due rows of `lane`. So a long backlog of one endpoint
/// leaves the due index in steps of thousands of rows and not of one claim. The rows of other endpoints are read but
/// not locked, because the claims of other processes skip locked rows.
pub async fn park(tx: &Tx, lane: Lane, endpoints: &[EndpointId]) -> Result<()> {
    let backend = tx.backend();
    let saturated = Rows::new([(
        "endpoint_id",
        Column::Text(endpoints.iter().map(EndpointId::as_str).collect()),
    )]);
    let found = format!(
        "select id from (select id, endpoint_id from delivery where {} and due_at > $1 and due_at <= $2 \
         order by due_at, id limit $3) as oldest where endpoint_id in (select endpoint_id from {{saturated}})",
        in_index(lane)
    );
    // Another process may have leased some of these rows in the meantime. They are then due later, and are left out.
    let due = format!(
        "select id from delivery where {} and due_at <= $2 order by id {}",
        backend.is_among("id", &found),
        backend.skip_locked()
    );
    let sql = format!(
        "update delivery set due_at = null, owner = null, lease_id = null where {}",
        backend.is_among("id", &due)
    );
    let floor = tx.store().floors().of(lane, tx.now);
    let values = [floor.0.into(), tx.now.0.into(), LOOK_AHEAD.into()];
    tx.conn()
        .execute_raw(statement(backend, &sql, &[("saturated", &saturated)], values))
        .await?;
    Ok(())
}

/// Returns up to `most` endpoints with parked rows, in the order of their ids, from the first id after `after`. Jumps
/// through the index from endpoint to endpoint, so the number of rows does not matter.
pub async fn list_parked(store: &Store, after: &str, most: usize) -> Result<Vec<EndpointId>> {
    let sql = "with recursive jump(endpoint_id) as (\
               select * from (select endpoint_id from delivery where due_at is null and endpoint_id > $1 order by endpoint_id limit 1) as first \
               union all select (select d.endpoint_id from delivery d where d.due_at is null and d.endpoint_id > jump.endpoint_id \
               order by d.endpoint_id limit 1) from jump where jump.endpoint_id is not null) \
               select endpoint_id from jump where endpoint_id is not null limit $2";
    let values = [after.into(), (most as i64).into()];
    let statement = Statement::from_sql_and_values(store.backend().orm(), sql, values);
    let rows = store.pool().query_all_raw(statement).await?;
    rows.iter().map(|row| Ok(row.try_get("", "endpoint_id")?)).collect()
}
