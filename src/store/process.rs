//! Heartbeats: who lives, who is dead, and whose leases are free again. Postgres only; SQLite has one process.
//! Called by the dispatcher's heartbeat and by app at start and stop.

use std::collections::HashMap;

use ring::rand::{SecureRandom, SystemRandom};
use sea_orm::{ConnectionTrait, EntityTrait, Statement};

use super::entity::process;
use super::source::Source;
use super::{Backend, Store, Tx};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// Rows a take-over frees in one transaction.
pub const TAKE_OVER_CHUNK: u64 = 1_000;

/// What one heartbeat saw.
pub struct Beat {
    /// False: this process had been declared dead, and its owner id with it.
    pub alive: bool,
    /// The beats of all processes by owner.
    pub peers: HashMap<String, i64>,
    /// The database's clock.
    pub database_now: Timestamp,
}

/// A random name for one run of one process.
pub fn new_owner() -> String {
    let mut bytes = [0; 12];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has random numbers");
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("proc_{}", digits.collect::<String>())
}

/// Makes a new owner known, so that its peers watch it.
///
/// # Errors
/// `Unavailable` as [`Tx::sealing_key`]: who does not hold the key that seals could sign no delivery. A rotation that begins
/// waits for this transaction, and sees the owner.
pub async fn insert_process(tx: &Tx, owner: &str) -> Result<()> {
    tx.sealing_key().await?;
    let sql = "insert into process (owner, beat, started_at, key_checks) values ($1, 0, $2, $3)";
    let key_checks = tx.store().keys()?.check_values().collect::<Vec<_>>().join(" ");
    tx.conn()
        .execute_raw(Statement::from_sql_and_values(
            tx.backend().orm(),
            sql,
            [owner.into(), tx.now.0.into(), key_checks.into()],
        ))
        .await?;
    Ok(())
}

/// The beats, by owner, of those that do not hold the encryption key with this check value.
pub async fn beats_without_key(source: &impl Source, check_value: &str) -> Result<HashMap<String, i64>> {
    let rows = process::Entity::find().all(source.source()).await?;
    let lacks = |row: &process::Model| {
        let held = row.key_checks.as_deref().unwrap_or_default();
        !held.split(' ').any(|one| one == check_value)
    };
    Ok(rows
        .into_iter()
        .filter(lacks)
        .map(|row| (row.owner, row.beat))
        .collect())
}

/// Raises the own beat and reads those of the others: one statement, one commit.
pub async fn beat(store: &Store, owner: &str) -> Result<Beat> {
    let sql = "with own as (update process set beat = beat + 1 where owner = $1 returning owner) \
               select process.owner, process.beat, (select count(*) from own) as alive, \
               (extract(epoch from clock_timestamp()) * 1000000)::int8 as clock \
               from (select 1) as one left join process on true";
    let statement = Statement::from_sql_and_values(store.backend().orm(), sql, [owner.into()]);
    let asked_at = store.clock().monotonic();
    let mut beat = Beat {
        alive: false,
        peers: HashMap::new(),
        database_now: Timestamp::default(),
    };
    for row in store.reader().query_all_raw(statement).await? {
        beat.alive = row.try_get::<i64>("", "alive")? > 0;
        beat.database_now = Timestamp(row.try_get("", "clock")?);
        if let Some(owner) = row.try_get::<Option<String>>("", "owner")? {
            beat.peers.insert(owner, row.try_get("", "beat")?);
        }
    }
    if beat.alive {
        store.note_beat(asked_at);
    }
    Ok(beat)
}

/// Frees a first chunk of a dead owner's leases: due now, attempts not counted. Answers how many; fewer than a chunk is
/// the last one, and the owner is forgotten with it. A `beat` that has moved on means that it lives after all: nothing
/// is taken.
pub async fn take_over(tx: &Tx, owner: &str, beat: i64) -> Result<u64> {
    let guard = "update process set beat = beat where owner = $1 and beat = $2";
    let guard = Statement::from_sql_and_values(tx.backend().orm(), guard, [owner.into(), beat.into()]);
    if tx.conn().execute_raw(guard).await?.rows_affected() == 0 {
        return Ok(0);
    }
    let freed = tx
        .conn()
        .execute_raw(take_over_statement(tx.backend(), owner, tx.now))
        .await?
        .rows_affected();
    if freed < TAKE_OVER_CHUNK {
        delete_process(tx, owner).await?;
    }
    tx.wake_on_commit();
    Ok(freed)
}

pub fn take_over_statement(backend: Backend, owner: &str, now: Timestamp) -> Statement {
    let lock = backend.skip_locked();
    let held = format!(
        "select id from delivery where owner is not null and owner = $2 order by id limit {TAKE_OVER_CHUNK} {lock}"
    );
    let which = backend.is_among("id", &held);
    let sql = format!("update delivery set due_at = $1, owner = null, lease_id = null where {which}");
    Statement::from_sql_and_values(backend.orm(), sql, [now.0.into(), owner.into()])
}

/// SQLite at start: whoever held a lease is dead, for this process is alone. Answers how many were freed.
pub async fn free_all(tx: &Tx) -> Result<u64> {
    let sql = "update delivery set due_at = $1, owner = null, lease_id = null where owner is not null";
    let statement = Statement::from_sql_and_values(tx.backend().orm(), sql, [tx.now.0.into()]);
    Ok(tx.conn().execute_raw(statement).await?.rows_affected())
}

/// Signs `owner` off: what it still holds is due now, attempts not counted, and it is forgotten.
pub async fn sign_off(tx: &Tx, owner: &str) -> Result<()> {
    let sql = "update delivery set due_at = $1, owner = null, lease_id = null where owner is not null and owner = $2";
    let values = [tx.now.0.into(), owner.into()];
    tx.conn()
        .execute_raw(Statement::from_sql_and_values(tx.backend().orm(), sql, values))
        .await?;
    delete_process(tx, owner).await
}

/// Forgets an owner that has no leases left, or has taken another name.
async fn delete_process(tx: &Tx, owner: &str) -> Result<()> {
    let sql = "delete from process where owner = $1";
    tx.conn()
        .execute_raw(Statement::from_sql_and_values(tx.backend().orm(), sql, [owner.into()]))
        .await?;
    Ok(())
}

/// The leases of `old` go over to `new`, and `old` is forgotten: both are this process.
pub async fn rename(tx: &Tx, old: &str, new: &str) -> Result<()> {
    let sql = "update delivery set owner = $1 where owner is not null and owner = $2";
    tx.conn()
        .execute_raw(Statement::from_sql_and_values(
            tx.backend().orm(),
            sql,
            [new.into(), old.into()],
        ))
        .await?;
    delete_process(tx, old).await
}
