//! Reads and writes the rows of endpoints.
//!
//! Each function takes the application, and never finds an endpoint of another one. Secrets and custom headers come and
//! go sealed. Must not remove rows: a deleted endpoint keeps its row, without secrets and headers, until its history is
//! gone.

use std::collections::{BTreeMap, HashMap};

use sea_orm::sea_query::{Expr, LockType};
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, EntityTrait, IntoActiveModel, Iterable, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, Select, UpdateMany,
};

use super::application::set;
use super::database::page::{Page, PageRequest, fetch_within};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::endpoint::{ActiveModel, Column, Entity, Model, StoredHeaders, StoredSecret};
use super::entity::json_text::JsonText;
use crate::domain::health::DisabledReason;
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};

/// SQL for the bytes of an endpoint that are read to show it. Columns that are always small are left out.
const SHOWN_BYTES: &str = "octet_length(description) + octet_length(url) + octet_length(metadata) \
    + coalesce(octet_length(event_types), 0) + coalesce(octet_length(channels), 0)";

/// The fields of an endpoint that a caller can set, and replace later by a PUT.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub url: String,
    pub description: String,
    /// The caller's own name for the endpoint, unique in its application.
    pub uid: Option<String>,
    /// The most requests per second; `None` means no limit.
    pub throttle_rate: Option<i32>,
    pub disabled: bool,
    /// The event types that the endpoint wants; `None` means all.
    pub event_types: Option<Vec<String>>,
    /// The channels of which a message must have at least one; `None` means any message.
    pub channels: Option<Vec<String>>,
    pub metadata: BTreeMap<String, String>,
}

/// A change of an endpoint: `None` keeps a field. If a field is an `Option<Option<_>>`, `Some(None)` clears it.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub url: Option<String>,
    pub description: Option<String>,
    pub uid: Option<Option<String>>,
    pub throttle_rate: Option<Option<i32>>,
    pub disabled: Option<bool>,
    pub event_types: Option<Option<Vec<String>>>,
    pub channels: Option<Option<Vec<String>>>,
    pub metadata: Option<BTreeMap<String, String>>,
    /// The custom headers.
    pub headers: Option<StoredHeaders>,
    /// The secrets, newest first.
    pub secrets: Option<Vec<StoredSecret>>,
    /// The instant since which the endpoint counts as failing; `Some(None)` means it works.
    pub failing_since: Option<Option<Timestamp>>,
    /// Why the endpoint is disabled from now on; `Some(None)` means it is enabled.
    pub disabled_reason: Option<Option<DisabledReason>>,
}

impl From<Content> for Change {
    fn from(content: Content) -> Self {
        Self {
            url: Some(content.url),
            description: Some(content.description),
            uid: Some(content.uid),
            throttle_rate: Some(content.throttle_rate),
            disabled: Some(content.disabled),
            event_types: Some(content.event_types),
            channels: Some(content.channels),
            metadata: Some(content.metadata),
            headers: None,
            secrets: None,
            failing_since: None,
            disabled_reason: None,
        }
    }
}

/// Returns the endpoint with this id or uid; `None` if there is none or it is deleted.
pub async fn find(source: &impl Source, app_id: &str, id_or_uid: &str) -> Result<Option<Model>> {
    if check_identifier(id_or_uid).is_err() {
        return Ok(None);
    }
    Ok(named(app_id, id_or_uid).one(source.source()).await?)
}

/// Returns the endpoint with this id or uid.
///
/// # Errors
/// `NotFound` if there is none or it is deleted.
pub async fn get(source: &impl Source, app_id: &str, id_or_uid: &str) -> Result<Model> {
    find(source, app_id, id_or_uid).await?.ok_or_else(not_found)
}

/// Returns the id of the endpoint with this id or uid. By its id a deleted endpoint is found too, because its history
/// can still be read; its row stays as long as the history does.
///
/// # Errors
/// `NotFound` if there is none, or if a uid names a deleted one.
pub async fn get_id(source: &impl Source, app_id: &str, id_or_uid: &str) -> Result<String> {
    check_identifier(id_or_uid).map_err(|_| not_found())?;
    let found = match Prefix::Endpoint.is_of(id_or_uid) {
        true => Entity::find_by_id((app_id.to_owned(), id_or_uid.to_owned())),
        false => named(app_id, id_or_uid),
    };
    let id = found.select_only().column(Column::Id).into_tuple();
    id.one(source.source()).await?.ok_or_else(not_found)
}

