//! Reads and writes the links that sign in to the console. The row of a link exists until it is used or has expired.
//!
//! Must not decide what a link gives: the service does.

use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, Statement};

use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::console_link::{Column, Entity, Model};
use super::retention::delete_found;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// Inserts a link.
pub async fn insert(tx: &Tx, link: Model) -> Result<()> {
    let row = link.into_active_model();
    Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(())
}

/// Returns whether there is a link with this hash, used ones not counted.
pub async fn exists(source: &impl Source, hash: &str) -> Result<bool> {
    Ok(Entity::find_by_id(hash).one(source.source()).await?.is_some())
}

/// Takes the link with this hash, if it has not expired; `None` means that there is none. Of several transactions that
/// try it one gets the link: the others wait for the row, and then it is gone.
pub async fn take(tx: &Tx, hash: &str) -> Result<Option<Model>> {
    let taken = Entity::delete_many()
        .filter(Column::Hash.eq(hash))
        .filter(Column::ExpiresAt.gt(tx.now))
        .exec_with_returning(tx.conn())
        .await?;
    Ok(taken.into_iter().next())
}

/// Removes up to `most` links that had expired at `at`. Returns how many.
pub async fn prune(tx: &Tx, at: Timestamp, most: u64) -> Result<u64> {
    let lock = tx.backend().skip_locked();
    let sql = format!("select hash from console_link where expires_at <= $1 order by expires_at limit $2 {lock}");
    let values = [at.0.into(), (most as i64).into()];
    let found = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    delete_found(tx, "console_link", &["hash"], found).await
}
