//! Reads the results: the latest state of a message at an endpoint.
//!
//! A result exists from the first settled outcome of the message at that endpoint on. Each function takes the
//! application, and never finds a result of another one. Must not write: the queue's settlement does.

use sea_orm::sea_query::{Alias, Expr, Query, UnionType};
use sea_orm::{
    ActiveEnum, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IdenStatic, Iterable, QueryFilter,
    QueryTrait, Select,
};

use super::database::page::{Page, PageRequest, fetch, find_reach, window};
use super::database::source::Source;
use super::entity::delivery_result::{Column, Entity, Model};
use super::{message, message_tag};
use crate::domain::delivery::ResultState;
use crate::domain::id::Prefix;
use crate::error::Result;

/// The conditions that a listed result meets.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The conditions on the message.
    pub message: message::Filter,
    /// The state that the result has; `None` means any.
    pub state: Option<ResultState>,
}

/// Returns a page of the results at an endpoint, in the order of the messages' ids. A page with conditions on the
/// messages looks through a bounded number of results in each state, or of messages with the tag; the second value is
/// then the id of the message at which it ended, for [`Page::reaching`].
///
/// The index begins with state and endpoint. So without a condition on the state, each state is read by itself and the
/// parts are merged: results in a rare state need not be searched for among all others. A tag leads to its messages in
/// order, whatever their state.
pub async fn list_by_endpoint(
    source: &impl Source,
    app_id: &str,
    endpoint_id: &str,
    filter: &Filter,
    request: &PageRequest,
) -> Result<(Page<Model>, Option<String>)> {
    if let Some(tag) = &filter.message.tag {
        return list_by_tag(source, app_id, endpoint_id, tag, filter, request).await;
    }
    let key = Column::MessageId;
    let states: Vec<_> = match filter.state {
        Some(state) => vec![state],
        None => ResultState::iter().collect(),
    };
    let of_state = |state: ResultState| {
        let query = at_endpoint(app_id, endpoint_id).filter(Column::State.eq(state.to_value()));
        filter.message.between.apply(query, key, Prefix::Message)
    };
    let fits = of_message(source, filter);
    let mut reach = None;
    if fits.is_some() {
        for state in &states {
            let found = find_reach(source, of_state(*state), key, request).await?;
            reach = request.nearer(reach, found);
        }
    }
    let pages = states.into_iter().map(|state| {
        let query = request.reach(of_state(state), key, reach.as_deref());
        window(narrow(query, fits.clone()), key, request)
    });
    let rows = merge(source, pages, request).await?;
    Ok((request.page(rows), reach))
}

/// Returns the rows of these pages together, as a page with one row more reads them.
async fn merge(
    source: &impl Source,
    pages: impl Iterator<Item = Select<Entity>>,
    request: &PageRequest,
) -> Result<Vec<Model>> {
    let parts = pages.map(|page| {
        let columns = Column::iter().map(|column| Alias::new(column.as_str()));
        let mut part = Query::select();
        part.columns(columns)
            .from_subquery(page.into_query(), Alias::new("part"));
        part
    });
    let merged = parts.reduce(|mut all, part| {
        all.union(UnionType::All, part);
        all
    });
    let mut merged = merged.unwrap_or_default();
    merged
        .order_by(Alias::new("message_id"), request.order())
        .limit(request.limit + 1);
    let statement = source.dialect().orm().build(&merged);
    let found = source.source().query_all_raw(statement).await?;
    let rows = found.iter().map(|row| Model::from_query_result(row, ""));
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns a page of the results at an endpoint of the messages with a tag, and the id at which it ended.
async fn list_by_tag(
    source: &impl Source,
    app_id: &str,
    endpoint_id: &str,
    tag: &str,
    filter: &Filter,
    request: &PageRequest,
) -> Result<(Page<Model>, Option<String>)> {
    let key = message_tag::Column::MessageId;
    let between = &filter.message.between;
    // Messages with the tag need not have a result here.
    let reach = message_tag::find_reach(source, app_id, tag, between, request).await?;
    let mut query = narrow(at_endpoint(app_id, endpoint_id), of_message(source, filter));
    if let Some(state) = filter.state {
        query = query.filter(Column::State.eq(state.to_value()));
    }
    let query = message_tag::lead(source.dialect(), query, app_id, tag, (Entity, Column::MessageId));
    let query = between.apply(query, key, Prefix::Message);
    let query = request.reach(query, key, reach.as_deref());
    Ok((fetch(source, query, key, request).await?, reach))
}

/// Selects the results at an endpoint.
fn at_endpoint(app_id: &str, endpoint_id: &str) -> Select<Entity> {
    Entity::find()
        .filter(Column::AppId.eq(app_id))
        .filter(Column::EndpointId.eq(endpoint_id))
}

/// Returns the condition that a result's message has the channel and an event type of the filter; `None` means there is
/// none.
fn of_message(source: &impl Source, filter: &Filter) -> Option<Expr> {
    let message = (Entity, Column::MessageId);
    filter
        .message
        .of_message(source.dialect(), (Entity, Column::AppId), message)
}

/// Limits `query` to results that meet the condition.
fn narrow(query: Select<Entity>, fits: Option<Expr>) -> Select<Entity> {
    match fits {
        Some(fits) => query.filter(fits),
        None => query,
    }
}

/// Returns a page of a message's results, in the order of the endpoints' ids.
pub async fn list_by_message(
    source: &impl Source,
    app_id: &str,
    message_id: &str,
    request: &PageRequest,
) -> Result<Page<Model>> {
    let query = Entity::find()
        .filter(Column::AppId.eq(app_id))
        .filter(Column::MessageId.eq(message_id));
    fetch(source, query, Column::EndpointId, request).await
}
