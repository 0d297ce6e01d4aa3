//! Reads and writes the rows of event types, which are named within their organization.
//!
//! An event type with a feature flag is shown only to tokens that have the flag; the functions that take `flags` apply
//! this, and `None` there means that all event types are shown. Must not check schemas or payloads: the domain does.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, EntityTrait, IntoActiveModel, Iterable, QueryFilter, QuerySelect, Select,
};

use super::application::set;
use super::database::page::{Page, PageRequest, fetch_within};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::event_type::{ActiveModel, Column, Entity, Model};
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::error::{Error, Kind, Result};

/// The fields of an event type that a caller can set, except its name.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub description: String,
    pub archived: bool,
    pub deprecated: bool,
    /// A JSON object with a JSON Schema for each version, as text.
    pub schemas: Option<String>,
    /// The flag that an application's token needs to see the event type; `None` means none.
    pub feature_flag: Option<String>,
}

/// A change of an event type: `None` keeps a field. If a field is an `Option<Option<_>>`, `Some(None)` clears it.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub description: Option<String>,
    pub archived: Option<bool>,
    pub deprecated: Option<bool>,
    pub schemas: Option<Option<String>>,
    pub feature_flag: Option<Option<String>>,
}

impl From<Content> for Change {
    fn from(content: Content) -> Self {
        Self {
            description: Some(content.description),
            archived: Some(content.archived),
            deprecated: Some(content.deprecated),
            schemas: Some(content.schemas),
            feature_flag: Some(content.feature_flag),
        }
    }
}

/// Returns the event type of this name, archived or not, whatever its feature flag.
pub async fn find(source: &impl Source, org_id: &str, name: &str) -> Result<Option<Model>> {
    if check_identifier(name).is_err() {
        return Ok(None);
    }
    let key = (org_id.to_owned(), name.to_owned());
    Ok(Entity::find_by_id(key).one(source.source()).await?)
}

/// Returns the event type of this name, archived or not.
///
/// # Errors
/// `NotFound` if there is none, or if `flags` do not show it.
pub async fn get(source: &impl Source, org_id: &str, name: &str, flags: Option<&[String]>) -> Result<Model> {
    let found = find(source, org_id, name).await?;
    let is_seen = |row: &Model| match (&row.feature_flag, flags) {
        (Some(flag), Some(flags)) => flags.contains(flag),
        _ => true,
    };
    found.filter(is_seen).ok_or_else(not_found)
}

/// Returns a page of the organization's event types that `flags` show, in the order of their names. Without
/// `with_schemas` the schemas are not read, and `schemas` is `None`. The page may end early, so that it takes no more
/// than 4 MiB.
pub async fn list(
    source: &impl Source,
    org_id: &str,
    archived_too: bool,
    flags: Option<&[String]>,
    with_schemas: bool,
    page: &PageRequest,
) -> Result<Page<Model>> {
    let mut query = Entity::find().filter(Column::OrgId.eq(org_id));
    query = query.filter(seen_with(flags));
    if !archived_too {
        query = query.filter(Column::Archived.eq(false));
    }
    let described = "octet_length(description)";
    if with_schemas {
        let size = format!("{described} + coalesce(octet_length(schemas), 0)");
        return fetch_within(source, query, Column::Name, page, &size, |query| query).await;
    }
    let columns = Column::iter().filter(|column| !matches!(column, Column::Schemas));
    let narrow = |query: Select<Entity>| {
        let narrowed = query.select_only().columns(columns);
        narrowed.expr_as(Expr::cust("null"), "schemas")
    };
    fetch_within(source, query, Column::Name, page, described, narrow).await
}

/// Returns those of `names` that are no event type, or that are archived, or that `flags` do not show.
pub async fn list_unknown(
    source: &impl Source,
    org_id: &str,
    names: &[String],
    flags: Option<&[String]>,
) -> Result<Vec<String>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let known: Vec<String> = Entity::find()
        .select_only()
        .column(Column::Name)
        .filter(Column::OrgId.eq(org_id))
        .filter(Column::Archived.eq(false))
        .filter(Column::Name.is_in(names))
        .filter(seen_with(flags))
        .into_tuple()
        .all(source.source())
        .await?;
    Ok(names.iter().filter(|name| !known.contains(name)).cloned().collect())
}

/// Inserts an event type.
///
/// # Errors
/// `EventTypeExists` if the name is taken.
pub async fn insert(tx: &Tx, org_id: &str, name: String, content: Content) -> Result<Model> {
    let model = Model {
        org_id: org_id.to_owned(),
        name,
        id: tx.store().clock().new_id_at(Prefix::EventType, tx.now),
        description: content.description,
        archived: content.archived,
        deprecated: content.deprecated,
        schemas: content.schemas,
        feature_flag: content.feature_flag,
        created_at: tx.now,
        updated_at: tx.now,
    };
    let row = model.clone().into_active_model();
    let inserted = Entity::insert(row).exec_without_returning(tx.conn()).await;
    inserted.map_err(|err| match Error::from(err) {
        err if err.kind == Kind::Conflict => already_exists().because(err),
        err => err,
    })?;
    Ok(model)
}

/// Changes an event type.
///
/// # Errors
/// `NotFound`.
pub async fn update(tx: &Tx, org_id: &str, name: &str, change: Change) -> Result<Model> {
    check_identifier(name).map_err(|_| not_found())?;
    let row = ActiveModel {
        description: set(change.description),
        archived: set(change.archived),
        deprecated: set(change.deprecated),
        schemas: set(change.schemas),
        feature_flag: set(change.feature_flag),
        updated_at: ActiveValue::Set(tx.now),
        ..Default::default()
    };
    let updated = Entity::update_many()
        .set(row)
        .filter(named(org_id, name))
        .exec_with_returning(tx.conn())
        .await?;
    updated.into_iter().next().ok_or_else(not_found)
}

/// Removes an event type for good. Endpoints keep its name in the event types that they want.
///
/// # Errors
/// `NotFound`.
pub async fn delete(tx: &Tx, org_id: &str, name: &str) -> Result<()> {
    check_identifier(name).map_err(|_| not_found())?;
    let deleted = Entity::delete_many()
        .filter(named(org_id, name))
        .exec(tx.conn())
        .await?;
    match deleted.rows_affected {
        0 => Err(not_found()),
        _ => Ok(()),
    }
}

/// Returns the error that the name is taken.
pub fn already_exists() -> Error {
    Error::new(Kind::EventTypeExists, "an event type of this name exists already")
}

/// Returns the condition on an event type that `flags` show.
fn seen_with(flags: Option<&[String]>) -> Condition {
    let without = Condition::any().add(Column::FeatureFlag.is_null());
    match flags {
        None => Condition::all(),
        Some([]) => without,
        Some(flags) => without.add(Column::FeatureFlag.is_in(flags)),
    }
}

fn named(org_id: &str, name: &str) -> Condition {
    Condition::all()
        .add(Column::OrgId.eq(org_id))
        .add(Column::Name.eq(name))
}

fn not_found() -> Error {
    Error::not_found("event type")
}
