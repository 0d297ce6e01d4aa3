//! Reads and writes the rows of pollers.
//!
//! Each function takes the application, and never finds a poller of another one. Secrets come and go sealed. A deleted
//! poller has no row; its messages go with their retention. Must not read the messages of a poller: `poll/` does.

use sea_orm::sea_query::LockType;
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, Select, Statement,
};

use super::application::set;
use super::database::page::{Page, PageRequest, fetch_within};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::application;
use super::entity::endpoint::StoredSecret;
use super::entity::json_text::JsonText;
use super::entity::poller::{ActiveModel, Column, Entity, Model};
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::domain::poller_number::PollerNumber;
use crate::error::{Error, Kind, Result};

/// SQL for the bytes of a poller that are read to show it.
const SHOWN_BYTES: &str = "octet_length(description) + octet_length(secrets) \
    + coalesce(octet_length(event_types), 0) + coalesce(octet_length(channels), 0)";

/// The fields of a poller that a caller can set, and replace later by a PUT.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// The caller's own name for the poller, unique in its application.
    pub uid: Option<String>,
    pub description: String,
    pub disabled: bool,
    /// The event types that the poller wants; `None` means all.
    pub event_types: Option<Vec<String>>,
    /// The channels of which a message must have at least one; `None` means any message.
    pub channels: Option<Vec<String>>,
}

/// A change of a poller: `None` keeps a field. If a field is an `Option<Option<_>>`, `Some(None)` clears it.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub uid: Option<Option<String>>,
    pub description: Option<String>,
    pub disabled: Option<bool>,
    pub event_types: Option<Option<Vec<String>>>,
    pub channels: Option<Option<Vec<String>>>,
    /// The secrets, newest first.
    pub secrets: Option<Vec<StoredSecret>>,
}

impl From<Content> for Change {
    fn from(content: Content) -> Self {
        Self {
            uid: Some(content.uid),
            description: Some(content.description),
            disabled: Some(content.disabled),
            event_types: Some(content.event_types),
            channels: Some(content.channels),
            secrets: None,
        }
    }
}

/// Returns the poller with this id or uid; `None` if there is none.
pub async fn find(source: &impl Source, app_id: &str, id_or_uid: &str) -> Result<Option<Model>> {
    if check_identifier(id_or_uid).is_err() {
        return Ok(None);
    }
    Ok(named(app_id, id_or_uid).one(source.source()).await?)
}

/// Returns the poller with this id or uid.
///
/// # Errors
/// `NotFound` if there is none.
pub async fn get(source: &impl Source, app_id: &str, id_or_uid: &str) -> Result<Model> {
    find(source, app_id, id_or_uid).await?.ok_or_else(not_found)
}

/// Returns the poller with this id or uid, and locks its row until the transaction ends, so that no other transaction
/// changes it.
///
/// # Errors
/// `NotFound` if there is none.
pub async fn get_locked(tx: &Tx, app_id: &str, id_or_uid: &str) -> Result<Model> {
    check_identifier(id_or_uid).map_err(|_| not_found())?;
    let found = named(app_id, id_or_uid).lock(LockType::NoKeyUpdate).one(tx.conn());
    found.await?.ok_or_else(not_found)
}

/// Returns the secrets of the poller with this id, newest first.
///
/// # Errors
/// `NotFound` if there is none.
pub async fn get_secrets(source: &impl Source, app_id: &str, id: &str) -> Result<Vec<StoredSecret>> {
    let row = of(app_id)
        .filter(Column::Id.eq(id))
        .select_only()
        .column(Column::Secrets);
    let row = row.into_tuple::<JsonText<Vec<StoredSecret>>>();
    let found = row.one(source.source()).await?;
    found.map(|secrets| secrets.0).ok_or_else(not_found)
}

/// Checks that there is a poller with this id.
///
/// # Errors
/// `NotFound` if there is none.
pub async fn check_exists(source: &impl Source, app_id: &str, id: &str) -> Result<()> {
    let row = of(app_id).filter(Column::Id.eq(id)).select_only().column(Column::Id);
    let found = row.into_tuple::<String>().one(source.source()).await?;
    found.map(|_| ()).ok_or_else(not_found)
}

/// Returns a page of the application's pollers, in the order of their ids.
pub async fn list(source: &impl Source, app_id: &str, page: &PageRequest) -> Result<Page<Model>> {
    fetch_within(source, of(app_id), Column::Id, page, SHOWN_BYTES, |query| query).await
}

/// Counts the application's pollers.
pub async fn count(source: &impl Source, app_id: &str) -> Result<u64> {
    Ok(of(app_id).count(source.source()).await?)
}

