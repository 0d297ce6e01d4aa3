//! The statements that store a batch step by step.
//!
//! Rows that another batch may insert too are sorted by their unique keys, so that two batches cannot deadlock. A usual
//! batch on Postgres does not pass here: `at_once.rs` stores it by one statement. Must not decide what is stored.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use sea_orm::ConnectionTrait;

use super::columns::{self, NamedColumn, Table};
use super::place::DeliveryRow;
use super::plan::{EventName, Plan};
use crate::domain::typed_id::MessageId;
use crate::error::{Error, Kind, Result};
use crate::store::database::rows::{Column, Rows, Write, execute_all, statement};
use crate::store::event_id;
use crate::store::poll::epoch;
use crate::store::{Backend, Tx};

/// Takes the members' event ids, each for the first member that brings it. Returns the members that have got theirs,
/// and those without an event id.
pub(super) async fn take_event_ids<'p, 'a>(tx: &Tx, fresh: &[&'p Plan<'a>]) -> Result<Vec<&'p Plan<'a>>> {
    let mut firsts: HashMap<EventName, &MessageId> = HashMap::new();
    for plan in fresh {
        if let Some(name) = plan.event_id() {
            firsts.entry(name).or_insert(&plan.member.id);
        }
    }
    let wanted: Vec<_> = firsts
        .keys()
        .map(|name| (name.app_id.as_str(), name.event_id))
        .collect();
    let taken = event_id::take(tx, &wanted).await?;
    let has_its_own = |plan: &&Plan| match plan.event_id() {
        None => true,
        Some(name) => {
            firsts[&name] == &plan.member.id && taken.contains(&(name.app_id.to_string(), name.event_id.to_owned()))
        }
    };
    Ok(fresh.iter().copied().filter(has_its_own).collect())
}

/// Inserts messages. Leaves out those that exist already. Returns the ids that were inserted.
pub(super) async fn insert_messages(tx: &Tx, fresh: &[&Plan<'_>]) -> Result<HashSet<MessageId>> {
    if fresh.is_empty() {
        return Ok(HashSet::new());
    }
    static INSERT: LazyLock<String> = LazyLock::new(|| {
        let sql = insert(Table::Message, in_message(&[]));
        // SQLite would read `on conflict` as the condition of a join.
        sql + " where true on conflict do nothing returning id"
    });
    let mut sorted = fresh.to_vec();
    sorted.sort_by_key(|plan| (&plan.app.id, &plan.member.id));
    let rows = Rows::new(in_message(&sorted));
    let inserted = tx
        .conn()
        .query_all_raw(statement(tx.backend(), &INSERT, &[("t", &rows)], []))
        .await?;
    inserted.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Returns the ids of those messages of `missing` that exist: an earlier try of the batch has committed them.
pub(super) async fn find_committed(tx: &Tx, missing: &[&Plan<'_>]) -> Result<HashSet<MessageId>> {
    if missing.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = Rows::new([
        (
            "app_id",
            Column::Text(missing.iter().map(|row| row.app.id.as_str()).collect()),
        ),
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

/// Releases leases that an earlier try has given to deliveries of `committed`: their rows are due now. The commit of
/// that try succeeded without an answer, so the leases never went to the sender. `tried` are the lease ids of the
/// earlier tries.
pub(super) async fn release_lost(tx: &Tx, committed: &HashSet<MessageId>, tried: &[i64]) -> Result<()> {
    if committed.is_empty() || tried.is_empty() {
        return Ok(());
    }
    let messages = Rows::new([("id", Column::Text(committed.iter().map(MessageId::as_str).collect()))]);
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

/// Returns the columns of `message`.
fn in_message<'a>(plans: &'a [&Plan<'_>]) -> impl Iterator<Item = NamedColumn<'a>> {
    let fields = columns::of_messages(plans).into_iter();
    fields.filter_map(|field| Some((field.message?, field.values)))
}

/// Returns the columns of `message_content`.
fn in_content<'a>(plans: &'a [&Plan<'_>]) -> impl Iterator<Item = NamedColumn<'a>> {
    let fields = columns::of_messages(plans).into_iter();
    fields.filter_map(|field| Some((field.content?, field.values)))
}

/// Builds the insert of these columns of the bound table `t`.
fn insert<'a>(table: Table, columns: impl IntoIterator<Item = NamedColumn<'a>>) -> String {
    let names: Vec<_> = columns.into_iter().map(|(name, _)| name).collect();
    table.insert(&names, "{t}")
}

/// Builds the insert of payloads.
fn contents<'a>(plans: &'a [&Plan<'_>]) -> Write<'a> {
    static INSERT: LazyLock<String> = LazyLock::new(|| insert(Table::Content, in_content(&[])));
    Write {
        sql: &INSERT,
        rows: Rows::new(in_content(plans)),
    }
}

/// Builds the insert of tags; `None` if no message has one.
fn tags<'a>(plans: &'a [&Plan<'_>]) -> Option<Write<'a>> {
    static INSERT: LazyLock<String> = LazyLock::new(|| insert(Table::Tag, columns::of_tags(&[])));
    columns::has_tags(plans).then(|| Write {
        sql: &INSERT,
        rows: Rows::new(columns::of_tags(plans)),
    })
}

/// Inserts the rows of the pollers that get these messages, if any do. Gives the epoch a number before, if it has none.
///
/// # Errors
/// `Database` if the epoch has changed in the meantime.
async fn insert_items(tx: &Tx, stored: &[&Plan<'_>]) -> Result<()> {
    if !columns::has_items(stored) {
        return Ok(());
    }
    let rows = Rows::new(columns::of_items(stored));
    let (epoch, values) = match tx.backend() {
        Backend::Sqlite => ("select $1 as tx".to_owned(), vec![epoch::next_tx(tx).await?.into()]),
        Backend::Postgres => {
            epoch::register(tx).await?;
            (epoch::present_tx(), Vec::new())
        }
    };
    let names: Vec<_> = columns::of_items(&[]).into_iter().map(|(name, _)| name).collect();
    let sql = format!("with e as ({epoch}) {}", Table::Item.insert(&names, "{t}"));
    let inserted = tx
        .conn()
        .execute_raw(statement(tx.backend(), &sql, &[("t", &rows)], values))
        .await?;
    let wanted: usize = stored.iter().map(|plan| plan.pollers.len()).sum();
    match inserted.rows_affected() == wanted as u64 {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Database,
            "the database is another one since a moment ago",
        )),
    }
}

/// Builds the insert of deliveries.
fn deliveries(rows: &[DeliveryRow]) -> Write<'_> {
    static INSERT: LazyLock<String> = LazyLock::new(|| insert(Table::Delivery, columns::of_deliveries(&[])));
    Write {
        sql: &INSERT,
        rows: Rows::new(columns::of_deliveries(rows)),
    }
}

/// Inserts the payloads and tags of stored messages, their rows for pollers, and their deliveries in statements of at most
/// `chunk` rows.
pub(super) async fn insert_rest(tx: &Tx, stored: &[&Plan<'_>], rows: &[DeliveryRow], chunk: usize) -> Result<()> {
    if stored.is_empty() {
        return Ok(());
    }
    let mut chunks = rows.chunks(chunk);
    let first = chunks.next().map(deliveries);
    let first = [contents(stored)].into_iter().chain(tags(stored)).chain(first);
    execute_all(tx, first.collect()).await?;
    for rows in chunks {
        execute_all(tx, vec![deliveries(rows)]).await?;
    }
    insert_items(tx, stored).await
}
