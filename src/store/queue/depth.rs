//! How much waits, and for how long: what an operator watches. Bounded however long the queue is. Called when asked for
//! metrics.

use sea_orm::{ConnectionTrait, Statement};

use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::Store;

/// Nothing is counted beyond this.
pub const DEPTH_MOST: i64 = 10_000;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Depth {
    /// Due first attempts, at most [`DEPTH_MOST`], as all of these.
    pub first: i64,
    /// Due retries and resends.
    pub again: i64,
    /// Waiting for their endpoint to have room.
    pub parked: i64,
    /// Since when the oldest due one is due.
    pub due_since: Option<Timestamp>,
}

/// What is due now, counted in the due indexes alone.
pub async fn find_depth(store: &Store) -> Result<Depth> {
    let lanes = ["attempt = 0 and trigger = 0", "(attempt > 0 or trigger <> 0)"];
    let [first, again] =
        lanes.map(|lane| format!("from delivery where due_at is not null and {lane} and due_at <= $1"));
    let count = |rows: &str| format!("(select count(*) from (select 1 {rows} limit {DEPTH_MOST}) as counted)");
    let oldest = |rows: &str| format!("(select due_at {rows} order by due_at limit 1)");
    // With a condition that every row meets: the index begins with the endpoint.
    let parked = count("from delivery where due_at is null and endpoint_id > ''");
    let sql = format!(
        "select {} as first, {} as again, {parked} as parked, {} as first_since, {} as again_since",
        count(&first),
        count(&again),
        oldest(&first),
        oldest(&again),
    );
    let now = store.clock().now();
    let statement = Statement::from_sql_and_values(store.backend().orm(), sql, [now.0.into()]);
    let Some(row) = store.reader().query_one_raw(statement).await? else {
        return Ok(Depth::default());
    };
    let since: [Option<i64>; 2] = [row.try_get("", "first_since")?, row.try_get("", "again_since")?];
    Ok(Depth {
        first: row.try_get("", "first")?,
        again: row.try_get("", "again")?,
        parked: row.try_get("", "parked")?,
        due_since: since.into_iter().flatten().min().map(Timestamp),
    })
}
