//! Reads and writes the rows of applications.
//!
//! Each function takes the organization, and never finds an application of another one. Only [`get_locked`] finds the
//! application that holds an organization's operational endpoints. Must not delete an application's endpoints, and must
//! not remove rows: a deleted application keeps its row until its history is gone.

use std::collections::BTreeMap;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, QueryTrait, Select,
};

use super::database::page::{Page, PageRequest, fetch};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::application::{ActiveModel, Column, Entity, Model};
use super::entity::json_text::JsonText;
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::error::{Error, Kind, Result};

/// The fields of an application that a caller can set.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub name: String,
    /// The caller's own name for the application, unique in its organization.
    pub uid: Option<String>,
    /// The most requests per second to all endpoints together; `None` means no limit.
    pub throttle_rate: Option<i32>,
    pub metadata: BTreeMap<String, String>,
}

/// A change of an application: `None` keeps a field. If a field is an `Option<Option<_>>`, `Some(None)` clears it.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub name: Option<String>,
    pub uid: Option<Option<String>>,
    pub throttle_rate: Option<Option<i32>>,
    pub metadata: Option<BTreeMap<String, String>>,
}

impl From<Content> for Change {
    fn from(content: Content) -> Self {
        Self {
            name: Some(content.name),
            uid: Some(content.uid),
            throttle_rate: Some(content.throttle_rate),
            metadata: Some(content.metadata),
        }
    }
}

/// An application as a request names it. A statement that contains it needs no other one to look it up.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    pub org_id: &'a str,
    /// An id or uid.
    pub name: &'a str,
    /// The id that it must have; `None` means any.
    pub only: Option<&'a str>,
}

impl Named<'_> {
    /// Returns the query for it; `None` if no application can have the name.
    fn select(&self) -> Option<Select<Entity>> {
        check_identifier(self.name).ok()?;
        let named = match Prefix::Application.is_of(self.name) {
            true => Column::Id.eq(self.name),
            false => Column::Uid.eq(self.name),
        };
        let only = self.only.map(|id| Column::Id.eq(id));
        Some(
            living(self.org_id)
                .filter(named)
                .filter(Condition::all().add_option(only)),
        )
    }

    /// Returns the SQL for its id, which is null if there is no such application.
    pub(super) fn id(&self) -> Expr {
        match self.select() {
            Some(select) => select.select_only().column(Column::Id).into_query().into(),
            None => Expr::value(None::<String>),
        }
    }
}

/// Returns the application with this id or uid; `None` if there is none or it is deleted.
pub async fn find(source: &impl Source, org_id: &str, id_or_uid: &str) -> Result<Option<Model>> {
    let named = Named {
        org_id,
        name: id_or_uid,
        only: None,
    };
    match named.select() {
        Some(select) => Ok(select.one(source.source()).await?),
        None => Ok(None),
    }
}

/// Returns the application with this id or uid.
///
/// # Errors
/// `NotFound` if there is none or it is deleted.
pub async fn get(source: &impl Source, org_id: &str, id_or_uid: &str) -> Result<Model> {
    let found = find(source, org_id, id_or_uid).await?;
    found.ok_or_else(|| Error::not_found("application"))
}

/// Returns the application with this id and locks its row until the transaction ends, so that no other transaction
/// changes it. Also finds the application that holds operational endpoints.
///
/// # Errors
/// `NotFound` if there is none or it is deleted.
pub async fn get_locked(tx: &Tx, org_id: &str, id: &str) -> Result<Model> {
    let found = Entity::find_by_id(id)
        .filter(Column::OrgId.eq(org_id))
        .filter(Column::DeletedAt.is_null())
        .lock_exclusive();
    let found = found.one(tx.conn()).await?;
    found.ok_or_else(|| Error::not_found("application"))
}

/// Returns the application with this uid; `None` if there is none or it is deleted.
pub async fn find_by_uid(source: &impl Source, org_id: &str, uid: &str) -> Result<Option<Model>> {
    Ok(living(org_id).filter(Column::Uid.eq(uid)).one(source.source()).await?)
}

