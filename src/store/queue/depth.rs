//! Counts the deliveries that wait and finds out for how long, for the metrics.
//!
//! Each count ends at a maximum, so its cost does not grow with the queue. Must not change anything.

use sea_orm::{ConnectionTrait, Statement};

use super::lift::in_index;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::slots::Lane;
use crate::store::{Backend, Store};

/// The number of rows at which each count ends.
pub const DEPTH_MOST: i64 = 10_000;

/// The deliveries that are due.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Depth {
    /// The number of due first attempts, at most [`DEPTH_MOST`].
    pub first: i64,
    /// The number of due retries and resends, at most [`DEPTH_MOST`].
    pub retry: i64,
    /// The instant since which the oldest of them is due; `None` means that none is due.
    pub due_since: Option<Timestamp>,
}

/// Counts the deliveries that are due now. Reads only the due indexes, and only above the floors at which the claims of
/// this process begin.
pub async fn find_depth(store: &Store) -> Result<Depth> {
    let lanes = [(Lane::First, "$2"), (Lane::Retry, "$3")];
    let [first, retry] = lanes.map(|(lane, floor)| {
        format!(
            "from delivery where {} and due_at > {floor} and due_at <= $1",
            in_index(lane)
        )
    });
    let oldest = |rows: &str| format!("(select due_at {rows} order by due_at, id limit 1)");
    let sql = format!(
        "select {} as first, {} as retry, {} as first_since, {} as retry_since",
        count(&first),
        count(&retry),
        oldest(&first),
        oldest(&retry),
    );
    let now = store.clock().now();
    let floors = lanes.map(|(lane, _)| store.floors().of(lane, now).0.into());
    let values = [now.0.into()].into_iter().chain(floors);
    let statement = Statement::from_sql_and_values(store.backend().orm(), sql, values);
    let Some(row) = store.pool().query_one_raw(statement).await? else {
        return Ok(Depth::default());
    };
    let since: [Option<i64>; 2] = [row.try_get("", "first_since")?, row.try_get("", "retry_since")?];
    Ok(Depth {
        first: row.try_get("", "first")?,
        retry: row.try_get("", "retry")?,
        due_since: since.into_iter().flatten().min().map(Timestamp),
    })
}

/// Counts the parked deliveries, at most [`DEPTH_MOST`]. This can take long: it reads the index entries of rows that
/// are no longer parked too, if a held snapshot keeps them.
pub async fn find_parked_depth(store: &Store) -> Result<i64> {
    // The condition on the endpoint is true for every row. It and the order are there because the index begins with the
    // endpoint: without the order Postgres may read the whole table if it believes that most rows are parked.
    let sql = format!(
        "select {} as parked",
        count("from delivery where due_at is null and endpoint_id > '' order by endpoint_id")
    );
    let statement = Statement::from_string(store.backend().orm(), sql);
    let row = store.pool().query_one_raw(statement).await?;
    Ok(row
        .map(|row| row.try_get("", "parked"))
        .transpose()?
        .unwrap_or_default())
}

/// Returns SQL that counts these rows, up to the maximum.
fn count(rows: &str) -> String {
    format!("(select count(*) from (select 1 {rows} limit {DEPTH_MOST}) as counted)")
}

/// Returns the id of the oldest transaction whose state a snapshot, a replication slot or a prepared transaction still
/// holds: Postgres keeps everything that was deleted since. If two calls return the same text, it was held all the time
/// between them. `None` on SQLite, and if nothing is held.
pub async fn find_oldest_snapshot(store: &Store) -> Result<Option<String>> {
    if store.backend() == Backend::Sqlite {
        return Ok(None);
    }
    let sql = "select cast(held.xmin as text) as oldest from (\
               select backend_xmin as xmin from pg_stat_activity where pid <> pg_backend_pid() \
               and backend_type is distinct from 'autovacuum worker' \
               and (datname = current_database() or datname is null) \
               union all select xmin from pg_replication_slots \
               union all select transaction from pg_prepared_xacts where database = current_database()) as held \
               where held.xmin is not null order by age(held.xmin) desc limit 1";
    let statement = Statement::from_string(store.backend().orm(), sql);
    let row = store.pool().query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get("", "oldest")).transpose()?)
}
