//! Writes the sums of attempts by endpoint and hour: inserts those of a process, merges those of several processes and
//! of a day, and removes old ones.
//!
//! A process writes only rows of its own source, and always whole sums, so no row is contended and a repeated write
//! changes nothing. Rows are merged only once their process writes them no more: [`MERGED_AFTER`] the end of their hour,
//! while a process ends to write them again [`WRITTEN_UNTIL`] it.
//!
//! Must not read statistics for the API: delivery_statistics.rs does.

use std::time::Duration;

use sea_orm::{ConnectionTrait, QueryResult, Statement};

use super::database::backend::Backend;
use super::database::rows::{Column, Rows, statement};
use super::database::tx::Tx;
use crate::domain::tally::{BUCKETS, Tally};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// The length of the period of a row.
pub const HOUR: Duration = Duration::from_hours(1);
/// The length of the period of a row of source [`OF_DAY`].
pub const DAY: Duration = Duration::from_hours(24);
/// How long after the end of an hour a process may still write a row again that it may have written before.
pub const WRITTEN_UNTIL: Duration = Duration::from_hours(23);
/// How long after the end of an hour its rows are merged. An hour more, since a statement under way may be late.
pub const MERGED_AFTER: Duration = Duration::from_hours(24);
/// How long hours are kept before they are merged into days.
pub const HOURS_KEPT: Duration = Duration::from_hours(35 * 24);
/// How long days are kept.
pub const DAYS_KEPT: Duration = Duration::from_hours(400 * 24);

/// The source of a row that holds the sums of all processes.
const MERGED: i64 = 0;
/// The source of a row that holds the sums of a day.
const OF_DAY: i64 = -1;

/// The columns of the counts, in the order of [`counts`].
pub(super) const COUNTS: [&str; 5 + BUCKETS] = [
    "delivered",
    "failed",
    "status_3xx",
    "status_4xx",
    "status_5xx",
    "ms_5",
    "ms_7",
    "ms_10",
    "ms_15",
    "ms_20",
    "ms_30",
    "ms_50",
    "ms_70",
    "ms_100",
    "ms_150",
    "ms_200",
    "ms_300",
    "ms_500",
    "ms_700",
    "ms_1000",
    "ms_1500",
    "ms_2000",
    "ms_3000",
    "ms_5000",
    "ms_7000",
    "ms_10000",
    "ms_15000",
    "ms_20000",
    "ms_30000",
    "ms_more",
];
const KEY: &str = "app_id, endpoint_id, hour, source";

/// The sums of one endpoint's attempts in one hour, by one process.
#[derive(Clone, Debug)]
pub struct Sums {
    pub app_id: String,
    pub endpoint_id: String,
    /// The beginning of the hour.
    pub hour: Timestamp,
    /// The process that has summed up: a random number above 0.
    pub source: i64,
    pub tally: Tally,
    /// When the last of these attempts began that delivered its message.
    pub last_success: Option<Timestamp>,
}

/// Rows that become one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Merge {
    /// Those of several processes, of one hour.
    Processes,
    /// The hours of a day.
    Hours,
}

/// Returns the counts in the order of [`COUNTS`].
fn counts(tally: &Tally) -> impl Iterator<Item = i64> {
    let Tally {
        delivered,
        failed,
        status_3xx,
        status_4xx,
        status_5xx,
        answers,
    } = tally;
    let first = [*delivered, *failed, *status_3xx, *status_4xx, *status_5xx];
    first.into_iter().chain(*answers)
}

/// Reads the tally of a row that ends with the columns [`COUNTS`], as integers of 64 bits, the first of them at `first`.
///
/// By their places: a page of statistics has 200,000 counts, and a name is searched for among the names of the row.
pub(super) fn tally_of(row: &QueryResult, first: usize) -> Result<Tally> {
    let count = |at: usize| {
        row.try_get_by_index::<Option<i64>>(first + at)
            .map(Option::unwrap_or_default)
    };
    let mut answers = [0; BUCKETS];
    for (own, at) in answers.iter_mut().zip(5..) {
        *own = count(at)?;
    }
    Ok(Tally {
        delivered: count(0)?,
        failed: count(1)?,
        status_3xx: count(2)?,
        status_4xx: count(3)?,
        status_5xx: count(4)?,
        answers,
    })
}

