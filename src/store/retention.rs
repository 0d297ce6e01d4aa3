//! Removes payloads that have expired, and history past its retention: messages with their attempts, results and tags. Also
//! holds the turn that one process at a time has to do so.
//!
//! Rows are removed in chunks. Each chunk is found by an index, so its cost does not depend on how many rows stay. Rows
//! are deleted by their primary keys and not by their place: a `ctid` names a row in each partition of a table, so
//! removing 300 expired payloads once removed 300 live ones too.
//!
//! Must not decide when something is to go: the janitor does.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement, Value};

use super::database::backend::Backend;
use super::database::rows::{Column, Rows, statement};
use super::database::store::Store;
use super::database::tx::Tx;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// The tables of the history, in the order in which their rows are removed, with their primary keys. The second column
/// of each key is the message's id.
pub(super) const HISTORY: [(&str, &[&str]); 6] = [
    ("message_content", &["app_id", "message_id"]),
    ("attempt", &["app_id", "message_id", "id"]),
    ("delivery_result", &["app_id", "message_id", "endpoint_id"]),
    ("message_tag", &["app_id", "message_id", "tag"]),
    ("poll_item", &["app_id", "message_id", "poller_id"]),
    ("message", &["app_id", "id"]),
];

/// How long the turn lasts after it was taken or renewed: one and a half of the janitor's pauses.
const TURN: Duration = Duration::from_secs(90);

/// Takes the turn, or renews it. Returns false if another process has it, having renewed it in the last 90 s.
///
/// Every janitor writes the row, and its lock orders them; a locked row is not waited for. If two processes still
/// believe that they have the turn, no harm is done: each row is locked before it is deleted.
pub async fn take_turn(tx: &Tx, owner: &str) -> Result<bool> {
    let lock = tx.backend().skip_locked();
    // A turn that ends more than 180 s from now was taken by a process whose clock was wrong.
    let sql = format!(
        "update janitor_turn set owner = $1, ends_at = $2 where id in (select id from janitor_turn \
         where id = 1 and (owner = $1 or ends_at <= $3 or ends_at > $4) {lock})"
    );
    let ends_at = tx.now.plus(TURN);
    let values = [
        owner.into(),
        ends_at.0.into(),
        tx.now.0.into(),
        ends_at.plus(TURN).0.into(),
    ];
    let statement = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    Ok(tx.conn().execute_raw(statement).await?.rows_affected() > 0)
}

/// Gives the turn back, so that the next process need not wait for its end. If the row is locked, does nothing: the
/// turn ends by itself.
pub async fn give_turn_back(tx: &Tx, owner: &str) -> Result<()> {
    let lock = tx.backend().skip_locked();
    let sql = format!(
        "update janitor_turn set ends_at = 0 where id in (select id from janitor_turn where id = 1 and owner = $1 {lock})"
    );
    let statement = Statement::from_sql_and_values(tx.backend().orm(), sql, [owner.into()]);
    tx.conn().execute_raw(statement).await?;
    Ok(())
}

/// Removes up to `most` payloads that had expired at `at`. Returns how many. The caller calls [`forget_contents`] at the
/// end.
pub async fn prune_contents(tx: &Tx, at: Timestamp, most: u64) -> Result<u64> {
    let lock = tx.backend().skip_locked();
    let sql = format!(
        "select app_id, message_id from message_content where expires_at <= $1 order by expires_at limit $2 {lock}"
    );
    let found = Statement::from_sql_and_values(tx.backend().orm(), sql, [at.0.into(), limit(most)]);
    delete_found(tx, "message_content", HISTORY[0].1, found).await
}

/// Lets the commit of `tx` cut SQLite's log, which holds the payloads that were removed. Once for all of them: a cut
/// takes 3 to 40 ms, in which nothing is written.
pub fn forget_contents(tx: &Tx) {
    tx.forget_on_commit();
}

/// Returns the ids of the next `most` applications after `after`, deleted ones too.
pub async fn list_applications(store: &Store, after: &str, most: u64) -> Result<Vec<String>> {
    let sql = "select id from application where id > $1 order by id limit $2";
    let statement = Statement::from_sql_and_values(store.backend().orm(), sql, [after.into(), limit(most)]);
    let rows = store.pool().query_all_raw(statement).await?;
    rows.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Returns, for each of these applications, the oldest message id in its history that is at least `from` and below
/// `end`, with the application's id. Leaves out applications without one.
pub async fn list_oldest(store: &Store, apps: &[String], from: &str, end: &str) -> Result<Vec<(String, String)>> {
    // A subquery with an order and a limit: for a `min` Postgres would read a whole table.
    let oldest = HISTORY.map(|(table, key)| {
        let id = key[1];
        format!(
            ", (select {id} from {table} where app_id = t.app_id and {id} >= $1 and {id} < $2 order by {id} limit 1) \
             as {table}"
        )
    });
    let sql = format!("select t.app_id{} from {{t}}", oldest.concat());
    let rows = statement(
        store.backend(),
        &sql,
        &[("t", &of_apps(apps))],
        [from.into(), end.into()],
    );
    let mut found = Vec::new();
    for row in store.pool().query_all_raw(rows).await? {
        let ids = HISTORY.map(|(table, _)| row.try_get::<Option<String>>("", table));
        let ids: Vec<_> = ids.into_iter().collect::<Result<_, _>>()?;
        if let Some(oldest) = ids.into_iter().flatten().min() {
            found.push((oldest, row.try_get("", "app_id")?));
        }
    }
    Ok(found)
}

/// Where the removal of a window of history goes on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// An index of `HISTORY`. The tables before it are done.
    pub table: usize,
    /// An index of the applications. Those before it have no rows left in that table.
    pub app: usize,
}

