//! What Postgres believes of the queue's size. The queue is empty most of the time, and statements that were planned then
//! read it from end to end: claims of a burst took 50 ms each until autovacuum had noticed it, up to a minute later.
//! Called by the dispatcher.

use sea_orm::{ConnectionTrait, Statement};

use crate::error::Result;
use crate::store::{Backend, Store};

/// Pages of 8 kB that are read from end to end in no time.
const SMALL: i64 = 16;
/// How many times larger than believed the table may be: plans for a quarter of it are still good ones.
const GROWTH: i64 = 4;

/// Renews the statistics once the table has outgrown them, and with them every session's plans. Nothing on SQLite, which
/// plans without. Answers whether they fit now: a role that does not own the table is only warned.
pub async fn renew_statistics(store: &Store) -> Result<bool> {
    if store.backend() == Backend::Sqlite || !has_outgrown(store).await? {
        return Ok(true);
    }
    store
        .reader()
        .execute_unprepared("analyze (skip_locked) delivery")
        .await?;
    Ok(!has_outgrown(store).await?)
}

async fn has_outgrown(store: &Store) -> Result<bool> {
    let sql = format!(
        "select pg_relation_size(oid) / current_setting('block_size')::int8 > {GROWTH} * greatest(relpages, {SMALL}) as grown \
         from pg_class where oid = 'delivery'::regclass"
    );
    let row = store
        .reader()
        .query_one_raw(Statement::from_string(store.backend().orm(), sql))
        .await?;
    Ok(row.map(|row| row.try_get("", "grown")).transpose()? == Some(true))
}
