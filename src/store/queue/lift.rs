//! Finds due rows below the floors, where no claim of this process looks, and makes them due now.
//!
//! Runs beside the claimer, which must never wait for it. On SQLite there are no floors, and nothing to do.

use sea_orm::{ConnectionTrait, Statement};

use crate::error::Result;
use crate::slots::Lane;
use crate::store::{Backend, Store};

/// The most rows of a lane that one [`lift`] makes due.
const LIFTED: i64 = 1_000;

/// Returns the condition on rows that are in the due index of `lane`. It is written with literals because Postgres
/// matches partial indexes against constants only.
pub(super) fn in_index(lane: Lane) -> &'static str {
    match lane {
        Lane::First => "due_at is not null and attempts_made = 0 and trigger = 0",
        Lane::Retry => "due_at is not null and (attempts_made > 0 or trigger <> 0)",
    }
}

/// Makes rows due now that lie below the floors. Returns whether there were any: commits come late then, and more rows
/// may appear there soon.
pub async fn lift(store: &Store) -> Result<bool> {
    if store.backend() == Backend::Sqlite {
        return Ok(false);
    }
    let now = store.clock().now();
    let lanes = [Lane::First, Lane::Retry].map(|lane| (lane, store.floors().of(lane, now)));
    // Usually there is nothing to lift: one read without a transaction finds that out.
    let [first, retry] = [Lane::First, Lane::Retry].map(in_index);
    let sql = format!(
        "select (select due_at from delivery where {first} and due_at <= $1 order by due_at, id limit 1) as first, \
         (select due_at from delivery where {retry} and due_at <= $2 order by due_at, id limit 1) as retry"
    );
    let values = lanes.map(|(_, floor)| floor.0.into());
    let statement = Statement::from_sql_and_values(store.backend().orm(), sql, values);
    let row = store.pool().query_one_raw(statement).await?;
    let Some(row) = row else { return Ok(false) };
    let found: [Option<i64>; 2] = [row.try_get("", "first")?, row.try_get("", "retry")?];
    let mut any = false;
    for ((lane, floor), _) in lanes.into_iter().zip(found).filter(|(_, found)| found.is_some()) {
        let tx = store.begin().await?;
        let below = format!(
            "select id from delivery where {} and due_at <= $2 order by due_at, id limit $3 {}",
            in_index(lane),
            tx.backend().skip_locked()
        );
        let sql = format!(
            "update delivery set due_at = $1, owner = null, lease_id = null where {}",
            tx.backend().is_among("id", &below)
        );
        let values = [tx.now.0.into(), floor.0.into(), LIFTED.into()];
        let lifted = tx
            .conn()
            .execute_raw(Statement::from_sql_and_values(tx.backend().orm(), sql, values))
            .await?
            .rows_affected();
        tx.wake_on_commit();
        tx.commit().await?;
        any |= lifted > 0;
    }
    Ok(any)
}