/// Removes up to `most` rows of history of these applications, of messages whose ids are at least `from` and below
/// `end`. Begins at `place`. Returns how many rows were removed, and the place to go on at; `None` means that all tables
/// are done. Rows that another transaction has locked stay.
pub async fn prune_history(
    tx: &Tx,
    apps: &[String],
    (from, end): (&str, &str),
    mut place: Place,
    most: u64,
) -> Result<(u64, Option<Place>)> {
    let mut left = most;
    for (number, (table, key)) in HISTORY.into_iter().enumerate().skip(place.table) {
        if number > place.table {
            place = Place { table: number, app: 0 };
        }
        let (id, order) = (key[1], key[1..].join(", "));
        // Only the columns of the key are read: a payload may be large.
        let columns = key
            .iter()
            .map(|name| format!("r.{name}"))
            .collect::<Vec<_>>()
            .join(", ");
        let old = format!("r.app_id = t.app_id and r.{id} >= $1 and r.{id} < $2");
        let sql = match tx.backend() {
            Backend::Sqlite => format!("select {columns} from {{t}} cross join {table} r where {old} limit $3"),
            // With an order and a limit for each application: otherwise Postgres might read the whole table.
            Backend::Postgres => format!(
                "select {columns} from {{t}} cross join lateral (select {columns} from {table} r where {old} \
                 order by {order} limit $3 for update skip locked) r limit $3"
            ),
        };
        let values = [from.into(), end.into(), limit(left)];
        let found = statement(tx.backend(), &sql, &[("t", &of_apps(&apps[place.app..]))], values);
        let mut delete = delete_of_found(tx, table, key, found);
        delete.sql.push_str(" returning app_id");
        let removed = tx.conn().query_all_raw(delete).await?;
        left -= removed.len() as u64;
        if left == 0 {
            // The applications were read in their order, up to the limit: looking at each of them again took as long as
            // removing a hundred rows.
            let removed: HashSet<String> = removed
                .iter()
                .map(|row| row.try_get("", "app_id"))
                .collect::<Result<_, _>>()?;
            place.app = apps.iter().rposition(|app| removed.contains(app)).unwrap_or(place.app);
            return Ok((most, Some(place)));
        }
    }
    Ok((most - left, None))
}

/// Deletes the rows of `table` whose primary keys `found` selects, and returns how many. On Postgres `found` must lock
/// the rows, so that they still meet its conditions when they are deleted.
pub(super) async fn delete_found(tx: &Tx, table: &str, key: &[&'static str], found: Statement) -> Result<u64> {
    let delete = delete_of_found(tx, table, key, found);
    Ok(tx.conn().execute_raw(delete).await?.rows_affected())
}

/// Makes the statement of [`delete_found`]. It is one, because reading the keys first and sending them back took a second
/// round trip.
fn delete_of_found(tx: &Tx, table: &str, key: &[&'static str], found: Statement) -> Statement {
    let columns = key.join(", ");
    let sql = match tx.backend() {
        Backend::Sqlite => format!("delete from {table} where ({columns}) in ({})", found.sql),
        // As arrays: then Postgres expects few keys, and looks each of them up. Of the rows of a query it may expect so
        // many that it reads the whole table.
        Backend::Postgres => {
            let arrays = key.iter().map(|name| format!("array(select {name} from found)"));
            let arrays = arrays.collect::<Vec<_>>().join(", ");
            format!(
                "with found as materialized ({}) delete from {table} where ({columns}) in \
                 (select {columns} from unnest({arrays}) as k({columns}))",
                found.sql
            )
        }
    };
    Statement { sql, ..found }
}

/// Binds application ids as a table.
fn of_apps(apps: &[String]) -> Rows<'_> {
    Rows::new([("app_id", Column::Text(apps.iter().map(String::as_str).collect()))])
}

fn limit(most: u64) -> Value {
    i64::try_from(most).unwrap_or(i64::MAX).into()
}
