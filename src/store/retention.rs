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

/// Stands for the application of the rows that name none, which are those of pollers. They are found by the ids of their
/// messages alone.
pub const NO_APP: &str = "";

/// The tables of the history, in the order in which their rows are removed.
pub(super) const HISTORY: [HistoryTable; 6] = [
    HistoryTable::of_apps("message_content", &["app_id", "message_id"]),
    HistoryTable::of_apps("attempt", &["app_id", "message_id", "id"]),
    HistoryTable::of_apps("delivery_result", &["app_id", "message_id", "endpoint_id"]),
    HistoryTable::of_apps("message_tag", &["app_id", "message_id", "tag"]),
    HistoryTable {
        name: "poll_item",
        key: &["poller_number", "tx", "message_id"],
        message_id: "message_id",
        has_app: false,
    },
    HistoryTable::of_apps("message", &["app_id", "id"]),
];

/// A table of the history.
pub(super) struct HistoryTable {
    pub name: &'static str,
    /// The columns of its primary key.
    key: &'static [&'static str],
    /// The column with the message's id.
    pub message_id: &'static str,
    /// Whether its rows name their application.
    pub has_app: bool,
}

impl HistoryTable {
    /// Returns a table whose primary key begins with the application's and the message's id.
    const fn of_apps(name: &'static str, key: &'static [&'static str]) -> Self {
        Self {
            name,
            key,
            message_id: key[1],
            has_app: true,
        }
    }

    /// Returns SQL for the application of the row that is called `row`.
    fn app(&self, row: &str) -> String {
        match self.has_app {
            true => format!("{row}.app_id"),
            false => format!("'{NO_APP}'"),
        }
    }

    /// Returns SQL that is true for `row` if it is of the application `t` and its message's id is at least $1 and below $2.
    fn condition(&self, row: &str) -> String {
        let (app, id) = (self.app(row), self.message_id);
        format!("{app} = t.app_id and {row}.{id} >= $1 and {row}.{id} < $2")
    }

    /// Returns the columns by which an index has the rows of an application in order.
    fn order(&self) -> String {
        match self.has_app {
            true => self.key[1..].join(", "),
            false => self.message_id.to_owned(),
        }
    }
}

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
    delete_found(tx, "message_content", HISTORY[0].key, found).await
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
/// `end`, with the application's id. Leaves out applications without one. [`NO_APP`] counts as an application.
pub async fn list_oldest(store: &Store, apps: &[String], from: &str, end: &str) -> Result<Vec<(String, String)>> {
    // A subquery with an order and a limit: for a `min` Postgres would read a whole table.
    let oldest = HISTORY.each_ref().map(|table| {
        let (id, name, old) = (table.message_id, table.name, table.condition(table.name));
        format!(", (select {id} from {name} where {old} order by {id} limit 1) as {name}")
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
        let ids = HISTORY
            .each_ref()
            .map(|table| row.try_get::<Option<String>>("", table.name));
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
/// are done. Rows that another transaction has locked stay. [`NO_APP`] counts as an application.
pub async fn prune_history(
    tx: &Tx,
    apps: &[String],
    (from, end): (&str, &str),
    mut place: Place,
    most: u64,
) -> Result<(u64, Option<Place>)> {
    let mut left = most;
    for (number, table) in HISTORY.iter().enumerate().skip(place.table) {
        if number > place.table {
            place = Place { table: number, app: 0 };
        }
        let (name, old) = (table.name, table.condition("r"));
        // Only the columns of the key are read: a payload may be large.
        let columns = table.key.iter().map(|name| format!("r.{name}"));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let sql = match tx.backend() {
            Backend::Sqlite => format!("select {columns} from {{t}} cross join {name} r where {old} limit $3"),
            // With an order and a limit for each application: otherwise Postgres might read the whole table.
            Backend::Postgres => format!(
                "select {columns} from {{t}} cross join lateral (select {columns} from {name} r where {old} \
                 order by {} limit $3 for update skip locked) r limit $3",
                table.order()
            ),
        };
        let values = [from.into(), end.into(), limit(left)];
        let found = statement(tx.backend(), &sql, &[("t", &of_apps(&apps[place.app..]))], values);
        let mut delete = delete_of_found(tx, name, table.key, found);
        delete
            .sql
            .push_str(&format!(" returning {} as app_id", table.app(name)));
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
