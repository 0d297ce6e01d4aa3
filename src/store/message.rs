//! Messages and their contents: reads, and the end of a content. The intake writes them. Each function takes the
//! application that they belong to. Called by api and service.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, ExprTrait, IntoColumnRef, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect, Statement};

use super::database::backend::{Backend, contains};
use super::database::page::{Between, Page, PageRequest, fetch, reserve};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::message::{Column, Entity, Model};
use super::entity::message_content as content;
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::error::{Error, Result};

/// Which messages a list holds.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub between: Between,
    /// Only those on this channel.
    pub channel: Option<String>,
    /// Only those of these types; empty: of all.
    pub event_types: Vec<String>,
}

impl Filter {
    /// The conditions on channel and type, for a query that has the message table in it.
    pub(super) fn conditions(&self, backend: Backend) -> Vec<Expr> {
        let channel = self.channel.as_ref().map(|channel| {
            // Channels are kept as a JSON list, and no channel has a quotation mark in it.
            let column = Expr::col((Entity, Column::Channels));
            contains(backend, column, &format!("\"{channel}\""))
        });
        let types = (!self.event_types.is_empty()).then(|| {
            let column = Expr::col((Entity, Column::EventType));
            column.is_in(self.event_types.iter().map(String::as_str))
        });
        channel.into_iter().chain(types).collect()
    }

    /// The same for a query that has none but only a message's application and id in these columns; none where there are
    /// no conditions.
    pub(super) fn of_message(
        &self,
        backend: Backend,
        app_id: impl IntoColumnRef,
        message_id: impl IntoColumnRef,
    ) -> Option<Expr> {
        let conditions = self.conditions(backend);
        if conditions.is_empty() {
            return None;
        }
        let mut query = Query::select();
        query
            .expr(Expr::val(1))
            .from(Entity)
            .and_where(Expr::col((Entity, Column::AppId)).equals(app_id))
            .and_where(Expr::col((Entity, Column::Id)).equals(message_id));
        for condition in conditions {
            query.and_where(condition);
        }
        Some(Expr::exists(query))
    }
}

/// Returns the message with this id, or the newest with this eventId.
pub async fn find(source: &impl Source, app_id: &str, id_or_event_id: &str) -> Result<Option<Model>> {
    if check_identifier(id_or_event_id).is_err() {
        return Ok(None);
    }
    if Prefix::Message.is_of(id_or_event_id) {
        let by_id = Entity::find_by_id((app_id.to_owned(), id_or_event_id.to_owned()));
        return Ok(by_id.one(source.source()).await?);
    }
    let values = [app_id.into(), id_or_event_id.into()];
    let by_event_id = Statement::from_sql_and_values(source.dialect().orm(), BY_EVENT_ID, values);
    let newest = Entity::find().from_raw_sql(by_event_id);
    Ok(newest.one(source.source()).await?)
}

/// Steps through the application's stretches of 3.2 days by which the index is divided (`substr(id, 1, 8)`), and looks the
/// event id up in each: some 60 in half a year. A stretch has it once at most, since it is taken for longer than that.
const BY_EVENT_ID: &str = "
    with recursive stretch(start) as (
        select (select substr(id, 1, 8) from message where app_id = $1 and event_id is not null
            order by substr(id, 1, 8) desc limit 1)
        union all
        select (select substr(id, 1, 8) from message where app_id = $1 and event_id is not null
            and substr(id, 1, 8) < stretch.start order by substr(id, 1, 8) desc limit 1)
        from stretch where stretch.start is not null
    )
    select * from message where app_id = $1 and id = (select max(id) from (
        select (select id from message where app_id = $1 and substr(id, 1, 8) = stretch.start and event_id = $2 limit 1)
            as id from stretch
    ) as found)";

/// # Errors
/// `NotFound`.
pub async fn get(source: &impl Source, app_id: &str, id_or_event_id: &str) -> Result<Model> {
    let found = find(source, app_id, id_or_event_id).await?;
    found.ok_or_else(|| Error::not_found("message"))
}

pub async fn list(source: &impl Source, app_id: &str, filter: &Filter, page: &PageRequest) -> Result<Page<Model>> {
    let mut query = Entity::find().filter(Column::AppId.eq(app_id));
    for condition in filter.conditions(source.dialect()) {
        query = query.filter(condition);
    }
    let query = filter.between.apply(query, Column::Id, Prefix::Message);
    fetch(source, query, Column::Id, page).await
}

/// A page of rows and the payloads of their messages, of which `id` tells the id. It ends early where those would take too
/// much memory.
pub async fn with_contents<T>(
    source: &impl Source,
    app_id: &str,
    page: Page<T>,
    request: &PageRequest,
    id: impl Fn(&T) -> &str,
) -> Result<(Page<T>, HashMap<String, String>)> {
    let sizes: Vec<(String, i32)> = content::Entity::find()
        .select_only()
        .column(content::Column::MessageId)
        .expr(Expr::cust("octet_length(body)"))
        .filter(content::Column::AppId.eq(app_id))
        .filter(content::Column::MessageId.is_in(page.rows.iter().map(&id)))
        .into_tuple()
        .all(source.source())
        .await?;
    let sizes: HashMap<String, i32> = sizes.into_iter().collect();
    let size_of = |row: &T| {
        let size = sizes.get(id(row)).copied().unwrap_or_default();
        usize::try_from(size).unwrap_or_default()
    };
    let page = page.within(request, |row| {
        let size = size_of(&row);
        Ok((row, size))
    })?;
    reserve(page.rows.iter().map(size_of).sum()).await?;
    let contents = list_contents(source, app_id, page.rows.iter().map(&id)).await?;
    Ok((page, contents))
}

/// The payloads of these messages, as far as they are kept, by message.
pub async fn list_contents(
    source: &impl Source,
    app_id: &str,
    messages: impl IntoIterator<Item = &str>,
) -> Result<HashMap<String, String>> {
    let rows = content::Entity::find()
        .filter(content::Column::AppId.eq(app_id))
        .filter(content::Column::MessageId.is_in(messages))
        .all(source.source())
        .await?;
    Ok(rows.into_iter().map(|row| (row.message_id, row.body)).collect())
}

/// The messages with these ids, as far as they are kept, by id.
pub async fn list_by_id(
    source: &impl Source,
    app_id: &str,
    ids: impl IntoIterator<Item = &str>,
) -> Result<HashMap<String, Model>> {
    let rows = Entity::find()
        .filter(Column::AppId.eq(app_id))
        .filter(Column::Id.is_in(ids))
        .all(source.source())
        .await?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
}

/// Whether a message's payload is kept.
pub async fn has_content(source: &impl Source, app_id: &str, id: &str) -> Result<bool> {
    let kept: Option<String> = content::Entity::find_by_id((app_id.to_owned(), id.to_owned()))
        .select_only()
        .column(content::Column::MessageId)
        .into_tuple()
        .one(source.source())
        .await?;
    Ok(kept.is_some())
}

/// Removes a message's payload for good: what is still to be sent of it ends as failed when it comes up.
pub async fn delete_content(tx: &Tx, app_id: &str, id: &str) -> Result<()> {
    let content = content::Entity::delete_by_id((app_id.to_owned(), id.to_owned()));
    content.exec(tx.conn()).await?;
    tx.forget_on_commit();
    Ok(())
}