/// Returns the endpoint with this id or uid, and locks its row until the transaction ends, so that no other transaction
/// changes it.
///
/// # Errors
/// `NotFound` if there is none or it is deleted.
pub async fn get_locked(tx: &Tx, app_id: &str, id_or_uid: &str) -> Result<Model> {
    check_identifier(id_or_uid).map_err(|_| not_found())?;
    let found = named(app_id, id_or_uid).lock_exclusive().one(tx.conn()).await?;
    found.ok_or_else(not_found)
}

/// Returns a page of the application's endpoints, in the order of their ids, without headers and secrets: the API does
/// not show them in a list. The page may end early, so that it takes no more than 4 MiB.
pub async fn list(source: &impl Source, app_id: &str, page: &PageRequest) -> Result<Page<Model>> {
    fetch_within(source, living(app_id), Column::Id, page, SHOWN_BYTES, shown).await
}

/// Returns a page of the application's endpoints, deleted ones too, otherwise as [`list`].
pub async fn list_with_deleted(source: &impl Source, app_id: &str, page: &PageRequest) -> Result<Page<Model>> {
    let all = Entity::find().filter(Column::AppId.eq(app_id));
    fetch_within(source, all, Column::Id, page, SHOWN_BYTES, shown).await
}

/// Returns the uids of these endpoints, deleted ones too, by id.
pub async fn find_uids(
    source: &impl Source,
    app_id: &str,
    ids: impl IntoIterator<Item = &str>,
) -> Result<HashMap<String, Option<String>>> {
    let rows: Vec<(String, Option<String>)> = Entity::find()
        .select_only()
        .columns([Column::Id, Column::Uid])
        .filter(Column::AppId.eq(app_id))
        .filter(Column::Id.is_in(ids))
        .into_tuple()
        .all(source.source())
        .await?;
    Ok(rows.into_iter().collect())
}

/// Returns the page together with the endpoints that its rows name, by id. `id` returns a row's endpoint id. The
/// endpoints come as from [`list`], deleted ones too; the page is cut where they would take more than 4 MiB.
pub async fn with_endpoints<T>(
    source: &impl Source,
    app_id: &str,
    page: Page<T>,
    request: &PageRequest,
    id: impl Fn(&T) -> &str,
) -> Result<(Page<T>, HashMap<String, Model>)> {
    let among = |page: &Page<T>| {
        let all = Entity::find().filter(Column::AppId.eq(app_id));
        all.filter(Column::Id.is_in(page.rows.iter().map(&id)))
    };
    let sizes: Vec<(String, i64)> = among(&page)
        .select_only()
        .column(Column::Id)
        .expr(Expr::cust(format!("cast({SHOWN_BYTES} as bigint)")))
        .into_tuple()
        .all(source.source())
        .await?;
    let sizes: HashMap<String, i64> = sizes.into_iter().collect();
    let page = page.within(request, |row| {
        let size = sizes.get(id(&row)).copied().unwrap_or_default();
        Ok((row, usize::try_from(size).unwrap_or_default()))
    })?;
    let rows = shown(among(&page)).all(source.source()).await?;
    Ok((page, rows.into_iter().map(|row| (row.id.clone(), row)).collect()))
}

/// Counts the application's endpoints that are not deleted.
pub async fn count(source: &impl Source, app_id: &str) -> Result<u64> {
    Ok(living(app_id).count(source.source()).await?)
}

/// Inserts an endpoint with its first secret.
///
/// # Errors
/// `Conflict` if the uid is taken.
pub async fn insert(
    tx: &Tx,
    app_id: &str,
    id: String,
    content: Content,
    headers: StoredHeaders,
    secret: StoredSecret,
) -> Result<Model> {
    let disabled = content.disabled;
    let model = Model {
        app_id: app_id.to_owned(),
        id,
        uid: content.uid,
        url: content.url,
        description: content.description,
        disabled: content.disabled,
        event_types: content.event_types.map(JsonText),
        channels: content.channels.map(JsonText),
        throttle_rate: content.throttle_rate,
        metadata: JsonText(content.metadata),
        headers: JsonText(headers),
        secrets: JsonText(vec![secret]),
        created_at: tx.now,
        updated_at: tx.now,
        deleted_at: None,
        failing_since: None,
        disabled_at: disabled.then_some(tx.now),
        disabled_reason: disabled.then_some(DisabledReason::Manual),
    };
    let row = model.clone().into_active_model();
    Entity::insert(row)
        .exec_without_returning(tx.conn())
        .await
        .map_err(uid_taken)?;
    Ok(model)
}

