//! The statements of a batch, one a table, rows sorted by their unique keys so that two batches never cross.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sea_orm::ConnectionTrait;

use super::member::Member;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::Tx;
use crate::store::database::rows::{Column, Rows, Write, execute_all, statement};
use crate::store::event_id;

/// A member that is to be stored, and where.
pub(super) struct Fresh<'a> {
    pub app_id: &'a str,
    pub member: &'a Member,
}

impl<'a> Fresh<'a> {
    /// The application and the event id in it.
    fn event_id(&self) -> Option<(&'a str, &'a str)> {
        Some((self.app_id, self.member.message.event_id.as_deref()?))
    }
}

pub(super) struct DeliveryRow {
    pub id: String,
    pub app_id: String,
    pub message_id: String,
    pub endpoint_id: Arc<str>,
    pub due_at: Option<Timestamp>,
    pub lease: Option<(Arc<str>, i64)>,
}

/// Takes the members' event ids, each for the first that brings it. Returns those members that have theirs now, or bring none.
pub(super) async fn take_event_ids<'a>(tx: &Tx, fresh: Vec<Fresh<'a>>) -> Result<Vec<Fresh<'a>>> {
    let mut firsts: HashMap<(&str, &str), &str> = HashMap::new();
    for one in &fresh {
        if let Some(name) = one.event_id() {
            firsts.entry(name).or_insert(&one.member.id);
        }
    }
    let wanted: Vec<_> = firsts.keys().copied().collect();
    let taken = event_id::take(tx, &wanted).await?;
    let has_its_own = |one: &Fresh| match one.event_id() {
        None => true,
        Some(name) => firsts[&name] == one.member.id && taken.contains(&(name.0.to_owned(), name.1.to_owned())),
    };
    Ok(fresh.into_iter().filter(has_its_own).collect())
}

/// Inserts messages; one that is there already is left out. Answers the ids inserted.
pub(super) async fn insert_messages(tx: &Tx, fresh: &[Fresh<'_>]) -> Result<HashSet<String>> {
    if fresh.is_empty() {
        return Ok(HashSet::new());
    }
    let channels = channels(fresh.iter().map(|one| one.member));
    let Write { sql, rows } = messages(fresh, &channels);
    let sql = format!("{sql} on conflict do nothing returning id");
    let inserted = tx
        .conn()
        .query_all_raw(statement(tx.backend(), &sql, &[("t", &rows)], []))
        .await?;
    inserted.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// The channels of each message as the column has them.
pub(super) fn channels<'a>(members: impl Iterator<Item = &'a Member>) -> HashMap<String, String> {
    let some = members.filter(|member| !member.message.channels.is_empty());
    some.map(|member| {
        let text = serde_json::to_string(&member.message.channels).expect("text is JSON");
        (member.id.clone(), text)
    })
    .collect()
}

fn messages<'a>(fresh: &[Fresh<'a>], channels: &'a HashMap<String, String>) -> Write<'a> {
    let mut sorted: Vec<_> = fresh.iter().collect();
    sorted.sort_by_key(|one| (one.app_id, &one.member.id));
    let rows = Rows::new([
        ("app_id", Column::Text(sorted.iter().map(|one| one.app_id).collect())),
        (
            "id",
            Column::Text(sorted.iter().map(|one| one.member.id.as_str()).collect()),
        ),
        (
            "event_type",
            Column::Text(
                sorted
                    .iter()
                    .map(|one| one.member.message.event_type.as_str())
                    .collect(),
            ),
        ),
        (
            "event_id",
            Column::MaybeText(
                sorted
                    .iter()
                    .map(|one| one.member.message.event_id.as_deref())
                    .collect(),
            ),
        ),
        (
            "channels",
            Column::MaybeText(
                sorted
                    .iter()
                    .map(|one| channels.get(&one.member.id).map(String::as_str))
                    .collect(),
            ),
        ),
        (
            "created_at",
            Column::Int(sorted.iter().map(|one| one.member.created_at.0).collect()),
        ),
        (
            "expires_at",
            Column::Int(sorted.iter().map(|one| expires_at(one)).collect()),
        ),
    ]);
    let sql = "insert into message (app_id, id, event_type, event_id, channels, created_at, expires_at) \
               select app_id, id, event_type, event_id, channels, created_at, expires_at from {t} where true";
    Write { sql, rows }
}

/// Those of `missing` that an earlier try had committed: their ids are there.
pub(super) async fn find_committed(tx: &Tx, missing: &[Fresh<'_>]) -> Result<HashSet<String>> {
    if missing.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = Rows::new([
        ("app_id", Column::Text(missing.iter().map(|one| one.app_id).collect())),
        (
            "id",
            Column::Text(missing.iter().map(|one| one.member.id.as_str()).collect()),
        ),
    ]);
    let sql = "select m.id from {t} join message m on m.app_id = t.app_id and m.id = t.id";
    let found = tx
        .conn()
        .query_all_raw(statement(tx.backend(), sql, &[("t", &rows)], []))
        .await?;
    found.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Makes due what a try had leased whose commit succeeded unheard: nobody is sending it.
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

fn contents<'a>(stored: &[Fresh<'a>]) -> Write<'a> {
    let rows = Rows::new([
        ("app_id", Column::Text(stored.iter().map(|one| one.app_id).collect())),
        (
            "message_id",
            Column::Text(stored.iter().map(|one| one.member.id.as_str()).collect()),
        ),
        (
            "body",
            Column::Text(stored.iter().map(|one| one.member.message.body.as_str()).collect()),
        ),
        (
            "content_type",
            Column::MaybeText(
                stored
                    .iter()
                    .map(|one| one.member.message.content_type.as_deref())
                    .collect(),
            ),
        ),
        ("expires_at", Column::Int(stored.iter().map(expires_at).collect())),
    ]);
    let sql = "insert into message_content (app_id, message_id, body, content_type, expires_at) \
               select app_id, message_id, body, content_type, expires_at from {t}";
    Write { sql, rows }
}

/// When the payload may be removed.
fn expires_at(one: &Fresh<'_>) -> i64 {
    one.member.created_at.plus(one.member.message.retention).0
}

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
    let sql = "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempt, due_at, owner, lease_id) \
               select id, app_id, message_id, endpoint_id, 0, 0, due_at, owner, lease_id from {t}";
    Write { sql, rows }
}

/// Inserts the contents of stored messages and their deliveries, these in chunks.
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