/// Inserts a poller with its first secret.
///
/// # Errors
/// `Conflict` if the uid is taken.
pub async fn insert(tx: &Tx, app_id: &str, id: String, content: Content, secret: StoredSecret) -> Result<Model> {
    let model = Model {
        app_id: app_id.to_owned(),
        id,
        number: PollerNumber::generate(),
        uid: content.uid,
        description: content.description,
        disabled: content.disabled,
        event_types: content.event_types.map(JsonText),
        channels: content.channels.map(JsonText),
        secrets: JsonText(vec![secret]),
        created_at: tx.now,
        updated_at: tx.now,
    };
    let row = model.clone().into_active_model();
    Entity::insert(row)
        .exec_without_returning(tx.conn())
        .await
        .map_err(uid_taken)?;
    note_change(tx, app_id).await?;
    Ok(model)
}

/// Changes a poller.
///
/// # Errors
/// `NotFound` if there is none; `Conflict` if the uid is taken.
pub async fn update(tx: &Tx, app_id: &str, id: &str, change: Change) -> Result<Model> {
    let row = ActiveModel {
        uid: set(change.uid),
        description: set(change.description),
        disabled: set(change.disabled),
        event_types: set(change.event_types.map(|list| list.map(JsonText))),
        channels: set(change.channels.map(|list| list.map(JsonText))),
        secrets: set(change.secrets.map(JsonText)),
        updated_at: ActiveValue::Set(tx.now),
        ..Default::default()
    };
    let updated = Entity::update_many()
        .set(row)
        .filter(Column::AppId.eq(app_id))
        .filter(Column::Id.eq(id))
        .exec_with_returning(tx.conn())
        .await
        .map_err(uid_taken)?;
    let changed = updated.into_iter().next().ok_or_else(not_found)?;
    note_change(tx, app_id).await?;
    Ok(changed)
}

/// Deletes a poller. Its uid is free.
///
/// # Errors
/// `NotFound` if there is none.
pub async fn delete(tx: &Tx, app_id: &str, id: &str) -> Result<()> {
    let deleted = Entity::delete_by_id((app_id.to_owned(), id.to_owned())).exec(tx.conn());
    match deleted.await?.rows_affected {
        0 => Err(not_found()),
        _ => note_change(tx, app_id).await,
    }
}

/// Deletes all pollers of an application.
pub async fn delete_all(tx: &Tx, app_id: &str) -> Result<()> {
    let all = Entity::delete_many().filter(Column::AppId.eq(app_id));
    all.exec(tx.conn()).await?;
    Ok(())
}

/// Locks all pollers of an application until the transaction ends, in the order of their ids.
pub async fn lock_all(tx: &Tx, app_id: &str) -> Result<()> {
    let all = of(app_id).select_only().column(Column::Id).order_by_asc(Column::Id);
    let all = all.lock(LockType::NoKeyUpdate).into_tuple::<String>();
    all.all(tx.conn()).await?;
    Ok(())
}

/// Writes into the application's row whether it has a poller that takes messages. The row is written even if that is
/// the same as before: its trigger then changes the revision, so that no process goes on with the pollers that it
/// remembers.
///
/// It locks that row first, by a statement of its own. An update that has waited for another transaction takes the row as
/// that one left it, but its subquery still reads the pollers of before: it would write false beside a poller that the
/// other transaction has just created. Writes of pollers lock the poller's row before this one.
async fn note_change(tx: &Tx, app_id: &str) -> Result<()> {
    let row = application::Entity::find_by_id(app_id).select_only();
    let row = row.column(application::Column::Id).lock(LockType::NoKeyUpdate);
    row.into_tuple::<String>().one(tx.conn()).await?;
    let sql = "update application set polled = exists (select 1 from poller where app_id = $1 and not disabled) \
               where id = $1";
    let statement = Statement::from_sql_and_values(tx.backend().orm(), sql, [app_id.into()]);
    tx.conn().execute_raw(statement).await?;
    Ok(())
}

/// Selects the poller with this id or uid.
fn named(app_id: &str, id_or_uid: &str) -> Select<Entity> {
    let by_name = match Prefix::Poller.is_of(id_or_uid) {
        true => Column::Id.eq(id_or_uid),
        false => Column::Uid.eq(id_or_uid),
    };
    of(app_id).filter(by_name)
}

fn of(app_id: &str) -> Select<Entity> {
    Entity::find().filter(Column::AppId.eq(app_id))
}

/// Returns the error that the uid is taken.
pub fn already_exists() -> Error {
    Error::new(Kind::Conflict, "a poller with this uid exists already")
}

fn not_found() -> Error {
    Error::not_found("poller")
}

fn uid_taken(err: sea_orm::DbErr) -> Error {
    let err = Error::from(err);
    match err.kind {
        Kind::Conflict => already_exists().because(err),
        _ => err,
    }
}
