//! Reads and writes the consumers of pollers: readers whose place the server keeps.
//!
//! Each function takes the poller, whose application the caller has checked. Must not read the messages of a poller.

use std::time::Duration;

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Statement,
    TryInsertResult,
};

use super::database::page::{Page, PageRequest, fetch};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::poller_consumer::{ActiveModel, Column, Entity, Model};
use super::retention::delete_found;
use crate::domain::cursor::Cursor;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// How old the recorded instant of the last use may become while a consumer is used and does not move.
const USE_IS_OLD: Duration = Duration::from_hours(1);

/// Returns the consumer with this name; `None` if there is none.
pub async fn find(source: &impl Source, poller_id: &str, name: &str) -> Result<Option<Model>> {
    let found = Entity::find_by_id((poller_id.to_owned(), name.to_owned()));
    Ok(found.one(source.source()).await?)
}

/// Returns a page of the poller's consumers, in the order of their names.
pub async fn list(source: &impl Source, poller_id: &str, page: &PageRequest) -> Result<Page<Model>> {
    let all = Entity::find().filter(Column::PollerId.eq(poller_id));
    fetch(source, all, Column::Name, page).await
}

/// Returns up to `most` consumers of these pollers, in the order of their names.
pub async fn list_of(source: &impl Source, poller_ids: &[&str], most: u64) -> Result<Vec<Model>> {
    let all = Entity::find().filter(Column::PollerId.is_in(poller_ids.iter().copied()));
    let all = all.order_by_asc(Column::PollerId).order_by_asc(Column::Name);
    Ok(all.limit(most).all(source.source()).await?)
}

/// Counts the poller's consumers.
pub async fn count(source: &impl Source, poller_id: &str) -> Result<u64> {
    let all = Entity::find().filter(Column::PollerId.eq(poller_id));
    Ok(all.count(source.source()).await?)
}

/// Returns whether the last use of a consumer is to be recorded anew.
pub fn is_use_old(row: &Model, now: Timestamp) -> bool {
    row.used_at < now.minus(USE_IS_OLD)
}

/// Inserts a consumer at this place. Returns false if there is one with this name.
pub async fn insert(tx: &Tx, app_id: &str, poller_id: &str, name: &str, place: &Cursor) -> Result<bool> {
    let row = ActiveModel {
        poller_id: Set(poller_id.to_owned()),
        name: Set(name.to_owned()),
        app_id: Set(app_id.to_owned()),
        place: Set(place.to_text()),
        created_at: Set(tx.now),
        used_at: Set(tx.now),
    };
    let exists = OnConflict::columns([Column::PollerId, Column::Name])
        .do_nothing()
        .to_owned();
    let inserted = Entity::insert(row)
        .on_conflict(exists)
        .try_insert()
        .exec_without_returning(tx.conn())
        .await?;
    Ok(matches!(inserted, TryInsertResult::Inserted(rows) if rows > 0))
}

/// Notes that a consumer is used now, and moves it to this place; `None` leaves it where it is. Returns false if there
/// is no such consumer.
pub async fn update(tx: &Tx, poller_id: &str, name: &str, place: Option<&Cursor>) -> Result<bool> {
    let mut update = Entity::update_many()
        .col_expr(Column::UsedAt, Expr::value(tx.now))
        .filter(Column::PollerId.eq(poller_id))
        .filter(Column::Name.eq(name));
    if let Some(place) = place {
        update = update.col_expr(Column::Place, Expr::value(place.to_text()));
    }
    Ok(update.exec(tx.conn()).await?.rows_affected > 0)
}

/// Deletes a consumer. Returns the text of its place; `None` if there is no such consumer.
pub async fn delete(tx: &Tx, poller_id: &str, name: &str) -> Result<Option<String>> {
    let one = Entity::delete_many()
        .filter(Column::PollerId.eq(poller_id))
        .filter(Column::Name.eq(name));
    let deleted = one.exec_with_returning(tx.conn()).await?;
    Ok(deleted.into_iter().next().map(|row| row.place))
}

/// Deletes all consumers of a poller.
pub async fn delete_of(tx: &Tx, poller_id: &str) -> Result<()> {
    let all = Entity::delete_many().filter(Column::PollerId.eq(poller_id));
    all.exec(tx.conn()).await?;
    Ok(())
}

/// Removes up to `most` consumers that were last used before `before`. Returns how many.
pub async fn prune(tx: &Tx, before: Timestamp, most: u64) -> Result<u64> {
    let lock = tx.backend().skip_locked();
    let sql =
        format!("select poller_id, name from poller_consumer where used_at < $1 order by used_at limit $2 {lock}");
    let values = [before.0.into(), (most as i64).into()];
    let found = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    delete_found(tx, "poller_consumer", &["poller_id", "name"], found).await
}
