//! Reads messages and their payloads, and removes a payload on request.
//!
//! Payloads are in a table of their own, so that lists never read them unasked. Each function takes the application,
//! and never finds a message of another one. Must not insert messages: the intake does.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, ExprTrait, IntoColumnRef, Query};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QuerySelect, Select, Statement};

use super::application::Named;
use super::database::backend::{Backend, contains};
use super::database::page::{Between, Page, PageRequest, find_reach, reserve, window};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::message::{Column, Entity, Model};
use super::entity::message_content as content;
use super::message_tag;
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::error::{Error, Result};

/// The conditions that a listed message meets.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub between: Between,
    /// A channel that the message has; `None` means any message.
    pub channel: Option<String>,
    /// The event types of which the message has one; empty means all.
    pub event_types: Vec<String>,
    /// A tag that the message has; `None` means any message. Not among [`Filter::conditions`]: each list decides itself
    /// whether the index of tags leads it.
    pub tag: Option<String>,
}

impl Filter {
    /// Returns the conditions on channel and event type, for a query that contains the table of messages.
    pub(super) fn conditions(&self, backend: Backend) -> Vec<Expr> {
        let channel = self.channel.as_ref().map(|channel| {
            // Channels are stored as a JSON list, and no channel contains a quotation mark.
            let column = Expr::col((Entity, Column::Channels));
            contains(backend, column, &format!("\"{channel}\""))
        });
        let types = (!self.event_types.is_empty()).then(|| {
            let column = Expr::col((Entity, Column::EventType));
            column.is_in(self.event_types.iter().map(String::as_str))
        });
        channel.into_iter().chain(types).collect()
    }

