//! Messages and their contents: reads. The intake writes them. Each function takes the application that they belong to.
//! Called by api.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::backend::{Backend, contains};
use super::entity::message::{Column, Entity, Model};
use super::entity::message_content as content;
use super::page::{Between, Page, PageRequest, fetch};
use super::source::Source;
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::error::{Error, Result};

/// Payloads in one page: of the largest messages a page would take half a gigabyte.
const MOST_BYTES: usize = 16 << 20;

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
}

/// The message with this id or eventId.
pub async fn find(source: &impl Source, app_id: &str, id_or_event_id: &str) -> Result<Option<Model>> {
    if check_identifier(id_or_event_id).is_err() {
        return Ok(None);
    }
    let named = match Prefix::Message.is_of(id_or_event_id) {
        true => Column::Id.eq(id_or_event_id),
        false => Column::EventId.eq(id_or_event_id),
    };
    let found = Entity::find().filter(Column::AppId.eq(app_id)).filter(named);
    Ok(found.one(source.source()).await?)
}

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

/// A page and the payloads of its messages. It ends early where those would take too much memory.
pub async fn list_with_contents(
    source: &impl Source,
    app_id: &str,
    filter: &Filter,
    request: &PageRequest,
) -> Result<(Page<Model>, HashMap<String, String>)> {
    let page = list(source, app_id, filter, request).await?;
    let sizes: Vec<(String, i32)> = content::Entity::find()
        .select_only()
        .column(content::Column::MessageId)
        .expr(Expr::cust("octet_length(body)"))
        .filter(content::Column::AppId.eq(app_id))
        .filter(content::Column::MessageId.is_in(page.rows.iter().map(|row| row.id.as_str())))
        .into_tuple()
        .all(source.source())
        .await?;
    let sizes: HashMap<String, i32> = sizes.into_iter().collect();
    let page = page.within(request, MOST_BYTES, |row| {
        let size = sizes.get(&row.id).copied().unwrap_or_default();
        usize::try_from(size).unwrap_or_default()
    });
    let contents = list_contents(source, app_id, page.rows.iter().map(|row| row.id.as_str())).await?;
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
