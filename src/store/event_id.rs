//! Keeps event ids unique for seven days: in that time only one message of an application can have an event id.
//!
//! The rows here are apart from the messages. A message keeps its event id, and is found by it, after the seven days
//! too; a later message may then have the same event id.
//!
//! Must not read or write messages.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement};

use super::database::rows::{Column, Rows, statement};
use super::database::tx::Tx;
use super::retention::delete_found;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// How long an event id is taken. It is the least time that history may be kept (`POSTRIDER_HISTORY_RETENTION`), so
/// that a sender whose message is refused can read the message that has the event id. It is long enough for a sender
/// whose own queue stood still over a weekend.
pub const KEPT: Duration = Duration::from_hours(7 * 24);

/// Takes those of `wanted` that are free or have expired, and returns them. Each is an application id with an event id,
/// and none comes twice. If another transaction is taking one of them, this waits until that transaction ends.
pub(super) async fn take(tx: &Tx, wanted: &[(&str, &str)]) -> Result<HashSet<(String, String)>> {
    if wanted.is_empty() {
        return Ok(HashSet::new());
    }
    let (apps, event_ids) = wanted.iter().copied().unzip();
    let rows = Rows::new([("app_id", Column::Text(apps)), ("event_id", Column::Text(event_ids))]);
    // Sorted, so that two batches cannot deadlock.
    let sql = "insert into taken_event_id (app_id, event_id, expires_at) \
               select app_id, event_id, $1 from {t} where true order by app_id, event_id \
               on conflict (app_id, event_id) do update set expires_at = excluded.expires_at \
               where taken_event_id.expires_at <= $2 returning app_id, event_id";
    let times = [tx.now.plus(KEPT).0.into(), tx.now.0.into()];
    let taken = tx
        .conn()
        .query_all_raw(statement(tx.backend(), sql, &[("t", &rows)], times))
        .await?;
    let name = |row: &sea_orm::QueryResult| Ok((row.try_get("", "app_id")?, row.try_get("", "event_id")?));
    taken.iter().map(name).collect()
}

/// Frees up to `most` event ids that had expired at `at`. Returns how many.
pub async fn prune(tx: &Tx, at: Timestamp, most: u64) -> Result<u64> {
    let lock = tx.backend().skip_locked();
    let sql = format!(
        "select app_id, event_id from taken_event_id where expires_at <= $1 order by expires_at limit $2 {lock}"
    );
    let values = [at.0.into(), (most as i64).into()];
    let found = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    delete_found(tx, "taken_event_id", &["app_id", "event_id"], found).await
}