/// Returns a page of the organization's applications, in the order of their ids.
pub async fn list(source: &impl Source, org_id: &str, page: &PageRequest) -> Result<Page<Model>> {
    fetch(source, living(org_id), Column::Id, page).await
}

/// Inserts an application with a new id.
///
/// # Errors
/// `Conflict` if the uid is taken.
pub async fn insert(tx: &Tx, org_id: &str, content: Content) -> Result<Model> {
    let id = tx.store().clock().new_id_at(Prefix::Application, tx.now);
    insert_as(tx, id, org_id, content).await
}

/// Inserts an application with this id.
pub(super) async fn insert_as(tx: &Tx, id: String, org_id: &str, content: Content) -> Result<Model> {
    let model = Model {
        id,
        org_id: org_id.to_owned(),
        uid: content.uid,
        name: content.name,
        throttle_rate: content.throttle_rate,
        metadata: JsonText(content.metadata),
        created_at: tx.now,
        updated_at: tx.now,
        deleted_at: None,
        revision: 0,
        polled: false,
    };
    let row = model.clone().into_active_model();
    Entity::insert(row)
        .exec_without_returning(tx.conn())
        .await
        .map_err(uid_taken)?;
    Ok(model)
}

/// Changes an application.
///
/// # Errors
/// `NotFound` if there is none or it is deleted; `Conflict` if the uid is taken.
pub async fn update(tx: &Tx, org_id: &str, id: &str, change: Change) -> Result<Model> {
    let row = ActiveModel {
        name: set(change.name),
        uid: set(change.uid),
        throttle_rate: set(change.throttle_rate),
        metadata: set(change.metadata.map(JsonText)),
        updated_at: ActiveValue::Set(tx.now),
        ..Default::default()
    };
    let updated = Entity::update_many()
        .set(row)
        .filter(alive(org_id))
        .filter(Column::Id.eq(id))
        .exec_with_returning(tx.conn())
        .await
        .map_err(uid_taken)?;
    updated
        .into_iter()
        .next()
        .ok_or_else(|| Error::not_found("application"))
}

/// Marks an application as deleted: nothing of it can be reached any more, and its uid is free.
///
/// # Errors
/// `NotFound` if there is none or it is deleted already.
pub async fn delete(tx: &Tx, org_id: &str, id: &str) -> Result<()> {
    let deleted = Entity::update_many()
        .col_expr(Column::DeletedAt, Expr::value(tx.now))
        .filter(alive(org_id))
        .filter(Column::Id.eq(id))
        .exec(tx.conn())
        .await?;
    match deleted.rows_affected {
        0 => Err(Error::not_found("application")),
        _ => Ok(()),
    }
}

/// Returns the new value of a column; `None` leaves the column as it is.
pub(super) fn set<V: Into<sea_orm::Value>>(value: Option<V>) -> ActiveValue<V> {
    value.map_or(ActiveValue::NotSet, ActiveValue::Set)
}

/// Selects the organization's applications that are not deleted.
fn living(org_id: &str) -> Select<Entity> {
    Entity::find().filter(alive(org_id))
}

/// Returns the condition on an application that is not deleted. Leaves out the one that holds operational endpoints,
/// whose id is the organization's: no list shows it, and no path reaches it.
fn alive(org_id: &str) -> Condition {
    Condition::all()
        .add(Column::OrgId.eq(org_id))
        .add(Column::Id.ne(org_id))
        .add(Column::DeletedAt.is_null())
}

/// Says of a conflict that the uid is taken: no other value of an application is unique.
fn uid_taken(err: sea_orm::DbErr) -> Error {
    let err = Error::from(err);
    match err.kind {
        Kind::Conflict => Error::new(Kind::Conflict, "an application with this uid exists already").because(err),
        _ => err,
    }
}
