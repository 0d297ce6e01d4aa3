//! The end of what is kept no longer: payloads past their time, and messages past theirs with all that tells of them.
//! In chunks, each found by an index, whatever the number of rows that stay. Called by the dispatcher's janitor.

use sea_orm::{ConnectionTrait, Statement, Value};

use super::connect::Store;
use super::tx::Tx;
use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// What tells of a message, by the column with its id, in the order in which it goes: the message last, or the rest could
/// not be found.
pub(super) const HISTORY: [(&str, &str); 4] = [
    ("message_content", "message_id"),
    ("attempt", "message_id"),
    ("delivery_result", "message_id"),
    ("message", "id"),
];

/// Removes up to `most` payloads whose time is over. Answers how many.
pub async fn prune_contents(tx: &Tx, most: u64) -> Result<u64> {
    let expired = "expires_at <= $1 order by expires_at limit $2";
    prune(tx, "message_content", expired, [tx.now.0.into(), limit(most)]).await
}

/// Of the next `most` applications after `after`, deleted ones too, those with history from before `before`: messages, or what
/// was written of one after it had gone; and the last one that was looked at, none at the end.
pub async fn list_with_history(
    store: &Store,
    after: &str,
    before: Timestamp,
    most: u64,
) -> Result<(Vec<String>, Option<String>)> {
    // With an order and a limit: Postgres would rather read a table from end to end for an `exists`.
    let has_old = HISTORY.map(|(table, id)| {
        format!(
            "(select 1 from {table} where {table}.app_id = application.id and {table}.{id} < $1 \
             order by {table}.{id} limit 1) is not null"
        )
    });
    let has_old = has_old.join(" or ");
    let sql = format!("select id, {has_old} as has_old from application where id > $2 order by id limit $3");
    let values = [Prefix::Message.first_id_at(before).into(), after.into(), limit(most)];
    let statement = Statement::from_sql_and_values(store.backend().orm(), sql, values);
    let rows = store.reader().query_all_raw(statement).await?;
    let (mut found, mut last) = (Vec::new(), None);
    for row in &rows {
        let id: String = row.try_get("", "id")?;
        if row.try_get("", "has_old")? {
            found.push(id.clone());
        }
        last = Some(id);
    }
    Ok((found, last.filter(|_| rows.len() as u64 == most)))
}

/// Removes up to `most` rows of an application's messages from before `before`, whatever their table. Answers how many.
pub async fn prune_history(tx: &Tx, app_id: &str, before: Timestamp, most: u64) -> Result<u64> {
    let end = Prefix::Message.first_id_at(before);
    let mut left = most;
    for (table, id) in HISTORY {
        let old = format!("app_id = $1 and {id} < $2 order by {id} limit $3");
        left -= prune(tx, table, &old, [app_id.into(), end.as_str().into(), limit(left)]).await?;
        if left == 0 {
            break;
        }
    }
    Ok(most - left)
}

async fn prune<const N: usize>(tx: &Tx, table: &str, which: &str, values: [Value; N]) -> Result<u64> {
    let (row, lock) = (tx.backend().row_id(), tx.backend().skip_locked());
    let found = format!("select {row} from {table} where {which} {lock}");
    let sql = format!("delete from {table} where {}", tx.backend().is_among(row, &found));
    let statement = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    Ok(tx.conn().execute_raw(statement).await?.rows_affected())
}

fn limit(most: u64) -> Value {
    i64::try_from(most).unwrap_or(i64::MAX).into()
}