/// Changes an endpoint.
///
/// # Errors
/// `NotFound` if there is none or it is deleted; `Conflict` if the uid is taken.
pub async fn update(tx: &Tx, app_id: &str, id: &str, change: Change) -> Result<Model> {
    let row = ActiveModel {
        url: set(change.url),
        description: set(change.description),
        uid: set(change.uid),
        throttle_rate: set(change.throttle_rate),
        disabled: set(change.disabled),
        event_types: set(change.event_types.map(|list| list.map(JsonText))),
        channels: set(change.channels.map(|list| list.map(JsonText))),
        metadata: set(change.metadata.map(JsonText)),
        headers: set(change.headers.map(JsonText)),
        secrets: set(change.secrets.map(JsonText)),
        failing_since: set(change.failing_since),
        disabled_at: set(change.disabled_reason.map(|reason| reason.map(|_| tx.now))),
        disabled_reason: set(change.disabled_reason),
        updated_at: ActiveValue::Set(tx.now),
        ..Default::default()
    };
    let updated = Entity::update_many()
        .set(row)
        .filter(alive(app_id))
        .filter(Column::Id.eq(id))
        .exec_with_returning(tx.conn())
        .await
        .map_err(uid_taken)?;
    updated.into_iter().next().ok_or_else(not_found)
}

/// Marks an endpoint as deleted and removes its secrets and headers. Its uid is free. Its waiting deliveries end when
/// they are claimed.
///
/// # Errors
/// `NotFound` if there is none or it is deleted already.
pub async fn delete(tx: &Tx, app_id: &str, id: &str) -> Result<()> {
    let deleted = deleted(tx, app_id).filter(Column::Id.eq(id));
    match deleted.exec(tx.conn()).await?.rows_affected {
        0 => Err(not_found()),
        _ => Ok(()),
    }
}

/// Deletes all endpoints of an application, as [`delete`] does one.
pub async fn delete_all(tx: &Tx, app_id: &str) -> Result<()> {
    deleted(tx, app_id).exec(tx.conn()).await?;
    Ok(())
}

/// Locks all endpoints of an application until the transaction ends, so that no other transaction changes them. Locks
/// them in the order of their ids, as settlements do, so that the two cannot deadlock.
pub async fn lock_all(tx: &Tx, app_id: &str) -> Result<()> {
    let all = living(app_id).select_only().column(Column::Id).order_by_asc(Column::Id);
    let all = all.lock(LockType::NoKeyUpdate).into_tuple::<String>();
    all.all(tx.conn()).await?;
    Ok(())
}

/// Builds the update that deletes endpoints.
fn deleted(tx: &Tx, app_id: &str) -> UpdateMany<Entity> {
    let row = ActiveModel {
        deleted_at: ActiveValue::Set(Some(tx.now)),
        secrets: ActiveValue::Set(JsonText(Vec::new())),
        headers: ActiveValue::Set(JsonText(StoredHeaders::default())),
        ..Default::default()
    };
    Entity::update_many().set(row).filter(alive(app_id))
}

/// Selects all columns except headers and secrets, which come back empty.
fn shown(query: Select<Entity>) -> Select<Entity> {
    let columns = Column::iter().filter(|column| !matches!(column, Column::Headers | Column::Secrets));
    query
        .select_only()
        .columns(columns)
        .expr_as(Expr::cust("'{}'"), "headers")
        .expr_as(Expr::cust("'[]'"), "secrets")
}

/// Selects the endpoint with this id or uid, if it is not deleted.
fn named(app_id: &str, id_or_uid: &str) -> Select<Entity> {
    let by_name = match Prefix::Endpoint.is_of(id_or_uid) {
        true => Column::Id.eq(id_or_uid),
        false => Column::Uid.eq(id_or_uid),
    };
    living(app_id).filter(by_name)
}

fn living(app_id: &str) -> Select<Entity> {
    Entity::find().filter(alive(app_id))
}

fn alive(app_id: &str) -> Condition {
    Condition::all()
        .add(Column::AppId.eq(app_id))
        .add(Column::DeletedAt.is_null())
}

/// Returns the error that the uid is taken.
pub fn already_exists() -> Error {
    Error::new(Kind::Conflict, "an endpoint with this uid exists already")
}

fn not_found() -> Error {
    Error::not_found("endpoint")
}

fn uid_taken(err: sea_orm::DbErr) -> Error {
    let err = Error::from(err);
    match err.kind {
        Kind::Conflict => already_exists().because(err),
        _ => err,
    }
}
