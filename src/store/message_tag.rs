//! Finds messages by their tags. What a message shows of its tags is in its own row.
//!
//! Each function takes the application, and never finds another one's message. Must not insert tags: the intake does,
//! together with their messages.

use sea_orm::sea_query::{Alias, Expr, ExprTrait, IntoColumnRef, Query};
use sea_orm::{ColumnTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select};

use super::database::backend::Backend;
use super::database::page::{self, Between, PageRequest};
use super::database::source::Source;
use super::database::tx::Tx;
pub(super) use super::entity::message_tag::Column;
use super::entity::message_tag::Entity;
use crate::domain::id::Prefix;
use crate::error::Result;

/// If a tag has at most this many messages, their attempts are looked up one message after the other. The attempts of an
/// endpoint are in the order of their own ids, not of their messages', so the index of tags cannot lead to them in order.
/// With more messages a page is soon full when the endpoint's attempts are read in order instead.
const FEW: u64 = 1_000;

/// Makes `query` read the rows of the messages with a tag. `message` is the column of the message's id, and each row is
/// of one message, so the list is in the order of the column `MessageId` of the tags: reading begins with their index,
/// and costs what the messages with the tag cost, however many others there are. Later conditions on the rows of `E` are
/// met only after a row was read.
pub(super) fn lead<E: EntityTrait>(
    backend: Backend,
    mut query: Select<E>,
    app_id: impl Into<Expr>,
    tag: &str,
    message: impl IntoColumnRef,
) -> Select<E> {
    let of_message = Expr::col((Entity, Column::MessageId)).equals(message);
    let led = match backend {
        // A cross join, since SQLite then reads the tables in this order.
        Backend::Sqlite => {
            let select = QueryTrait::query(&mut query);
            select.from_clear().from(Entity).cross_join(E::default());
            query.filter(of_message)
        }
        // A subquery that is not merged into the other: joined freely, it read all results of an application.
        Backend::Postgres => {
            let mut rows = query.filter(of_message).into_query();
            rows.offset(0);
            let mut led = E::find();
            let name = Alias::new(E::default().table_name());
            let select = QueryTrait::query(&mut led);
            select.from_clear().from(Entity);
            select.join_lateral(JoinType::InnerJoin, rows, name, Expr::cust("true"));
            led
        }
    };
    led.filter(Expr::col((Entity, Column::AppId)).eq(app_id))
        .filter(Column::Tag.eq(tag))
}

/// Returns the id of the message at which a page that looks through all messages with a tag has looked through enough;
/// `None` means that fewer are left.
pub(super) async fn find_reach(
    source: &impl Source,
    app_id: impl Into<Expr>,
    tag: &str,
    between: &Between,
    request: &PageRequest,
) -> Result<Option<String>> {
    let all = Entity::find()
        .filter(Expr::col((Entity, Column::AppId)).eq(app_id))
        .filter(Column::Tag.eq(tag));
    let all = between.apply(all, Column::MessageId, Prefix::Message);
    page::find_reach(source, all, Column::MessageId, request).await
}

/// Returns the condition that the message whose application and id are in these columns has a tag.
pub(super) fn has(tag: &str, app_id: impl IntoColumnRef, message_id: impl IntoColumnRef) -> Expr {
    let mut query = Query::select();
    query
        .expr(Expr::val(1))
        .from(Entity)
        .and_where(Expr::col((Entity, Column::AppId)).equals(app_id))
        .and_where(Expr::col((Entity, Column::MessageId)).equals(message_id))
        .and_where(Column::Tag.eq(tag));
    Expr::exists(query)
}

/// Returns the ids of the messages with a tag, if they are few; `None` means that there are more.
pub(super) async fn find_few(source: &impl Source, app_id: &str, tag: &str) -> Result<Option<Vec<String>>> {
    let found: Vec<String> = Entity::find()
        .select_only()
        .column(Column::MessageId)
        .filter(Column::AppId.eq(app_id))
        .filter(Column::Tag.eq(tag))
        .order_by_desc(Column::MessageId)
        .limit(FEW + 1)
        .into_tuple()
        .all(source.source())
        .await?;
    Ok((found.len() as u64 <= FEW).then_some(found))
}

/// Removes the tags of a message.
pub(super) async fn delete(tx: &Tx, app_id: &str, message_id: &str) -> Result<()> {
    Entity::delete_many()
        .filter(Column::AppId.eq(app_id))
        .filter(Column::MessageId.eq(message_id))
        .exec(tx.conn())
        .await?;
    Ok(())
}
