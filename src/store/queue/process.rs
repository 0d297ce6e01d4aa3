//! Keeps the table of running processes: raises and reads heartbeats, and frees the leases of processes that have
//! ended.
//!
//! Every process writes its own row and reads those of the others. A row's beat only rises, so a process whose beat
//! stands still is dead. Postgres only, except [`free_all`]: SQLite has one process. Must not decide that a process is
//! dead: the dispatcher's heartbeat does.

use std::collections::HashMap;

use ring::rand::{SecureRandom, SystemRandom};
use sea_orm::{ConnectionTrait, EntityTrait, Statement};

use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::database::source::Source;
use crate::store::entity::process;
use crate::store::{Backend, Store, Tx};

/// The most rows that a take-over frees in one transaction.
pub const TAKE_OVER_CHUNK: u64 = 1_000;

/// The result of one heartbeat.
pub struct Beat {
    /// Whether the owner id of this process was still in the table. If not, another process has declared it dead.
    pub alive: bool,
    /// The beat of this process before this heartbeat.
    pub own: i64,
    /// The beats of the other processes by owner id. Leaves out those that are no longer in the table.
    pub peers: HashMap<String, i64>,
    /// The time by the database's clock.
    pub database_now: Timestamp,
}

/// An owner id with its beat as it was last read.
#[derive(Clone, Copy)]
pub struct KnownBeat<'a> {
    pub owner: &'a str,
    pub beat: i64,
}

/// Returns a random owner id.
pub fn new_owner() -> String {
    let mut bytes = [0; 12];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has random numbers");
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("proc_{}", digits.collect::<String>())
}

/// Inserts an owner id, so that the other processes watch it.
///
/// # Errors
/// `Unavailable` if this process does not hold the key that seals: it could sign no delivery. The key's row stays
/// locked, so a rotation that begins waits for this transaction and then sees the owner.
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

/// Returns the beats of the processes that do not hold the encryption key with this check value, by owner id.
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

/// Raises the beat of this process and reads those of `peers`, in one statement.
pub async fn beat(store: &Store, own: KnownBeat<'_>, peers: &[KnownBeat<'_>]) -> Result<Beat> {
    let asked_at = store.clock().monotonic();
    let mut beat = Beat {
        alive: false,
        own: own.beat,
        peers: HashMap::new(),
        database_now: Timestamp::default(),
    };
    let rows = store.pool().query_all_raw(beat_statement(store.backend(), own, peers));
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
    if let Some(risen) = beat.peers.remove(own.owner) {
        beat.own = risen;
    }
    Ok(beat)
}

/// Builds the statement of [`beat`]. Beats only rise, so it asks for beats that are at least the last known ones. It
/// then reads none of the dead row versions below them, of which each process leaves four a second while a snapshot is
/// held.
pub fn beat_statement(backend: Backend, own: KnownBeat<'_>, peers: &[KnownBeat<'_>]) -> Statement {
    // The own row is among the watched ones, so that there is a row even without peers.
    let watched = peers.iter().chain([&own]);
    let (owners, beats) = watched.map(|known| (known.owner, known.beat)).unzip();
    let watched = Rows::new([("owner", Column::Text(owners)), ("beat", Column::Int(beats))]);
    let sql = "with own as (update process set beat = beat + 1 where owner = $1 and beat >= $2 returning owner) \
               select watched.owner, (select max(process.beat) from process where process.owner = watched.owner \
               and process.beat >= watched.beat) as beat, (select count(*) from own) as alive, \
               (extract(epoch from clock_timestamp()) * 1000000)::int8 as clock from {watched}";
    statement(
        backend,
        sql,
        &[("watched", &watched)],
        [own.owner.into(), own.beat.into()],
    )
}

/// Returns the beats of all processes by owner id. Reads the whole table, with all dead row versions that a held
/// snapshot keeps.
pub async fn find_beats(store: &Store) -> Result<HashMap<String, i64>> {
    let rows = process::Entity::find().all(store.pool()).await?;
    Ok(rows.into_iter().map(|row| (row.owner, row.beat)).collect())
}

