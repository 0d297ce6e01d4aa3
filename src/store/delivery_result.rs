//! Reads the results: the latest state of a message at an endpoint.
//!
//! A result exists from the first settled outcome of the message at that endpoint on. Each function takes the
//! application, and never finds a result of another one. Must not write: the queue's settlement does.

use sea_orm::sea_query::{Alias, Query, UnionType};
use sea_orm::{
    ActiveEnum, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IdenStatic, Iterable, QueryFilter,
    QueryTrait, Select,
};

use super::database::page::{Page, PageRequest, fetch, window};
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

/// Returns a page of the results at an endpoint, in the order of the messages' ids.
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
) -> Result<Page<Model>> {
    if let Some(tag) = &filter.message.tag {
        return list_by_tag(source, app_id, endpoint_id, tag, filter, request).await;
    }
    let in_state = |state| in_state(source, app_id, endpoint_id, state, &filter.message);
    if let Some(state) = filter.state {
        return fetch(source, in_state(state), Column::MessageId, request).await;
    }
    let pages = ResultState::iter().map(|state| {
        let page = window(in_state(state), Column::MessageId, request).into_query();
        let columns = Column::iter().map(|column| Alias::new(column.as_str()));
        let mut part = Query::select();
        part.columns(columns).from_subquery(page, Alias::new("part"));
        part
    });
    let merged = pages.reduce(|mut all, part| {
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
    Ok(request.page(rows.collect::<Result<_, _>>()?))
}

/// Returns a page of the results at an endpoint of the messages with a tag.
async fn list_by_tag(
    source: &impl Source,
    app_id: &str,
    endpoint_id: &str,
    tag: &str,
    filter: &Filter,
    request: &PageRequest,
) -> Result<Page<Model>> {
    let key = message_tag::Column::MessageId;
    let mut query = at_endpoint(source, app_id, endpoint_id, &filter.message);
    if let Some(state) = filter.state {
        query = query.filter(Column::State.eq(state.to_value()));
    }
    let query = message_tag::lead(query, app_id, tag, (Entity, Column::MessageId));
    let query = filter.message.between.apply(query, key, Prefix::Message);
    fetch(source, query, key, request).await
}

/// Selects the results at an endpoint that are in `state` and meet the filter.
fn in_state(
    source: &impl Source,
    app_id: &str,
    endpoint_id: &str,
    state: ResultState,
    filter: &message::Filter,
) -> Select<Entity> {
    let query = at_endpoint(source, app_id, endpoint_id, filter).filter(Column::State.eq(state.to_value()));
    filter.between.apply(query, Column::MessageId, Prefix::Message)
}

/// Selects the results at an endpoint whose messages have the channel and an event type of the filter.
fn at_endpoint(source: &impl Source, app_id: &str, endpoint_id: &str, filter: &message::Filter) -> Select<Entity> {
    let query = Entity::find()
        .filter(Column::AppId.eq(app_id))
        .filter(Column::EndpointId.eq(endpoint_id));
    match filter.of_message(source.dialect(), (Entity, Column::AppId), (Entity, Column::MessageId)) {
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
