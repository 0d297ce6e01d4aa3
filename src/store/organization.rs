//! Reads and writes the rows of organizations. An organization is the company that sends webhooks.
//!
//! Must not create what belongs to an organization, such as its tokens.

use sea_orm::sea_query::LockType;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::organization::{ActiveModel, Column, Entity, Model};
use crate::domain::id::Prefix;
use crate::error::{Error, Result};

/// Returns the organization of this name; `None` if there is none.
pub async fn find_by_name(source: &impl Source, name: &str) -> Result<Option<Model>> {
    let found = Entity::find().filter(Column::Name.eq(name)).one(source.source());
    Ok(found.await?)
}

/// Returns up to `most` organizations with ids above `after`, oldest first.
pub async fn list(source: &impl Source, after: &str, most: u64) -> Result<Vec<Model>> {
    let found = Entity::find()
        .filter(Column::Id.gt(after))
        .order_by_asc(Column::Id)
        .limit(most);
    Ok(found.all(source.source()).await?)
}

/// Locks an organization until the transaction ends, so that changes of its tokens come one after the other.
///
/// # Errors
/// `NotFound`.
pub async fn lock(tx: &Tx, org_id: &str) -> Result<()> {
    let locked = Entity::find_by_id(org_id).lock(LockType::NoKeyUpdate).one(tx.conn());
    locked.await?.map(drop).ok_or_else(|| Error::not_found("organization"))
}

/// Inserts an organization.
///
/// # Errors
/// `Conflict` if the name is taken.
pub async fn insert(tx: &Tx, name: &str) -> Result<Model> {
    let model = Model {
        id: tx.store().clock().new_id_at(Prefix::Organization, tx.now),
        name: name.to_owned(),
        created_at: tx.now,
    };
    let row = ActiveModel {
        id: Set(model.id.clone()),
        name: Set(model.name.clone()),
        created_at: Set(model.created_at),
    };
    Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(model)
}