/// Returns a list of SQL expressions, one for each count.
pub(super) fn each_count(expression: impl Fn(&str) -> String) -> String {
    COUNTS.map(expression).join(", ")
}

/// Writes the sums of a process. A row that is there already gets the new sums.
pub async fn put(tx: &Tx, sums: &[Sums]) -> Result<()> {
    let mut columns = vec![
        (
            "app_id",
            Column::Text(sums.iter().map(|row| row.app_id.as_str()).collect()),
        ),
        (
            "endpoint_id",
            Column::Text(sums.iter().map(|row| row.endpoint_id.as_str()).collect()),
        ),
        ("hour", Column::Int(sums.iter().map(|row| row.hour.0).collect())),
        ("source", Column::Int(sums.iter().map(|row| row.source).collect())),
    ];
    let success = |row: &Sums| row.last_success.map(|at| at.0);
    columns.push(("last_success", Column::MaybeInt(sums.iter().map(success).collect())));
    let mut by_count = vec![Vec::with_capacity(sums.len()); COUNTS.len()];
    for row in sums {
        for (column, count) in by_count.iter_mut().zip(counts(&row.tally)) {
            column.push(count);
        }
    }
    columns.extend(COUNTS.into_iter().zip(by_count.into_iter().map(Column::Int)));
    let sql = format!(
        "insert into endpoint_hour ({KEY}, {}, last_success) select {KEY}, {}, last_success from {{t}} where true \
         on conflict ({KEY}) do update set {}, last_success = excluded.last_success",
        COUNTS.join(", "),
        each_count(|name| format!("nullif({name}, 0)")),
        each_count(|name| format!("{name} = excluded.{name}")),
    );
    let write = statement(tx.backend(), &sql, &[("t", &Rows::new(columns))], []);
    tx.conn().execute_raw(write).await?;
    Ok(())
}

impl Merge {
    /// Returns the condition on the rows that are merged, in the words of their index.
    fn sources(self) -> &'static str {
        match self {
            Self::Processes => "source > 0",
            Self::Hours => "source = 0",
        }
    }

    /// Returns the SQL of the hour into which a row is merged, and its source.
    fn target(self) -> (String, i64) {
        match self {
            Self::Processes => ("h.hour".to_owned(), MERGED),
            Self::Hours => (format!("h.hour - h.hour % {}", DAY.as_micros()), OF_DAY),
        }
    }

    /// Returns the hour before which rows are merged.
    pub fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Processes => now.minus(MERGED_AFTER + HOUR).begin_of(HOUR),
            Self::Hours => now.minus(HOURS_KEPT).begin_of(DAY),
        }
    }
}

/// Merges up to `most` rows of hours before `before`. Returns how many. Rows that another transaction has locked stay.
pub async fn merge(tx: &Tx, merge: Merge, before: Timestamp, most: u64) -> Result<u64> {
    let keys = find(tx, merge.sources(), before, most).await?;
    let (hour, source) = merge.target();
    let sql = format!(
        "insert into endpoint_hour ({KEY}, {}, last_success) \
         select h.app_id, h.endpoint_id, {hour}, {source}, {}, max(h.last_success) \
         from {{t}} cross join endpoint_hour h where {ROW_OF_T} group by 1, 2, 3 \
         on conflict ({KEY}) do update set {}, last_success = case \
         when endpoint_hour.last_success > excluded.last_success then endpoint_hour.last_success \
         else coalesce(excluded.last_success, endpoint_hour.last_success) end",
        COUNTS.join(", "),
        each_count(|name| format!("sum(h.{name})")),
        // A sum with null is null.
        each_count(|name| format!(
            "{name} = coalesce(endpoint_hour.{name} + excluded.{name}, endpoint_hour.{name}, excluded.{name})"
        )),
    );
    if keys.is_empty() {
        return Ok(0);
    }
    let insert = statement(tx.backend(), &sql, &[("t", &rows_of(&keys))], []);
    tx.conn().execute_raw(insert).await?;
    delete(tx, &keys).await
}

