//! The signing secret and the tokens of a poller over REST. Reads go to the store, writes to the service.
//!
//! Must not show a token, except in the response to its creation.

use std::sync::Arc;

use poem::http::HeaderMap;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};

use super::body::{PollerTokenCreatedOut, PollerTokenIn, PollerTokenOut};
use crate::api::auth::Authenticator;
use crate::api::endpoint::secret::{EndpointSecretOut, EndpointSecretRotateIn, rotated, rotation};
use crate::api::rights::{AnyToken, Edit, RevealSecret, RotateSecret, View};
use crate::api::wire::body::{KeyedBody, OptionalBody};
use crate::api::wire::error::{ApiError, Conditional, Read, Write};
use crate::api::wire::fields::token_name;
use crate::api::wire::idempotency::IdempotencyKey;
use crate::api::wire::paging::{Iterates, Limit, ListOut, ListQuery, Ordering, ascending};
use crate::api::wire::response::{Answer, Created, Empty, reply};
use crate::api::{ApiState, Tag};
use crate::domain::id::Prefix;
use crate::error::Result;
use crate::service::poller_token;
use crate::service::token::Grant;
use crate::store::entity::api_token::Model as Token;
use crate::store::idempotency::Reply;
use crate::store::{poller, token};

/// Returns the reply to the creation of a token, which is also stored, sealed, for the idempotency key.
fn created(row: Token, token: String) -> Result<Reply> {
    let row = row.into();
    reply(201, &PollerTokenCreatedOut { row, token })
}

pub(crate) struct PollerSecrets;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Poller")]
impl PollerSecrets {
    /// Get a poller's signing secret
    ///
    /// Each message that a poll returns has the headers of a webhook, signed with this secret.
    #[oai(
        path = "/app/:app_id/poller/:poller_id/secret",
        method = "get",
        operation_id = "v1.poller.get-secret"
    )]
    async fn secret(
        &self,
        caller: AnyToken<RevealSecret>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        poller_id: Path<String>,
    ) -> Result<Answer<EndpointSecretOut>, ApiError<Read>> {
        let app = caller.application(&state.store, &app_id.0).await?;
        let found = poller::get(&state.store, &app.id, &poller_id.0).await?;
        let key = crate::service::poller::reveal(&state.store, &found)?;
        Ok(Answer::ok(&EndpointSecretOut { key })?)
    }

    /// Replace a poller's signing secret
    ///
    /// The body may be left out. For a while messages are signed with both the old and the new secret.
    #[oai(
        path = "/app/:app_id/poller/:poller_id/secret/rotate",
        method = "post",
        operation_id = "v1.poller.rotate-secret"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn rotate(
        &self,
        caller: AnyToken<RotateSecret>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        poller_id: Path<String>,
        headers: &HeaderMap,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: OptionalBody<EndpointSecretRotateIn>,
    ) -> Result<Answer<EndpointSecretOut>, ApiError<Conditional>> {
        let key = key.of(&caller, body.1);
        let new = body.0.read()?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let (origin, name) = (caller.origin("v1.poller.rotate-secret"), &poller_id.0);
        let done =
            crate::service::poller::rotate(&state.store, &origin, &app, name, new, key.as_ref(), rotated).await?;
        Ok(rotation(done, headers))
    }

    /// List the tokens of a poller
    ///
    /// Those that are not revoked, expired ones too.
    #[oai(
        path = "/app/:app_id/poller/:poller_id/token",
        method = "get",
        operation_id = "v1.poller.token.list"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn tokens(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        poller_id: Path<String>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        order: Query<Option<Ordering>>,
    ) -> Result<Answer<ListOut<PollerTokenOut>>, ApiError<Read>> {
        let upwards = ascending(order.0, Ordering::Ascending);
        let request = ListQuery { limit, iterator }.request(&Iterates::Over(Prefix::Token), upwards)?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let poller = poller::get(&state.store, &app.id, &poller_id.0).await?;
        let page = token::list_of_poller(&state.store, &app.id, &poller.id, &request).await?;
        let out = |row| Ok(PollerTokenOut::from(row));
        Ok(ListOut::answer(page, &request, |row| &row.id, out)?)
    }

    /// Make a token for a poller
    ///
    /// It reads the messages of this poller, also as a consumer, and does nothing else.
    #[oai(
        path = "/app/:app_id/poller/:poller_id/token",
        method = "post",
        operation_id = "v1.poller.token.create"
    )]
    async fn create_token(
        &self,
        caller: AnyToken<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        poller_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<PollerTokenIn>,
    ) -> Result<Answer<PollerTokenCreatedOut, Created>, ApiError<Write>> {
        let key = key.of(&caller, body.1);
        let name = token_name(body.0.name)?;
        let grant = Grant {
            name: Some(&name),
            expires_at: body.0.expires_at.map(|end| end.0),
            ..Grant::default()
        };
        let app = caller.application(&state.store, &app_id.0).await?;
        let (origin, poller) = (caller.origin("v1.poller.token.create"), &poller_id.0);
        let made = poller_token::create(&state.store, &origin, &app, poller, grant, key.as_ref(), created).await?;
        Ok(made.into())
    }

    /// Revoke a token of a poller
    ///
    /// Within 5 seconds no process accepts it any more.
    #[oai(
        path = "/app/:app_id/poller/:poller_id/token/:token_id",
        method = "delete",
        operation_id = "v1.poller.token.delete"
    )]
    async fn delete_token(
        &self,
        caller: AnyToken<Edit>,
        state: Data<&Arc<ApiState>>,
        authenticator: Data<&Arc<Authenticator>>,
        app_id: Path<String>,
        poller_id: Path<String>,
        token_id: Path<String>,
    ) -> Result<Empty, ApiError<Write>> {
        let app = caller.application(&state.store, &app_id.0).await?;
        let origin = caller.origin("v1.poller.token.delete");
        poller_token::delete(&state.store, &origin, &app, &poller_id.0, &token_id.0).await?;
        authenticator.forget(&token_id.0);
        Ok(Empty)
    }
}
