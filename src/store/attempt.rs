//! Reads the recorded attempts, and removes the text of an answer on request.
//!
//! Each function takes the application, and never finds an attempt of another one. Must not insert attempts: the
//! queue's settlement does.

use std::collections::HashMap;

use sea_orm::sea_query::{BinOper, Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, Iterable, QueryFilter, QuerySelect, Select};

use super::database::page::{Page, PageRequest, fetch, find_reach, reserve, window};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::attempt::{Column, Entity, Model};
use super::{message, message_tag};
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Result};

/// Stored in place of an answer's text that was removed.
const EXPUNGED: &str = "EXPUNGED";

/// The attempts that a list is about.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// The attempts of a message, by its id: at all endpoints, or at the one with the second id.
    Message(&'a str, Option<&'a str>),
    /// The attempts at an endpoint, by its id.
    Endpoint(&'a str),
}

/// The conditions that a listed attempt meets.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The conditions on the attempt's message. Their bounds in time apply to the attempt itself.
    pub message: message::Filter,
    /// Whether the attempt delivered the message; `None` means both.
    pub delivered: Option<bool>,
    /// The first status of a hundred, such as 500: the answer has one of them. 0 means there was no answer, `None`
    /// means any attempt.
    pub status_class: Option<i32>,
}

impl Filter {
    /// Returns whether all attempts of an endpoint may be read, and none of them meet the conditions.
    fn is_selective(&self, source: &impl Source) -> bool {
        let message = &self.message;
        let by_attempt = self.delivered.is_some() || self.status_class.is_some();
        by_attempt || message.tag.is_some() || !message.conditions(source.dialect()).is_empty()
    }
}

/// Up to this size, in bytes, a list reads an answer's text together with its attempt. A page of 250 attempts then reads
/// 1 MB at most before memory is reserved for it. Usual answers are smaller, and need no statement of their own.
const SMALL: i32 = 4 << 10;

/// An attempt as a list finds it first.
#[derive(FromQueryResult)]
struct Found {
    /// Without the answer's text if that is large.
    #[sea_orm(nested)]
    attempt: Model,
    response_bytes: i32,
}

impl Found {
    /// Returns the bytes that the page takes for this attempt.
    fn size(&self) -> usize {
        self.attempt.url.len() + usize::try_from(self.response_bytes).unwrap_or_default()
    }
}

/// Returns an attempt by its application, message and id.
///
/// # Errors
/// `NotFound`.
pub async fn get(source: &impl Source, app_id: &str, message_id: &str, id: &str) -> Result<Model> {
    check_identifier(id).map_err(|_| not_found())?;
    let key = (app_id.to_owned(), message_id.to_owned(), id.to_owned());
    let found = Entity::find_by_id(key).one(source.source()).await?;
    found.ok_or_else(not_found)
}

/// Returns a page of attempts, in the order of their ids, without `detail`. Without `with_response` the answers' texts are not read, and
/// `response` is empty; with it the page may end early, so that it takes no more than 4 MiB. A page of an endpoint's
/// attempts looks through a bounded number of them, or of messages with the tag; the second value is then the id after
/// which the list goes on.
pub async fn list(
    source: &impl Source,
    app_id: &str,
    of: Of<'_>,
    filter: &Filter,
    with_response: bool,
    page: &PageRequest,
) -> Result<(Page<Model>, Option<String>)> {
    let tag = filter.message.tag.as_deref();
    let few = match (of, tag) {
        (Of::Endpoint(_), Some(tag)) => message_tag::find_few(source, app_id, tag).await?,
        _ => None,
    };
    let looked_up = few.is_some();
    let mut query = select(app_id, of, few);
    let reach = match of {
        Of::Endpoint(_) if !looked_up && filter.is_selective(source) => {
            let all = filter.message.between.apply(query.clone(), Column::Id, Prefix::Attempt);
            find_reach(source, all, Column::Id, page).await?
        }
        _ => None,
    };
    if let Some(tag) = tag.filter(|_| !looked_up) {
        let has = message_tag::has(tag, (Entity, Column::AppId), (Entity, Column::MessageId));
        query = query.filter(has);
    }
    if let Some(delivered) = filter.delivered {
        query = query.filter(Column::Delivered.eq(delivered));
    }
    query = match filter.status_class {
        None => query,
        Some(0) => query.filter(Column::ResponseStatus.eq(0)),
        Some(first) => query.filter(Column::ResponseStatus.between(first, first + 99)),
    };
    let message = &filter.message;
    if let Some(fits) = message.of_message(source.dialect(), (Entity, Column::AppId), (Entity, Column::MessageId)) {
        query = query.filter(fits);
    }
    let query = filter.message.between.apply(query, Column::Id, Prefix::Attempt);
    let query = page.reach(query, Column::Id, reach.as_deref());
    let columns = Column::iter().filter(|column| !matches!(column, Column::Response | Column::Detail));
    let narrow = query.clone().select_only().columns(columns);
    let narrow = narrow.expr_as(Expr::cust("null"), "detail");
    if !with_response {
        let narrow = narrow.expr_as(Expr::cust("''"), "response");
        return Ok(fetch(source, narrow, Column::Id, page).await?.reaching(reach));
    }
    let small = format!("case when octet_length(response) <= {SMALL} then response else '' end");
    let found = narrow
        .expr_as(Expr::cust(small), "response")
        .expr_as(Expr::cust("octet_length(response)"), "response_bytes");
    let found = window(found, Column::Id, page).into_model::<Found>();
    let found = found.all(source.source()).await?;
    let found = page.page(found).within(page, |found| {
        let size = found.size();
        Ok((found, size))
    })?;
    reserve(found.rows.iter().map(Found::size).sum()).await?;
    let rows = add_large_responses(source, query, found.rows).await?;
    Ok(Page { rows, done: found.done }.reaching(reach))
}

