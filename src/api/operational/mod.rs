//! Operational webhooks over REST: endpoints that are notified of what happens to the endpoints and messages of an
//! organization's applications. Reads go to the store, writes to the service.
//!
//! Operational endpoints belong to an application that has the organization's id, so a handler passes that id where
//! the handlers of ordinary endpoints pass an application's. Writes create the application if it does not exist yet.
//!
//! Must not send notices: the service and settlements do, in the transaction of the event that they report.

pub mod body;

use std::sync::Arc;

use poem::http::{HeaderMap, StatusCode};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};

use self::body::{OperationalWebhookEndpointIn, OperationalWebhookEndpointOut, OperationalWebhookEndpointUpdate};
use super::endpoint::bounds;
use super::endpoint::secret::{
    EndpointHeadersIn, EndpointHeadersOut, EndpointSecretOut, EndpointSecretRotateIn, rotated, rotation,
};
use super::rights::{Edit, Organization, RevealSecret, RotateSecret, View};
use super::wire::body::{Body, KeyedBody, OptionalBody};
use super::wire::error::{ApiError, Conditional, Read, Write};
use super::wire::fields::headers;
use super::wire::idempotency::IdempotencyKey;
use super::wire::paging::{Iterates, Limit, ListOut, ListQuery, Ordering, ascending};
use super::wire::response::{Answer, Created, CreatedOrReplaced, Empty, reply};
use super::{ApiState, Tag};
use crate::domain::id::Prefix;
use crate::error::Result;
use crate::service::{self, endpoint_secret, operational};
use crate::store::endpoint;
use crate::store::entity::endpoint::Model;
use crate::store::idempotency::Reply;

/// Returns the reply to a creation, which is also stored for the idempotency key.
fn created(row: Model) -> Result<Reply> {
    reply(201, &OperationalWebhookEndpointOut::from(row))
}

pub(crate) struct OperationalWebhooks;

