//! Heartbeats: who lives, who is dead, and whose leases are free again. Postgres only; SQLite has one process.
//! Called by the dispatcher's heartbeat and by app at start and stop.

use std::collections::HashMap;

use ring::rand::{SecureRandom, SystemRandom};
use sea_orm::{ConnectionTrait, EntityTrait, Statement};

use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::database::source::Source;
use crate::store::entity::process;
use crate::store::{Backend, Store, Tx};

/// Rows a take-over frees in one transaction.
pub const TAKE_OVER_CHUNK: u64 = 1_000;

/// What one heartbeat saw.
pub struct Beat {
    /// False: this process had been declared dead, and its owner id with it.
    pub alive: bool,
    /// The own beat before this one.
    pub own: i64,
    /// The beats of the others, by owner; without those that are forgotten.
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
        !held.split(' ').any(|check| check == check_value)
    };
    Ok(rows
        .into_iter()
        .filter(lacks)
        .map(|row| (row.owner, row.beat))
        .collect())
}

/// Raises the beat of `owner` and reads those of `peers`: one statement, one commit. Each comes with a beat that it had
/// before.
pub async fn beat(store: &Store, owner: (&str, i64), peers: &[(&str, i64)]) -> Result<Beat> {
    let asked_at = store.clock().monotonic();
    let mut beat = Beat {
        alive: false,
        own: owner.1,
        peers: HashMap::new(),
        database_now: Timestamp::default(),
    };
    let rows = store
        .reader()
        .query_all_raw(beat_statement(store.backend(), owner, peers));
    for row in rows.await? {
        beat.alive = row.try_get::<i64>("", "alive")? > 0;
        beat.database_now = Timestamp(row.try_get("", "clock")?);
        if let Some(seen) = row.try_get::<Option<i64>>("", "beat")? {
            beat.peers.insert(row.try_get("", "owner")?, seen);
        }
    }
    if beat.alive {
        store.note_beat(asked_at);
    }
    if let Some(own) = beat.peers.remove(owner.0) {
        beat.own = own;
    }
    Ok(beat)
}

/// Beats only rise. So it asks for those that are no lower than the last known ones, and reads none of the dead versions
/// below them that a held snapshot keeps: each process leaves four a second.
pub fn beat_statement(backend: Backend, owner: (&str, i64), peers: &[(&str, i64)]) -> Statement {
    // With the own row, so that there is an answer if there are no peers.
    let (owners, beats) = peers.iter().chain([&owner]).copied().unzip();
    let watched = Rows::new([("owner", Column::Text(owners)), ("beat", Column::Int(beats))]);
    let sql = "with own as (update process set beat = beat + 1 where owner = $1 and beat >= $2 returning owner) \
               select watched.owner, (select max(process.beat) from process where process.owner = watched.owner \
               and process.beat >= watched.beat) as beat, (select count(*) from own) as alive, \
               (extract(epoch from clock_timestamp()) * 1000000)::int8 as clock from {watched}";
    statement(backend, sql, &[("watched", &watched)], [owner.0.into(), owner.1.into()])
}

/// Returns the beats of all processes by owner. Reads the whole table, with all that a held snapshot keeps of it.
pub async fn find_beats(store: &Store) -> Result<HashMap<String, i64>> {
    let rows = process::Entity::find().all(store.reader()).await?;
    Ok(rows.into_iter().map(|row| (row.owner, row.beat)).collect())
}

/// Frees a first chunk of a dead owner's leases: due now, attempts not counted. Rows that another transaction has locked
/// are left out. Returns how many were freed. The owner is forgotten once it has no rows left; until then it is to be
/// asked for again. Does nothing if `beat` has moved on, for then the owner lives, and if its own row is locked.
pub async fn take_over(tx: &Tx, owner: &str, beat: i64) -> Result<u64> {
    let guard = "select owner from process where owner = $1 and beat = $2 for update skip locked";
    let guard = Statement::from_sql_and_values(tx.backend().orm(), guard, [owner.into(), beat.into()]);
    if tx.conn().query_one_raw(guard).await?.is_none() {
        return Ok(0);
    }
    let freed = free_chunk(tx, owner).await?;
    let sql = "delete from process where owner = $1 and beat = $2 \
               and not exists (select 1 from delivery where owner is not null and owner = $1)";
    let values = [owner.into(), beat.into()];
    tx.conn()
        .execute_raw(Statement::from_sql_and_values(tx.backend().orm(), sql, values))
        .await?;
    Ok(freed)
}

/// Frees a first chunk of the leases of an owner that is in no table; as [`take_over`].
pub async fn free_chunk(tx: &Tx, owner: &str) -> Result<u64> {
    let freed = tx
        .conn()
        .execute_raw(take_over_statement(tx.backend(), owner, tx.now))
        .await?
        .rows_affected();
    if freed > 0 {
        tx.wake_on_commit();
    }
    Ok(freed)
}

fn take_over_statement(backend: Backend, owner: &str, now: Timestamp) -> Statement {
    let lock = backend.skip_locked();
    let held = format!(
        "select id from delivery where owner is not null and owner = $2 order by id limit {TAKE_OVER_CHUNK} {lock}"
    );
    let which = backend.is_among("id", &held);
    let sql = format!("update delivery set due_at = $1, owner = null, lease_id = null where {which}");
    Statement::from_sql_and_values(backend.orm(), sql, [now.0.into(), owner.into()])
}

/// Returns the owners of leases that are in no table: a transaction that was begun under an owner id has committed after
/// the owner took another one, or signed off. Jumps through the index from owner to owner.
pub async fn list_unknown_owners(store: &Store) -> Result<Vec<String>> {
    let sql = "with recursive jump(owner) as (\
               select * from (select owner from delivery where owner is not null and owner > '' order by owner limit 1) as first \
               union all select (select d.owner from delivery d where d.owner is not null and d.owner > jump.owner \
               order by d.owner limit 1) from jump where jump.owner is not null) \
               select owner from jump where owner is not null \
               and not exists (select 1 from process where process.owner = jump.owner)";
    let statement = Statement::from_string(store.backend().orm(), sql);
    let rows = store.reader().query_all_raw(statement).await?;
    rows.iter().map(|row| Ok(row.try_get("", "owner")?)).collect()
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

/// Gives the leases of `old` to `new`, and forgets `old`: both are this process.
pub async fn rename(tx: &Tx, old: &str, new: &str) -> Result<()> {
    adopt(tx, old, new).await?;
    delete_process(tx, old).await
}

/// Gives the leases of `old`, a former owner id of this process, to `new`, its present one. Rows that are locked are left
/// out: a settle of this process may hold them for as long as somebody keeps it waiting, and beats must not wait for that.
/// [`extend`](super::extend), or the next sweep, brings along those that are not settled then.
pub async fn adopt(tx: &Tx, old: &str, new: &str) -> Result<()> {
    let lock = tx.backend().skip_locked();
    let held = format!("select id from delivery where owner is not null and owner = $2 {lock}");
    let sql = format!(
        "update delivery set owner = $1 where {}",
        tx.backend().is_among("id", &held)
    );
    let values = [new.into(), old.into()];
    tx.conn()
        .execute_raw(Statement::from_sql_and_values(tx.backend().orm(), sql, values))
        .await?;
    Ok(())
}
