//! The state of messages at endpoints: reads. The settler writes them, from a pair's first settled attempt on.
//! Each function takes the application that they belong to. Called by api.

use sea_orm::sea_query::{Alias, Query, UnionType};
use sea_orm::{
    ActiveEnum, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IdenStatic, Iterable, QueryFilter,
    QueryTrait, Select,
};

use super::database::page::{Page, PageRequest, fetch, window};
use super::database::source::Source;
use super::entity::delivery_result::{Column, Entity, Model};
use super::message;
use crate::domain::delivery::ResultState;
use crate::domain::id::Prefix;
use crate::error::Result;

/// Which messages at an endpoint a list holds.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub message: message::Filter,
    pub state: Option<ResultState>,
}

/// By message. The index leads from endpoint and state to messages, so each state is read by itself and the pages are
/// merged: one that is rare is not searched for among all others.
pub async fn list_by_endpoint(
    source: &impl Source,
    app_id: &str,
    endpoint_id: &str,
    filter: &Filter,
    request: &PageRequest,
) -> Result<Page<Model>> {
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

fn in_state(
    source: &impl Source,
    app_id: &str,
    endpoint_id: &str,
    state: ResultState,
    filter: &message::Filter,
) -> Select<Entity> {
    let mut query = Entity::find()
        .filter(Column::AppId.eq(app_id))
        .filter(Column::EndpointId.eq(endpoint_id))
        .filter(Column::State.eq(state.to_value()));
    if let Some(fits) = filter.of_message(source.dialect(), (Entity, Column::AppId), (Entity, Column::MessageId)) {
        query = query.filter(fits);
    }
    filter.between.apply(query, Column::MessageId, Prefix::Message)
}

/// By endpoint.
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
