//! Removes the rows of deleted endpoints and applications when their history is gone. Finds them by indexes that hold
//! nothing but deleted rows, so the cost does not depend on how many live. Must not decide when: the janitor does.

use sea_orm::{ConnectionTrait, QueryResult, Statement};

use super::database::rows::{Column, Rows, statement};
use super::database::tx::Tx;
use super::retention::{HISTORY, delete_found};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// Removes up to `most` endpoints that were deleted before `before`. Returns how many.
pub async fn prune_endpoints(tx: &Tx, before: Timestamp, most: u64) -> Result<u64> {
    let rows = found(tx, "app_id, id", "endpoint", before, most);
    delete_found(tx, "endpoint", &["app_id", "id"], rows).await
}

/// Removes those of the first `most` applications deleted before `before` of which nothing else is left. Returns how many.
/// One with endpoints or history stays until these have gone: only by its row is the history found.
pub async fn prune_applications(tx: &Tx, before: Timestamp, most: u64) -> Result<u64> {
    let deleted = tx
        .conn()
        .query_all_raw(found(tx, "id", "application", before, most))
        .await?;
    let id = |row: &QueryResult| row.try_get("", "id");
    let ids: Vec<String> = deleted.iter().map(id).collect::<Result<_, _>>()?;
    if ids.is_empty() {
        return Ok(0);
    }
    let rows = Rows::new([("id", Column::Text(ids.iter().map(String::as_str).collect()))]);
    let rest = HISTORY.map(|(table, key)| (table, key[1]));
    // With an order and a limit: Postgres would rather read a table from end to end for a `not exists`.
    let has_none = rest.into_iter().chain([("endpoint", "id")]).map(|(table, id)| {
        format!("(select 1 from {table} where {table}.app_id = application.id order by {table}.{id} limit 1) is null")
    });
    let has_none = has_none.collect::<Vec<_>>().join(" and ");
    let sql = format!("delete from application where id in (select id from {{t}}) and {has_none}");
    let delete = statement(tx.backend(), &sql, &[("t", &rows)], []);
    Ok(tx.conn().execute_raw(delete).await?.rows_affected())
}

/// The first rows that were deleted before `before`, locked, but for those that another transaction holds.
fn found(tx: &Tx, columns: &str, table: &str, before: Timestamp, most: u64) -> Statement {
    let lock = tx.backend().skip_locked();
    let sql = format!("select {columns} from {table} where deleted_at < $1 order by deleted_at limit $2 {lock}");
    let values = [before.0.into(), (most as i64).into()];
    Statement::from_sql_and_values(tx.backend().orm(), sql, values)
}