/// Removes up to `most` days before `before`. Returns how many.
pub async fn prune(tx: &Tx, before: Timestamp, most: u64) -> Result<u64> {
    let keys = find(tx, "source < 0", before, most).await?;
    delete(tx, &keys).await
}

/// Removes up to `most` rows of the endpoints in `endpoints`, a table with the columns `app_id` and `id`. Returns how
/// many.
pub(super) async fn prune_of(tx: &Tx, endpoints: &Rows<'_>, most: u64) -> Result<u64> {
    let sql = match tx.backend() {
        Backend::Sqlite => format!(
            "select {OF_H} from {{t}} cross join endpoint_hour h where h.app_id = t.app_id and h.endpoint_id = t.id limit $1"
        ),
        // With a limit for each endpoint: otherwise Postgres might read the whole table.
        Backend::Postgres => format!(
            "select {OF_H} from {{t}} cross join lateral (select {KEY} from endpoint_hour h where h.app_id = t.app_id \
             and h.endpoint_id = t.id limit $1) h limit $1"
        ),
    };
    let found = statement(tx.backend(), &sql, &[("t", endpoints)], [(most as i64).into()]);
    let keys = keys_of(tx.conn().query_all_raw(found).await?)?;
    delete(tx, &keys).await
}

const OF_H: &str = "h.app_id, h.endpoint_id, h.hour, h.source";
const ROW_OF_T: &str =
    "h.app_id = t.app_id and h.endpoint_id = t.endpoint_id and h.hour = t.hour and h.source = t.source";

/// The primary key of a row.
struct Key {
    app_id: String,
    endpoint_id: String,
    hour: i64,
    source: i64,
}

/// Finds the oldest `most` rows before `before` of some sources, and locks them.
async fn find(tx: &Tx, of_sources: &str, before: Timestamp, most: u64) -> Result<Vec<Key>> {
    let lock = tx.backend().skip_locked();
    let sql = format!("select {KEY} from endpoint_hour where {of_sources} and hour < $1 order by hour limit $2 {lock}");
    let values = [before.0.into(), (most as i64).into()];
    let statement = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    keys_of(tx.conn().query_all_raw(statement).await?)
}

fn keys_of(found: Vec<QueryResult>) -> Result<Vec<Key>> {
    let key = |row: &QueryResult| {
        Ok(Key {
            app_id: row.try_get("", "app_id")?,
            endpoint_id: row.try_get("", "endpoint_id")?,
            hour: row.try_get("", "hour")?,
            source: row.try_get("", "source")?,
        })
    };
    found.iter().map(key).collect()
}

fn rows_of(keys: &[Key]) -> Rows<'_> {
    Rows::new([
        (
            "app_id",
            Column::Text(keys.iter().map(|key| key.app_id.as_str()).collect()),
        ),
        (
            "endpoint_id",
            Column::Text(keys.iter().map(|key| key.endpoint_id.as_str()).collect()),
        ),
        ("hour", Column::Int(keys.iter().map(|key| key.hour).collect())),
        ("source", Column::Int(keys.iter().map(|key| key.source).collect())),
    ])
}

/// Deletes rows, and returns how many.
async fn delete(tx: &Tx, keys: &[Key]) -> Result<u64> {
    if keys.is_empty() {
        return Ok(0);
    }
    let sql = format!("delete from endpoint_hour where ({KEY}) in (select {KEY} from {{t}})");
    let delete = statement(tx.backend(), &sql, &[("t", &rows_of(keys))], []);
    Ok(tx.conn().execute_raw(delete).await?.rows_affected())
}
