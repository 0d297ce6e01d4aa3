//! Removes the rows of deleted endpoints and applications once their history is gone.
//!
//! Finds them by indexes that hold only deleted rows, so the cost does not depend on how many others there are. Must
//! not decide when a row may go: the janitor does.

use sea_orm::{ConnectionTrait, QueryResult, Statement};

use super::database::rows::{Column, Rows, statement};
use super::database::tx::Tx;
use super::endpoint_hour;
use super::retention::HISTORY;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// Removes up to `most` endpoints that were deleted before `before`, with the sums of their attempts. Returns how many
/// rows of endpoints or of sums: while an endpoint has sums, it keeps its row.
pub async fn prune_endpoints(tx: &Tx, before: Timestamp, most: u64) -> Result<u64> {
    let found = tx
        .conn()
        .query_all_raw(found(tx, "app_id, id", "endpoint", before, most))
        .await?;
    if found.is_empty() {
        return Ok(0);
    }
    let texts = |name: &str| -> Result<Vec<String>> {
        let text = |row: &QueryResult| Ok(row.try_get("", name)?);
        found.iter().map(text).collect()
    };
    let (apps, ids) = (texts("app_id")?, texts("id")?);
    let rows = Rows::new([
        ("app_id", Column::Text(apps.iter().map(String::as_str).collect())),
        ("id", Column::Text(ids.iter().map(String::as_str).collect())),
    ]);
    if endpoint_hour::prune_of(tx, &rows, most).await? == most {
        return Ok(most);
    }
    let sql = "delete from endpoint where (app_id, id) in (select app_id, id from {t})";
    let delete = statement(tx.backend(), sql, &[("t", &rows)], []);
    Ok(tx.conn().execute_raw(delete).await?.rows_affected())
}

/// Looks at the first `most` applications that were deleted before `before`, and removes those that have neither
/// endpoints nor history left. Returns how many. The others keep their rows, because an application's history is only
/// found by way of its row.
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
    let rest = HISTORY.iter().filter(|table| table.has_app);
    let rest = rest.map(|table| (table.name, table.message_id));
    // A subquery with an order and a limit: for a `not exists` Postgres would read a whole table.
    let has_none = rest.chain([("endpoint", "id")]).map(|(table, id)| {
        format!("(select 1 from {table} where {table}.app_id = application.id order by {table}.{id} limit 1) is null")
    });
    let has_none = has_none.collect::<Vec<_>>().join(" and ");
    let sql = format!("delete from application where id in (select id from {{t}}) and {has_none}");
    let delete = statement(tx.backend(), &sql, &[("t", &rows)], []);
    Ok(tx.conn().execute_raw(delete).await?.rows_affected())
}

/// Selects the first `most` rows that were deleted before `before`, and locks them. Leaves out rows that another
/// transaction has locked.
fn found(tx: &Tx, columns: &str, table: &str, before: Timestamp, most: u64) -> Statement {
    let lock = tx.backend().skip_locked();
    let sql = format!("select {columns} from {table} where deleted_at < $1 order by deleted_at limit $2 {lock}");
    let values = [before.0.into(), (most as i64).into()];
    Statement::from_sql_and_values(tx.backend().orm(), sql, values)
}
