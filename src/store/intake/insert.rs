//! The statements that store a batch step by step, one statement per table.
//!
//! Rows are sorted by their unique keys, so that two batches never wait for each other. A usual batch on Postgres does
//! not pass here: `at_once.rs` stores it by one statement. Must not decide what is stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sea_orm::ConnectionTrait;

use super::member::Member;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::Tx;
use crate::store::database::rows::{Column, Rows, Write, execute_all, statement};
use crate::store::event_id;

/// A member that is to be stored, with its application.
pub(super) struct Fresh<'a> {
    pub app_id: &'a str,
    pub member: &'a Member,
}

impl<'a> Fresh<'a> {
    /// Returns the member's event id with its application; `None` if it has none.
    fn event_id(&self) -> Option<(&'a str, &'a str)> {
        Some((self.app_id, self.member.message.event_id.as_deref()?))
    }
}

/// A row of `delivery` that is to be inserted.
pub(super) struct DeliveryRow {
    pub id: String,
    pub app_id: String,
    pub message_id: String,
    pub endpoint_id: Arc<str>,
    /// When the row is due or its lease ends; `None` means it is parked.
    pub due_at: Option<Timestamp>,
    /// The owner id and the lease id; `None` means the row is not leased.
    pub lease: Option<(Arc<str>, i64)>,
}

/// Takes the members' event ids, each for the first member that brings it. Returns the members that have got theirs,
/// and those without an event id.
pub(super) async fn take_event_ids<'a>(tx: &Tx, fresh: Vec<Fresh<'a>>) -> Result<Vec<Fresh<'a>>> {
    let mut firsts: HashMap<(&str, &str), &str> = HashMap::new();
    for row in &fresh {
        if let Some(name) = row.event_id() {
            firsts.entry(name).or_insert(&row.member.id);
        }
    }
    let wanted: Vec<_> = firsts.keys().copied().collect();
    let taken = event_id::take(tx, &wanted).await?;
    let has_its_own = |row: &Fresh| match row.event_id() {
        None => true,
        Some(name) => firsts[&name] == row.member.id && taken.contains(&(name.0.to_owned(), name.1.to_owned())),
    };
    Ok(fresh.into_iter().filter(has_its_own).collect())
}

/// Inserts messages. Leaves out those that exist already. Returns the ids that were inserted.
pub(super) async fn insert_messages(tx: &Tx, fresh: &[Fresh<'_>]) -> Result<HashSet<String>> {
    if fresh.is_empty() {
        return Ok(HashSet::new());
    }
    let channels = channels(fresh.iter().map(|row| row.member));
    let Write { sql, rows } = messages(fresh, &channels);
    let sql = format!("{sql} on conflict do nothing returning id");
    let inserted = tx
        .conn()
        .query_all_raw(statement(tx.backend(), &sql, &[("t", &rows)], []))
        .await?;
    inserted.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Returns the channels of each message as JSON text, by message id. Leaves out messages without channels.
pub(super) fn channels<'a>(members: impl Iterator<Item = &'a Member>) -> HashMap<String, String> {
    let some = members.filter(|member| !member.message.channels.is_empty());
    some.map(|member| {
        let text = serde_json::to_string(&member.message.channels).expect("text is JSON");
        (member.id.clone(), text)
    })
    .collect()
}

/// Builds the insert of messages.
fn messages<'a>(fresh: &[Fresh<'a>], channels: &'a HashMap<String, String>) -> Write<'a> {
    let mut sorted: Vec<_> = fresh.iter().collect();
    sorted.sort_by_key(|row| (row.app_id, &row.member.id));
    let rows = Rows::new([
        ("app_id", Column::Text(sorted.iter().map(|row| row.app_id).collect())),
        (
            "id",
            Column::Text(sorted.iter().map(|row| row.member.id.as_str()).collect()),
        ),
        (
            "event_type",
            Column::Text(
                sorted
                    .iter()
                    .map(|row| row.member.message.event_type.as_str())
                    .collect(),
            ),
        ),
        (
            "event_id",
            Column::MaybeText(
                sorted
                    .iter()
                    .map(|row| row.member.message.event_id.as_deref())
                    .collect(),
            ),
        ),
        (
            "channels",
            Column::MaybeText(
                sorted
                    .iter()
                    .map(|row| channels.get(&row.member.id).map(String::as_str))
                    .collect(),
            ),
        ),
        (
            "created_at",
            Column::Int(sorted.iter().map(|row| row.member.created_at.0).collect()),
        ),
        (
            "expires_at",
            Column::Int(sorted.iter().map(|row| expires_at(row)).collect()),
        ),
    ]);
    let sql = "insert into message (app_id, id, event_type, event_id, channels, created_at, expires_at) \
               select app_id, id, event_type, event_id, channels, created_at, expires_at from {t} where true";
    Write { sql, rows }
}