/// Reads the texts of answers that were too large to be read with their attempts. `query` finds the attempts.
async fn add_large_responses(source: &impl Source, query: Select<Entity>, found: Vec<Found>) -> Result<Vec<Model>> {
    let large = found.iter().filter(|found| found.response_bytes > SMALL);
    let large: Vec<&str> = large.map(|found| found.attempt.id.as_str()).collect();
    let mut responses: HashMap<String, String> = match large.is_empty() {
        true => HashMap::new(),
        false => {
            let large = query
                .select_only()
                .columns([Column::Id, Column::Response])
                .filter(Column::Id.is_in(large));
            let rows: Vec<(String, String)> = large.into_tuple().all(source.source()).await?;
            rows.into_iter().collect()
        }
    };
    let whole = found.into_iter().map(|Found { mut attempt, .. }| {
        if let Some(response) = responses.remove(&attempt.id) {
            attempt.response = response;
        }
        attempt
    });
    Ok(whole.collect())
}

/// Selects the attempts that a list is about; of an endpoint's only those of these messages if there are any.
fn select(app_id: &str, of: Of<'_>, messages: Option<Vec<String>>) -> Select<Entity> {
    let query = Entity::find().filter(Column::AppId.eq(app_id));
    match (of, messages) {
        (Of::Message(message, None), _) => query.filter(Column::MessageId.eq(message)),
        (Of::Message(message, Some(endpoint)), _) => query
            .filter(Column::MessageId.eq(message))
            .filter(Column::EndpointId.eq(endpoint)),
        (Of::Endpoint(endpoint), None) => query.filter(Column::EndpointId.eq(endpoint)),
        (Of::Endpoint(endpoint), Some(messages)) => {
            // Not the bare column: a planner that took the index by endpoint would read all of its attempts.
            let endpoint_id = Expr::col((Entity, Column::EndpointId)).binary(BinOper::Custom("||"), Expr::cust("''"));
            query
                .filter(Column::MessageId.is_in(messages))
                .filter(endpoint_id.eq(endpoint))
        }
    }
}

/// Counts the attempts at an endpoint that began at or after `since` and before `until`: first those that delivered the
/// message, then those that failed. Reads all of the index over that time, some 0.3 s per million attempts.
pub async fn count(
    source: &impl Source,
    app_id: &str,
    endpoint_id: &str,
    since: Timestamp,
    until: Timestamp,
) -> Result<(i64, i64)> {
    let counted = Entity::find()
        .select_only()
        .expr(Expr::cust("count(*) filter (where delivered)"))
        .expr(Expr::cust("count(*) filter (where not delivered)"))
        .filter(Column::AppId.eq(app_id))
        .filter(Column::EndpointId.eq(endpoint_id))
        .filter(Column::Id.gte(Prefix::Attempt.first_id_at(since)))
        .filter(Column::Id.lt(Prefix::Attempt.first_id_at(until)))
        .into_tuple()
        .one(source.source())
        .await?;
    Ok(counted.unwrap_or_default())
}

/// Removes the text of an attempt's answer for good, and what else is kept of it.
///
/// # Errors
/// `NotFound`.
pub async fn delete_content(tx: &Tx, app_id: &str, message_id: &str, id: &str) -> Result<()> {
    check_identifier(id).map_err(|_| not_found())?;
    let expunged = Entity::update_many()
        .col_expr(Column::Response, Expr::value(EXPUNGED))
        .col_expr(Column::Detail, Expr::value(None::<String>))
        .filter(Column::AppId.eq(app_id))
        .filter(Column::MessageId.eq(message_id))
        .filter(Column::Id.eq(id))
        .exec(tx.conn())
        .await?;
    tx.forget_on_commit();
    match expunged.rows_affected {
        0 => Err(not_found()),
        _ => Ok(()),
    }
}

fn not_found() -> Error {
    Error::not_found("attempt")
}
