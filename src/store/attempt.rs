//! Attempts: reads, and the end of an answer's text. The settler writes them. Each function takes the application that
//! they belong to. Called by api and service.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, Iterable, QueryFilter, QuerySelect};

use super::database::page::{Page, PageRequest, fetch, fetch_within};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::attempt::{Column, Entity, Model};
use super::message;
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Result};

/// Stands for an answer's text that was removed.
const EXPUNGED: &str = "EXPUNGED";

/// Whose attempts a list holds.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// All of a message; or those at one endpoint, by its id.
    Message(&'a str, Option<&'a str>),
    /// All at an endpoint.
    Endpoint(&'a str),
}

/// Which of them.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// By instant, and by their message.
    pub message: message::Filter,
    pub delivered: Option<bool>,
    /// By the answer's status: the hundred that begins here; 0: no answer.
    pub status_class: Option<i32>,
}

/// # Errors
/// `NotFound`.
pub async fn get(source: &impl Source, app_id: &str, message_id: &str, id: &str) -> Result<Model> {
    check_identifier(id).map_err(|_| not_found())?;
    let key = (app_id.to_owned(), message_id.to_owned(), id.to_owned());
    let found = Entity::find_by_id(key).one(source.source()).await?;
    found.ok_or_else(not_found)
}

/// Without `with_response` each row's is empty.
pub async fn list(
    source: &impl Source,
    app_id: &str,
    of: Of<'_>,
    filter: &Filter,
    with_response: bool,
    page: &PageRequest,
) -> Result<Page<Model>> {
    let mut query = Entity::find().filter(Column::AppId.eq(app_id));
    query = match of {
        Of::Message(message, None) => query.filter(Column::MessageId.eq(message)),
        Of::Message(message, Some(endpoint)) => query
            .filter(Column::MessageId.eq(message))
            .filter(Column::EndpointId.eq(endpoint)),
        Of::Endpoint(endpoint) => query.filter(Column::EndpointId.eq(endpoint)),
    };
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
    if with_response {
        let size = "octet_length(response) + octet_length(url)";
        return fetch_within(source, query, Column::Id, page, size, |query| query).await;
    }
    let columns = Column::iter().filter(|column| !matches!(column, Column::Response));
    let narrow = query.select_only().columns(columns);
    fetch(source, narrow.expr_as(Expr::cust("''"), "response"), Column::Id, page).await
}

/// How many attempts at an endpoint from `since` on and before `until` were delivered, and how many failed. Reads the
/// index over that time from end to end.
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

/// Removes for good what was answered.
///
/// # Errors
/// `NotFound`.
pub async fn delete_content(tx: &Tx, app_id: &str, message_id: &str, id: &str) -> Result<()> {
    check_identifier(id).map_err(|_| not_found())?;
    let expunged = Entity::update_many()
        .col_expr(Column::Response, Expr::value(EXPUNGED))
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