/// Returns the ids of those messages of `missing` that exist: an earlier try of the batch has committed them.
pub(super) async fn find_committed(tx: &Tx, missing: &[Fresh<'_>]) -> Result<HashSet<String>> {
    if missing.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = Rows::new([
        ("app_id", Column::Text(missing.iter().map(|row| row.app_id).collect())),
        (
            "id",
            Column::Text(missing.iter().map(|row| row.member.id.as_str()).collect()),
        ),
    ]);
    let sql = "select m.id from {t} join message m on m.app_id = t.app_id and m.id = t.id";
    let found = tx
        .conn()
        .query_all_raw(statement(tx.backend(), sql, &[("t", &rows)], []))
        .await?;
    found.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Makes the deliveries of `committed` due that an earlier try has leased. Its commit succeeded without an answer, so
/// they were never handed to the sender. `tried` are the lease ids of the earlier tries.
pub(super) async fn release_lost(tx: &Tx, committed: &HashSet<String>, tried: &[i64]) -> Result<()> {
    if committed.is_empty() || tried.is_empty() {
        return Ok(());
    }
    let messages = Rows::new([("id", Column::Text(committed.iter().map(String::as_str).collect()))]);
    let leases = Rows::new([("lease", Column::Int(tried.to_vec()))]);
    let sql = "update delivery set due_at = $1, owner = null, lease_id = null \
               where message_id in (select id from {m}) and lease_id in (select lease from {l})";
    let statement = statement(
        tx.backend(),
        sql,
        &[("m", &messages), ("l", &leases)],
        [tx.now.0.into()],
    );
    tx.conn().execute_raw(statement).await?;
    tx.wake_on_commit();
    Ok(())
}

/// Builds the insert of payloads.
fn contents<'a>(stored: &[Fresh<'a>]) -> Write<'a> {
    let rows = Rows::new([
        ("app_id", Column::Text(stored.iter().map(|row| row.app_id).collect())),
        (
            "message_id",
            Column::Text(stored.iter().map(|row| row.member.id.as_str()).collect()),
        ),
        (
            "body",
            Column::Text(stored.iter().map(|row| row.member.message.body.as_str()).collect()),
        ),
        (
            "content_type",
            Column::MaybeText(
                stored
                    .iter()
                    .map(|row| row.member.message.content_type.as_deref())
                    .collect(),
            ),
        ),
        ("expires_at", Column::Int(stored.iter().map(expires_at).collect())),
    ]);
    let sql = "insert into message_content (app_id, message_id, body, content_type, expires_at) \
               select app_id, message_id, body, content_type, expires_at from {t}";
    Write { sql, rows }
}

/// Returns when the payload may be removed, in microseconds.
fn expires_at(row: &Fresh<'_>) -> i64 {
    row.member.created_at.plus(row.member.message.retention).0
}

/// Builds the insert of deliveries.
fn deliveries(rows: &[DeliveryRow]) -> Write<'_> {
    let rows = Rows::new([
        ("id", Column::Text(rows.iter().map(|row| row.id.as_str()).collect())),
        (
            "app_id",
            Column::Text(rows.iter().map(|row| row.app_id.as_str()).collect()),
        ),
        (
            "message_id",
            Column::Text(rows.iter().map(|row| row.message_id.as_str()).collect()),
        ),
        (
            "endpoint_id",
            Column::Text(rows.iter().map(|row| &*row.endpoint_id).collect()),
        ),
        (
            "due_at",
            Column::MaybeInt(rows.iter().map(|row| row.due_at.map(|at| at.0)).collect()),
        ),
        (
            "owner",
            Column::MaybeText(
                rows.iter()
                    .map(|row| row.lease.as_ref().map(|(owner, _)| &**owner))
                    .collect(),
            ),
        ),
        (
            "lease_id",
            Column::MaybeInt(rows.iter().map(|row| row.lease.as_ref().map(|(_, id)| *id)).collect()),
        ),
    ]);
    let sql = "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at, owner, lease_id) \
               select id, app_id, message_id, endpoint_id, 0, 0, due_at, owner, lease_id from {t}";
    Write { sql, rows }
}

/// Inserts the payloads of stored messages, and their deliveries in statements of at most `chunk` rows.
pub(super) async fn insert_rest(tx: &Tx, stored: &[Fresh<'_>], rows: &[DeliveryRow], chunk: usize) -> Result<()> {
    if stored.is_empty() {
        return Ok(());
    }
    let mut chunks = rows.chunks(chunk);
    let first = chunks.next().map(deliveries);
    execute_all(tx, [contents(stored)].into_iter().chain(first).collect()).await?;
    for rows in chunks {
        execute_all(tx, vec![deliveries(rows)]).await?;
    }
    Ok(())
}
