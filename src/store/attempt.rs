//! Attempts: reads. The settler writes them. Each function takes the application that they belong to. Called by api.

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::entity::attempt::{Column, Entity, Model};
use super::entity::message as of_message;
use super::message;
use super::page::{Page, PageRequest, fetch};
use super::source::Source;
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::error::{Error, Result};

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

pub async fn list(
    source: &impl Source,
    app_id: &str,
    of: Of<'_>,
    filter: &Filter,
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
    let conditions = filter.message.conditions(source.dialect());
    if !conditions.is_empty() {
        query = query.filter(message_is(conditions));
    }
    let query = filter.message.between.apply(query, Column::Id, Prefix::Attempt);
    fetch(source, query, Column::Id, page).await
}

fn not_found() -> Error {
    Error::not_found("attempt")
}

/// Whether the attempt's message fulfils all these.
fn message_is(conditions: Vec<Expr>) -> Expr {
    use of_message::Column as Message;
    let mut query = Query::select();
    query
        .expr(Expr::val(1))
        .from(of_message::Entity)
        .and_where(Expr::col((of_message::Entity, Message::AppId)).equals((Entity, Column::AppId)))
        .and_where(Expr::col((of_message::Entity, Message::Id)).equals((Entity, Column::MessageId)));
    for condition in conditions {
        query.and_where(condition);
    }
    Expr::exists(query)
}
