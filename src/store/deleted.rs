//! Removes the rows of deleted endpoints and applications when their history is gone. Finds them by indexes that hold
//! nothing but deleted rows, so the cost does not depend on how many live. Must not decide when: the janitor does.

use sea_orm::Statement;

use super::retention::{HISTORY, delete_found};
use super::tx::Tx;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// Removes up to `most` endpoints that were deleted before `before`. Returns how many.
pub async fn prune_endpoints(tx: &Tx, before: Timestamp, most: u64) -> Result<u64> {
    let key = ["app_id", "id"];
    delete_found(tx, "endpoint", &key, find(tx, "endpoint", &key, "true", before, most)).await
}

/// Removes up to `most` applications that were deleted before `before` and of which nothing else is left. Returns how
/// many. One with endpoints or history stays until these have gone: only by its row is the history found.
pub async fn prune_applications(tx: &Tx, before: Timestamp, most: u64) -> Result<u64> {
    let rest = HISTORY.map(|(table, key)| (table, key[1]));
    // With an order and a limit: Postgres would rather read a table from end to end for a `not exists`.
    let has_none = rest.into_iter().chain([("endpoint", "id")]).map(|(table, id)| {
        format!("(select 1 from {table} where {table}.app_id = application.id order by {table}.{id} limit 1) is null")
    });
    let has_none = has_none.collect::<Vec<_>>().join(" and ");
    let found = find(tx, "application", &["id"], &has_none, before, most);
    delete_found(tx, "application", &["id"], found).await
}

/// The first rows that were deleted before `before` and meet `condition`, locked, but for those that another transaction
/// holds.
fn find(tx: &Tx, table: &str, key: &[&str], condition: &str, before: Timestamp, most: u64) -> Statement {
    let (columns, lock) = (key.join(", "), tx.backend().skip_locked());
    let sql = format!(
        "select {columns} from {table} where deleted_at < $1 and {condition} order by deleted_at limit $2 {lock}"
    );
    let values = [before.0.into(), (most as i64).into()];
    Statement::from_sql_and_values(tx.backend().orm(), sql, values)
}
