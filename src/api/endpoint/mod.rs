//! Endpoints over REST: the URLs at which an application receives messages. Reads go to the store, writes to the
//! service.
//!
//! Must not show secrets or custom headers: secret.rs does.

pub mod body;
pub mod example;
pub mod replay;
pub mod secret;
pub mod stats;

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};

use self::body::{EndpointIn, EndpointOut, EndpointPatch, EndpointUpdate};
use super::caller::Caller;
use super::rights::{AnyToken, Edit, SwitchEndpoint, View};
use super::wire::body::{Body, KeyedBody};
use super::wire::error::{ApiError, Conditional, Read, Write};
use super::wire::idempotency::IdempotencyKey;
use super::wire::paging::{Iterates, Limit, ListOut, ListQuery, Ordering, ascending};
use super::wire::response::{Answer, Created, CreatedOrReplaced, Empty, reply};
use super::{ApiState, Tag};
use crate::domain::id::Prefix;
use crate::error::{Error, Kind, Result};
use crate::service::{self, endpoint::Bounds};
use crate::store::endpoint;
use crate::store::entity::endpoint::Model;
use crate::store::idempotency::Reply;

/// Returns the reply to a creation, which is also stored for the idempotency key.
fn created(row: Model) -> Result<Reply> {
    reply(201, &EndpointOut::from(row))
}

/// Returns the limits within which the caller may create and replace endpoints.
pub(crate) fn bounds<'a>(state: &ApiState, caller: &'a Caller) -> Bounds<'a> {
    Bounds {
        most: state.most_endpoints,
        flags: caller.flags(),
    }
}

/// Checks that the caller may change these fields of an endpoint.
///
/// # Errors
/// `Forbidden` if a role may change `disabled` alone, and the change is another one: with a new URL an operator could
/// send an application's messages elsewhere.
fn check_patch(caller: &Caller, patch: &EndpointPatch) -> Result<()> {
    match caller.limited_role() {
        Some(role) if !patch.only_switches() => {
            let message = format!(
                "a token with the role {} changes `disabled` of an endpoint alone",
                role.name()
            );
            Err(Error::new(Kind::Forbidden, message))
        }
        _ => Ok(()),
    }
}

pub(crate) struct Endpoints;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Endpoint")]
impl Endpoints {
    /// List endpoints
    ///
    /// If descriptions and filters are large, a page may hold fewer endpoints than `limit`; `done` says whether it is
    /// the last page.
    #[oai(path = "/app/:app_id/endpoint", method = "get", operation_id = "v1.endpoint.list")]
    async fn list(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        order: Query<Option<Ordering>>,
    ) -> Result<Answer<ListOut<EndpointOut>>, ApiError<Read>> {
        let upwards = ascending(order.0, Ordering::Descending);
        let request = ListQuery { limit, iterator }.request(&Iterates::Over(Prefix::Endpoint), upwards)?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let page = endpoint::list(&state.store, &app.id, &request).await?;
        let out = |row| Ok(EndpointOut::from(row));
        Ok(ListOut::answer(page, &request, |row| &row.id, out)?)
    }

    /// Create an endpoint
    #[oai(path = "/app/:app_id/endpoint", method = "post", operation_id = "v1.endpoint.create")]
    async fn create(
        &self,
        caller: AnyToken<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<EndpointIn>,
    ) -> Result<Answer<EndpointOut, Created>, ApiError<Conditional>> {
        let key = key.of(&caller, body.1);
        let field = body.0.filter_field();
        let new = body.0.read(&state.targets, &caller)?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let made = service::endpoint::create(
            &state.store,
            &caller.origin("v1.endpoint.create"),
            &app,
            new,
            bounds(&state, &caller),
            key.as_ref(),
            created,
        )
        .await;
        Ok(made.map_err(|err| field.named_in(err))?.into())
    }

    /// Get an endpoint
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id",
        method = "get",
        operation_id = "v1.endpoint.get"
    )]
    async fn get(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
    ) -> Result<Answer<EndpointOut>, ApiError<Read>> {
        let app = caller.application(&state.store, &app_id.0).await?;
        let found = endpoint::get(&state.store, &app.id, &endpoint_id.0).await?;
        Ok(Answer::ok(&found.into())?)
    }

    /// Replace or create an endpoint
    ///
    /// Its secret and its custom headers are kept.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id",
        method = "put",
        operation_id = "v1.endpoint.update"
    )]
    async fn update(
        &self,
        caller: AnyToken<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        body: Body<EndpointUpdate>,
    ) -> Result<Answer<EndpointOut, CreatedOrReplaced>, ApiError<Conditional>> {
        let field = body.0.filter_field();
        let content = body.0.read(&state.targets, &caller)?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let (origin, bounds) = (caller.origin("v1.endpoint.update"), bounds(&state, &caller));
        let done = service::endpoint::put(&state.store, &origin, &app, &endpoint_id.0, content, bounds).await;
        let (row, new) = done.map_err(|err| field.named_in(err))?;
        let status = if new { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Answer::new(status, &row.into())?)
    }

    /// Change an endpoint
    ///
    /// A token with the role `operator` may change `disabled`, and no other field.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id",
        method = "patch",
        operation_id = "v1.endpoint.patch"
    )]
    async fn patch(
        &self,
        caller: AnyToken<SwitchEndpoint>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        body: Body<EndpointPatch>,
    ) -> Result<Answer<EndpointOut>, ApiError<Write>> {
        check_patch(&caller, &body.0)?;
        let field = body.0.filter_field();
        let change = body.0.read(&state.targets, &caller)?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let origin = caller.origin("v1.endpoint.patch");
        let done = service::endpoint::patch(&state.store, &origin, &app, &endpoint_id.0, change, caller.flags()).await;
        Ok(Answer::ok(&done.map_err(|err| field.named_in(err))?.into())?)
    }

    /// Delete an endpoint
    ///
    /// Deliveries that still wait for it are not sent, and its uid is free again.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id",
        method = "delete",
        operation_id = "v1.endpoint.delete"
    )]
    async fn delete(
        &self,
        caller: AnyToken<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
    ) -> Result<Empty, ApiError<Write>> {
        let app = caller.application(&state.store, &app_id.0).await?;
        let origin = caller.origin("v1.endpoint.delete");
        service::endpoint::delete(&state.store, &origin, &app, &endpoint_id.0).await?;
        Ok(Empty)
    }
}