#[OpenApi(prefix_path = "/api/v1/operational-webhook", tag = "Tag::OperationalWebhook")]
impl OperationalWebhooks {
    /// List operational endpoints
    #[oai(
        path = "/endpoint",
        method = "get",
        operation_id = "v1.operational-webhook.endpoint.list"
    )]
    async fn list(
        &self,
        caller: Organization<View>,
        state: Data<&Arc<ApiState>>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        order: Query<Option<Ordering>>,
    ) -> Result<Answer<ListOut<OperationalWebhookEndpointOut>>, ApiError<Read>> {
        let upwards = ascending(order.0, Ordering::Descending);
        let request = ListQuery { limit, iterator }.request(&Iterates::Over(Prefix::Endpoint), upwards)?;
        let page = endpoint::list(&state.store, &caller.0.org_id, &request).await?;
        let out = |row| Ok(OperationalWebhookEndpointOut::from(row));
        Ok(ListOut::answer(page, &request, |row| &row.id, out)?)
    }

    /// Create an operational endpoint
    ///
    /// It is notified of what happens to the endpoints and messages of all applications. An organization has at most 20
    /// operational endpoints.
    #[oai(
        path = "/endpoint",
        method = "post",
        operation_id = "v1.operational-webhook.endpoint.create"
    )]
    async fn create(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<OperationalWebhookEndpointIn>,
    ) -> Result<Answer<OperationalWebhookEndpointOut, Created>, ApiError<Conditional>> {
        let key = key.of(&caller.0, body.1);
        let field = body.0.filter_field();
        let new = body.0.read(&state.targets, &caller.0)?;
        let app = operational::get_or_create(&state.store, &caller.0.org_id).await?;
        let made = service::endpoint::create(
            &state.store,
            &caller.0.origin("v1.operational-webhook.endpoint.create"),
            &app,
            new,
            bounds(&state, &caller.0),
            key.as_ref(),
            created,
        )
        .await;
        Ok(made.map_err(|err| field.named_in(err))?.into())
    }

    /// Get an operational endpoint
    #[oai(
        path = "/endpoint/:endpoint_id",
        method = "get",
        operation_id = "v1.operational-webhook.endpoint.get"
    )]
    async fn get(
        &self,
        caller: Organization<View>,
        state: Data<&Arc<ApiState>>,
        endpoint_id: Path<String>,
    ) -> Result<Answer<OperationalWebhookEndpointOut>, ApiError<Read>> {
        let found = endpoint::get(&state.store, &caller.0.org_id, &endpoint_id.0).await?;
        Ok(Answer::ok(&found.into())?)
    }

    /// Replace or create an operational endpoint
    ///
    /// Its secret and its custom headers are kept.
    #[oai(
        path = "/endpoint/:endpoint_id",
        method = "put",
        operation_id = "v1.operational-webhook.endpoint.update"
    )]
    async fn update(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        endpoint_id: Path<String>,
        body: Body<OperationalWebhookEndpointUpdate>,
    ) -> Result<Answer<OperationalWebhookEndpointOut, CreatedOrReplaced>, ApiError<Conditional>> {
        let field = body.0.filter_field();
        let content = body.0.read(&state.targets, &caller.0)?;
        let app = operational::get_or_create(&state.store, &caller.0.org_id).await?;
        let (origin, bounds) = (
            caller.0.origin("v1.operational-webhook.endpoint.update"),
            bounds(&state, &caller.0),
        );
        let done = service::endpoint::put(&state.store, &origin, &app, &endpoint_id.0, content, bounds).await;
        let (row, new) = done.map_err(|err| field.named_in(err))?;
        let status = if new { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Answer::new(status, &row.into())?)
    }

    /// Delete an operational endpoint
    #[oai(
        path = "/endpoint/:endpoint_id",
        method = "delete",
        operation_id = "v1.operational-webhook.endpoint.delete"
    )]
    async fn delete(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        endpoint_id: Path<String>,
    ) -> Result<Empty, ApiError<Write>> {
        let app = operational::get_or_create(&state.store, &caller.0.org_id).await?;
        let origin = caller.0.origin("v1.operational-webhook.endpoint.delete");
        service::endpoint::delete(&state.store, &origin, &app, &endpoint_id.0).await?;
        Ok(Empty)
    }

    /// Get an operational endpoint's signing secret
    #[oai(
        path = "/endpoint/:endpoint_id/secret",
        method = "get",
        operation_id = "v1.operational-webhook.endpoint.get-secret"
    )]
    async fn secret(
        &self,
        caller: Organization<RevealSecret>,
        state: Data<&Arc<ApiState>>,
        endpoint_id: Path<String>,
    ) -> Result<Answer<EndpointSecretOut>, ApiError<Read>> {
        let found = endpoint::get(&state.store, &caller.0.org_id, &endpoint_id.0).await?;
        let key = endpoint_secret::reveal(&state.store, &found)?;
        Ok(Answer::ok(&EndpointSecretOut { key })?)
    }

    /// Replace an operational endpoint's signing secret
    ///
    /// The body may be left out. For a while deliveries are signed with both the old and the new secret, so that the
    /// receiver has time to change. SDKs for Python before 1.57, known by their `User-Agent`, get 204 without a body:
    /// they take any other response for an error.
    #[oai(
        path = "/endpoint/:endpoint_id/secret/rotate",
        method = "post",
        operation_id = "v1.operational-webhook.endpoint.rotate-secret"
    )]
    async fn rotate(
        &self,
        caller: Organization<RotateSecret>,
        state: Data<&Arc<ApiState>>,
        endpoint_id: Path<String>,
        headers: &HeaderMap,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: OptionalBody<EndpointSecretRotateIn>,
    ) -> Result<Answer<EndpointSecretOut>, ApiError<Conditional>> {
        let key = key.of(&caller.0, body.1);
        let new = body.0.read()?;
        let app = operational::get_or_create(&state.store, &caller.0.org_id).await?;
        let (origin, name) = (
            caller.0.origin("v1.operational-webhook.endpoint.rotate-secret"),
            &endpoint_id.0,
        );
        let done = endpoint_secret::rotate(&state.store, &origin, &app, name, new, key.as_ref(), rotated).await?;
        Ok(rotation(done, headers))
    }

    /// Get an operational endpoint's custom headers
    #[oai(
        path = "/endpoint/:endpoint_id/headers",
        method = "get",
        operation_id = "v1.operational-webhook.endpoint.get-headers"
    )]
    async fn headers(
        &self,
        caller: Organization<View>,
        state: Data<&Arc<ApiState>>,
        endpoint_id: Path<String>,
    ) -> Result<Answer<EndpointHeadersOut>, ApiError<Read>> {
        let found = endpoint::get(&state.store, &caller.0.org_id, &endpoint_id.0).await?;
        let headers = service::endpoint::headers(&state.store, &found)?;
        Ok(Answer::ok(&EndpointHeadersOut::new(headers, caller.0.sees_headers()))?)
    }

    /// Replace an operational endpoint's custom headers
    #[oai(
        path = "/endpoint/:endpoint_id/headers",
        method = "put",
        operation_id = "v1.operational-webhook.endpoint.update-headers"
    )]
    async fn put_headers(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        endpoint_id: Path<String>,
        body: Body<EndpointHeadersIn>,
    ) -> Result<Empty, ApiError<Write>> {
        let new = headers(body.0.headers)?;
        let app = operational::get_or_create(&state.store, &caller.0.org_id).await?;
        let origin = caller.0.origin("v1.operational-webhook.endpoint.update-headers");
        service::endpoint::change_headers(&state.store, &origin, &app, &endpoint_id.0, |_| Ok(new)).await?;
        Ok(Empty)
    }
}