/// Frees up to [`TAKE_OVER_CHUNK`] leases of a dead owner: their rows are due now, and no attempt is counted. Leaves
/// out rows that another transaction has locked. Returns how many were freed. Deletes the owner once it has no rows
/// left; until then the caller must call this again. Does nothing if the owner's beat is not `beat` any more, because
/// then it lives, or if its row is locked.
pub async fn take_over(tx: &Tx, owner: &str, beat: i64) -> Result<u64> {
    let guard = "select owner from process where owner = $1 and beat = $2 for update skip locked";
    let guard = Statement::from_sql_and_values(tx.backend().orm(), guard, [owner.into(), beat.into()]);
    if tx.conn().query_one_raw(guard).await?.is_none() {
        return Ok(0);
    }
    let freed = free_chunk(tx, owner).await?;
    // In the order of the index, and as a range. An `exists` with `=` may be planned to read the whole table, in the
    // hope to find a row soon; but the last chunk has left none.
    let sql = "delete from process where owner = $1 and beat = $2 \
               and (select owner from delivery where owner is not null and owner >= $1 and owner <= $1 \
               order by owner limit 1) is null";
    let values = [owner.into(), beat.into()];
    tx.conn()
        .execute_raw(Statement::from_sql_and_values(tx.backend().orm(), sql, values))
        .await?;
    Ok(freed)
}

/// Frees leases as [`take_over`] does, for an owner id that is not in the table of processes.
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

/// Builds the statement that frees up to [`TAKE_OVER_CHUNK`] rows of an owner.
fn take_over_statement(backend: Backend, owner: &str, now: Timestamp) -> Statement {
    let lock = backend.skip_locked();
    let held = format!(
        "select id from delivery where owner is not null and owner = $2 order by id limit {TAKE_OVER_CHUNK} {lock}"
    );
    let which = backend.is_among("id", &held);
    let sql = format!("update delivery set due_at = $1, owner = null, lease_id = null where {which}");
    Statement::from_sql_and_values(backend.orm(), sql, [now.0.into(), owner.into()])
}

/// Returns the owner ids of leases that are not in the table of processes: a transaction that began under an owner id
/// has committed after the process took another one or signed off. Jumps through the index from owner to owner.
pub async fn list_unknown_owners(store: &Store) -> Result<Vec<String>> {
    let sql = "with recursive jump(owner) as (\
               select * from (select owner from delivery where owner is not null and owner > '' order by owner limit 1) as first \
               union all select (select d.owner from delivery d where d.owner is not null and d.owner > jump.owner \
               order by d.owner limit 1) from jump where jump.owner is not null) \
               select owner from jump where owner is not null \
               and not exists (select 1 from process where process.owner = jump.owner)";
    let statement = Statement::from_string(store.backend().orm(), sql);
    let rows = store.pool().query_all_raw(statement).await?;
    rows.iter().map(|row| Ok(row.try_get("", "owner")?)).collect()
}

/// Frees all leases and returns how many. Only for the start on SQLite: this process is the only one, so the process
/// that held them has ended.
pub async fn free_all(tx: &Tx) -> Result<u64> {
    let sql = "update delivery set due_at = $1, owner = null, lease_id = null where owner is not null";
    let statement = Statement::from_sql_and_values(tx.backend().orm(), sql, [tx.now.0.into()]);
    Ok(tx.conn().execute_raw(statement).await?.rows_affected())
}

/// Signs `owner` off: frees its leases, without counting an attempt, and deletes it.
pub async fn sign_off(tx: &Tx, owner: &str) -> Result<()> {
    let sql = "update delivery set due_at = $1, owner = null, lease_id = null where owner is not null and owner = $2";
    let values = [tx.now.0.into(), owner.into()];
    tx.conn()
        .execute_raw(Statement::from_sql_and_values(tx.backend().orm(), sql, values))
        .await?;
    delete_process(tx, owner).await
}

/// Deletes an owner id that has no leases left, or whose process has taken another one.
async fn delete_process(tx: &Tx, owner: &str) -> Result<()> {
    let sql = "delete from process where owner = $1";
    tx.conn()
        .execute_raw(Statement::from_sql_and_values(tx.backend().orm(), sql, [owner.into()]))
        .await?;
    Ok(())
}

/// Moves the leases of `old` to `new`, and deletes `old`. Both are owner ids of this process.
pub async fn rename(tx: &Tx, old: &str, new: &str) -> Result<()> {
    adopt(tx, old, new).await?;
    delete_process(tx, old).await
}

/// Moves the leases of `old`, a former owner id of this process, to `new`, its present one. Leaves out rows that are
/// locked: a settlement of this process may hold them while it waits for another session's lock, and beats must not
/// wait for that. If they are not settled then, [`extend`](super::extend) or the next sweep moves them.
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
