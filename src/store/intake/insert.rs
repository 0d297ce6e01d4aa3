//! The statements of a batch, one a table, rows sorted by their unique keys so that two batches never cross.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult};

use super::Member;
use super::known::Named;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::Tx;
use crate::store::database::rows::{Column, Rows, Write, execute_all, statement};
use crate::store::database::source::Source;
use crate::store::entity::json_text::JsonText;
use crate::store::event_id;
use crate::store::queue::{TARGET_BUT_HEADERS, Target, TargetRow};

/// Bytes of an endpoint's headers as they are stored. Larger ones are read when they are to be sent: a thousand endpoints
/// with all the headers that they may have would hold up whatever else is to be accepted.
const LARGE_HEADERS: i32 = 4096;

/// An application and its endpoints that may be called.
pub(super) struct App {
    pub id: String,
    /// On Postgres: what changes with it and with its endpoints.
    pub revision: i64,
    pub endpoints: Vec<Arc<Endpoint>>,
}

pub(super) struct Endpoint {
    pub id: Arc<str>,
    pub event_types: Option<Vec<String>>,
    pub channels: Option<Vec<String>>,
    /// None: with its large headers it was not read.
    pub target: Option<Arc<Target>>,
    /// Of its texts that were read, as they are stored.
    pub bytes: usize,
}

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

/// The applications called so by id or uid, each with its endpoints, by (organization, name).
pub(super) async fn find_apps<'a>(source: &impl Source, mut names: Vec<(&'a str, &'a str)>) -> Result<Named<'a>> {
    names.sort_unstable();
    names.dedup();
    // A uid never begins with `app_`, so a name says which of the two it is.
    let (ids, uids): (Vec<_>, Vec<_>) = names.into_iter().partition(|(_, name)| name.starts_with("app_"));
    let mut found = HashMap::new();
    for (names, matches) in [(ids, "a.id = t.name"), (uids, "a.uid = t.name")] {
        if names.is_empty() {
            continue;
        }
        let (orgs, refs) = names.iter().copied().unzip();
        let rows = Rows::new([("org_id", Column::Text(orgs)), ("name", Column::Text(refs))]);
        let sql = format!(
            "select a.id as a_id, a.org_id as a_org_id, a.revision as a_revision, t.name as a_name, e.event_types, e.channels, \
             octet_length(e.headers) as header_bytes, octet_length(e.url) + octet_length(e.secrets) \
             + coalesce(octet_length(e.event_types), 0) + coalesce(octet_length(e.channels), 0) as other_bytes, \
             case when octet_length(e.headers) <= {LARGE_HEADERS} then e.headers end as headers, {TARGET_BUT_HEADERS} from {{t}} \
             join application a on a.org_id = t.org_id and {matches} and a.deleted_at is null and {} \
             left join endpoint e on e.app_id = a.id and e.deleted_at is null and not e.disabled order by e.id",
            if matches == "a.uid = t.name" {
                "a.uid is not null"
            } else {
                "true"
            }
        );
        let rows = source
            .source()
            .query_all_raw(statement(source.dialect(), &sql, &[("t", &rows)], []))
            .await?;
        let mut apps: HashMap<(String, String), App> = HashMap::new();
        for row in &rows {
            let key = (row.try_get("", "a_org_id")?, row.try_get("", "a_name")?);
            let id: String = row.try_get("", "a_id")?;
            let revision = row.try_get("", "a_revision")?;
            let app = apps.entry(key).or_insert_with(|| App {
                id,
                revision,
                endpoints: Vec::new(),
            });
            if let Some(id) = row.try_get::<Option<String>>("", "id")? {
                app.endpoints.push(Arc::new(endpoint(id, row)?));
            }
        }
        for name in names {
            if let Some(app) = apps.remove(&(name.0.to_owned(), name.1.to_owned())) {
                found.insert(name, Arc::new(app));
            }
        }
    }
    Ok(found)
}

fn endpoint(id: String, row: &QueryResult) -> Result<Endpoint> {
    let list = |column| {
        Ok::<_, sea_orm::DbErr>(
            row.try_get::<Option<JsonText<Vec<String>>>>("", column)?
                .map(|list| list.0),
        )
    };
    let (headers, others): (i32, i32) = (row.try_get("", "header_bytes")?, row.try_get("", "other_bytes")?);
    let target = match headers <= LARGE_HEADERS {
        true => Some(Target::from(TargetRow::from_query_result(row, "")?)),
        false => None,
    };
    let bytes = others + target.as_ref().map_or(0, |_| headers);
    Ok(Endpoint {
        id: target.as_ref().map_or_else(|| id.into(), |it| it.endpoint_id.clone()),
        event_types: list("event_types")?,
        channels: list("channels")?,
        target: target.map(Arc::new),
        bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
    })
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