    /// Returns the same conditions for a query that does not contain that table, but has a message's application and id
    /// in these columns. `None` means there are no conditions.
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

/// Returns the message with this id, or the newest one with this event id; `None` if there is none.
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

/// Finds the newest message with an event id.
///
/// The index is divided into stretches of 3.2 days (`substr(id, 1, 8)`). The query steps through those of the
/// application, some 60 in half a year, and looks the event id up in each. A stretch contains an event id once at most,
/// because the event id is taken for seven days.
const BY_EVENT_ID: &str = "
    with recursive stretch(start) as (
        select (select substr(id, 1, 8) from message where app_id = $1 and event_id is not null
            order by substr(id, 1, 8) desc limit 1)
        union all
        select (select substr(id, 1, 8) from message where app_id = $1 and event_id is not null
            and substr(id, 1, 8) < stretch.start order by substr(id, 1, 8) desc limit 1)
        from stretch where stretch.start is not null
    )
    select app_id, id, event_type, event_id, channels, tags, created_at, expires_at from message
    where app_id = $1 and id = (select max(id) from (
        select (select id from message where app_id = $1 and substr(id, 1, 8) = stretch.start and event_id = $2 limit 1)
            as id from stretch
    ) as found)";

/// Returns the message with this id, or the newest one with this event id.
///
/// # Errors
/// `NotFound`.
pub async fn get(source: &impl Source, app_id: &str, id_or_event_id: &str) -> Result<Model> {
    let found = find(source, app_id, id_or_event_id).await?;
    found.ok_or_else(|| Error::not_found("message"))
}

/// Up to this size, in bytes, a list reads a payload together with its message. A page of 250 messages then reads 1 MB
/// at most before memory is reserved for it. Usual payloads are smaller, and need no statement of their own.
const SMALL: u32 = 4 << 10;

/// A message of a list, and its payload; `None` means that the payload is gone or was not asked for.
#[derive(Debug)]
pub struct WithContent {
    pub message: Model,
    pub body: Option<String>,
}

/// A message as a list finds it first.
#[derive(FromQueryResult)]
struct Found {
    #[sea_orm(nested)]
    message: Model,
    /// The bytes of its payload; `None` if that is gone or was not asked for.
    size: Option<i32>,
    /// The payload if it is small.
    small: Option<String>,
}

impl Found {
    fn size(&self) -> usize {
        self.size.map_or(0, |size| usize::try_from(size).unwrap_or_default())
    }
}

/// Adds the columns of [`Found`] to a query for messages.
fn with_small_contents(query: Select<Entity>, with_content: bool) -> Select<Entity> {
    if !with_content {
        let none = |kind| Expr::cust(format!("cast(null as {kind})"));
        return query.expr_as(none("integer"), "size").expr_as(none("text"), "small");
    }
    let content = Entity::belongs_to(content::Entity)
        .from((Column::AppId, Column::Id))
        .to((content::Column::AppId, content::Column::MessageId));
    query
        .join(JoinType::LeftJoin, content.into())
        .expr_as(Expr::cust("octet_length(body)"), "size")
        .expr_as(
            Expr::cust(format!("case when octet_length(body) <= {SMALL} then body end")),
            "small",
        )
}

/// Returns a page of the application's messages, in the order of their ids, with their payloads if `with_content` is
/// true. The page is cut where the payloads would take more than 4 MiB. Without such an application it is empty. A page of
/// messages with a channel or of event types looks through a bounded number of messages, or of those with the tag; the
/// second value is then the id after which the list goes on.
pub async fn list(
    source: &impl Source,
    app: &Named<'_>,
    filter: &Filter,
    request: &PageRequest,
    with_content: bool,
) -> Result<(Page<WithContent>, Option<String>)> {
    let mut query = Entity::find().filter(Expr::col((Entity, Column::AppId)).eq(app.id()));
    let conditions = filter.conditions(source.dialect());
    let reach = match &filter.tag {
        _ if conditions.is_empty() => None,
        None => {
            let all = filter.between.apply(query.clone(), Column::Id, Prefix::Message);
            find_reach(source, all, Column::Id, request).await?
        }
        Some(tag) => message_tag::find_reach(source, app.id(), tag, &filter.between, request).await?,
    };
    for condition in conditions {
        query = query.filter(condition);
    }
    let found = match &filter.tag {
        None => {
            let query = filter.between.apply(query, Column::Id, Prefix::Message);
            let query = request.reach(query, Column::Id, reach.as_deref());
            window(with_small_contents(query, with_content), Column::Id, request)
        }
        Some(tag) => {
            let key = message_tag::Column::MessageId;
            let query = message_tag::lead(source.dialect(), query, app.id(), tag, (Entity, Column::Id));
            let query = filter.between.apply(query, key, Prefix::Message);
            let query = request.reach(query, key, reach.as_deref());
            window(with_small_contents(query, with_content), key, request)
        }
    };
    let found = found.into_model::<Found>().all(source.source()).await?;
    let page = request.page(found);
    let page = page.within(request, |found| {
        let size = found.size();
        Ok((found, size))
    })?;
    let rows = add_large_contents(source, page.rows).await?;
    Ok(Page { rows, done: page.done }.reaching(reach))
}

/// Returns the page together with the messages that its rows name, with their payloads if `with_content` is true. `id`
/// returns a row's message id. Leaves out rows whose message was removed after its retention. The page is cut where the
/// payloads would take more than 4 MiB.
pub async fn with_messages<T>(
    source: &impl Source,
    app_id: &str,
    page: Page<T>,
    request: &PageRequest,
    with_content: bool,
    id: impl Fn(&T) -> &str,
) -> Result<Page<(T, WithContent)>> {
    let query = Entity::find()
        .filter(Column::AppId.eq(app_id))
        .filter(Column::Id.is_in(page.rows.iter().map(&id)));
    let found = with_small_contents(query, with_content).into_model::<Found>();
    let found = found.all(source.source()).await?;
    let mut found: HashMap<String, Found> = found
        .into_iter()
        .map(|found| (found.message.id.clone(), found))
        .collect();
    let page = page.filter_map(|row| {
        let found = found.remove(id(&row))?;
        Some((row, found))
    });
    let page = page.within(request, |(row, found)| {
        let size = found.size();
        Ok(((row, found), size))
    })?;
    let (rows, found): (Vec<T>, Vec<Found>) = page.rows.into_iter().unzip();
    let messages = add_large_contents(source, found).await?;
    Ok(Page {
        rows: rows.into_iter().zip(messages).collect(),
        done: page.done,
    })
}

/// Reads the payloads that were too large to be read with their messages, after memory is reserved for all. The messages
/// are of one application.
async fn add_large_contents(source: &impl Source, found: Vec<Found>) -> Result<Vec<WithContent>> {
    reserve(found.iter().map(Found::size).sum()).await?;
    let large = found
        .iter()
        .filter(|found| found.size.is_some() && found.small.is_none());
    let large: Vec<&str> = large.map(|found| found.message.id.as_str()).collect();
    let mut contents = match found.first() {
        Some(first) if !large.is_empty() => list_contents(source, &first.message.app_id, large).await?,
        _ => HashMap::new(),
    };
    let with_content = |found: Found| WithContent {
        body: found.small.or_else(|| contents.remove(&found.message.id)),
        message: found.message,
    };
    Ok(found.into_iter().map(with_content).collect())
}

/// Returns the payloads of these messages by message id. Leaves out those that have expired or were removed.
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

/// Returns whether a message still has its payload.
pub async fn has_content(source: &impl Source, app_id: &str, id: &str) -> Result<bool> {
    let kept: Option<String> = content::Entity::find_by_id((app_id.to_owned(), id.to_owned()))
        .select_only()
        .column(content::Column::MessageId)
        .into_tuple()
        .one(source.source())
        .await?;
    Ok(kept.is_some())
}

/// Returns the media type of a message's payload; `None` means `application/json`, or that the payload is removed.
pub async fn find_content_type(source: &impl Source, app_id: &str, id: &str) -> Result<Option<String>> {
    let found: Option<Option<String>> = content::Entity::find_by_id((app_id.to_owned(), id.to_owned()))
        .select_only()
        .column(content::Column::ContentType)
        .into_tuple()
        .one(source.source())
        .await?;
    Ok(found.flatten())
}

/// Removes a message's payload and its tags for good. Deliveries of it that still wait end as failed when they are
/// claimed.
pub async fn delete_content(tx: &Tx, app_id: &str, id: &str) -> Result<()> {
    let content = content::Entity::delete_by_id((app_id.to_owned(), id.to_owned()));
    content.exec(tx.conn()).await?;
    message_tag::delete(tx, app_id, id).await?;
    let tags = Entity::update_many()
        .col_expr(Column::Tags, Expr::value(None::<String>))
        .filter(Column::AppId.eq(app_id))
        .filter(Column::Id.eq(id))
        .filter(Column::Tags.is_not_null());
    tags.exec(tx.conn()).await?;
    tx.forget_on_commit();
    Ok(())
}
