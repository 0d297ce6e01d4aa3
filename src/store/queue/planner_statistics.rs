//! Refreshes Postgres' planner statistics of the table `delivery`.
//!
//! The queue is empty most of the time, and a statement that was planned then reads the whole table: claims of a burst
//! took 50 ms each until autovacuum noticed it, up to a minute later. Must not make a claim wait.

use sea_orm::{ConnectionTrait, Statement};

use crate::error::Result;
use crate::store::{Backend, Store};

/// The number of pages, of 8 kB each, up to which reading the whole table is cheap anyway.
const SMALL: i64 = 16;
/// How many times as large as the statistics say the table may be: a plan for a quarter of it is still a good one.
const GROWTH: i64 = 4;

/// Refreshes the statistics if the table has outgrown them; every session then plans afresh. Returns whether they fit
/// now: if the role does not own the table, Postgres only warns. Does nothing on SQLite, which plans without such
/// statistics.
pub async fn renew_statistics(store: &Store) -> Result<bool> {
    if store.backend() == Backend::Sqlite || !has_outgrown(store).await? {
        return Ok(true);
    }
    store
        .pool()
        .execute_unprepared("analyze (skip_locked) delivery")
        .await?;
    Ok(!has_outgrown(store).await?)
}

/// Returns whether the table is more than [`GROWTH`] times as large as the statistics say.
async fn has_outgrown(store: &Store) -> Result<bool> {
    let sql = format!(
        "select pg_relation_size(oid) / current_setting('block_size')::int8 > {GROWTH} * greatest(relpages, {SMALL}) as grown \
         from pg_class where oid = 'delivery'::regclass"
    );
    let row = store
        .pool()
        .query_one_raw(Statement::from_string(store.backend().orm(), sql))
        .await?;
    Ok(row.map(|row| row.try_get("", "grown")).transpose()? == Some(true))
}
