//! An organization's own tokens over REST. Reads go to the store, writes to the service.
//!
//! Tokens of applications are made by `portal/`. Must not show a token, except in the response to its creation.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::auth::Authenticator;
use super::rights::{Administer, Organization};
use super::wire::body::{Body, KeyedBody};
use super::wire::error::{ApiError, LeavesAnAdmin, Read, Write};
use super::wire::fields::{change, token_name};
use super::wire::idempotency::IdempotencyKey;
use super::wire::paging::{Iterates, Limit, ListOut, ListQuery, Ordering, ascending};
use super::wire::response::{Answer, Created, Empty, reply};
use super::wire::values::{Instant, present};
use super::{ApiState, Tag};
use crate::domain::id::Prefix;
use crate::domain::role::Role;
use crate::error::Result;
use crate::service::{self, token::Grant};
use crate::store::entity::api_token::Model;
use crate::store::idempotency::Reply;
use crate::store::token::{self, Change};

/// A token to make.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct ApiTokenIn {
    /// The name by which people know the token; no control characters.
    #[oai(validator(min_length = 1, max_length = 256))]
    name: String,
    role: Role,
    /// When the token ends. Default: never.
    #[oai(nullable)]
    expires_at: Option<Instant>,
}

/// Changes to a token; an absent field keeps its value.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(rename_all = "camelCase", default)]
#[oai(rename_all = "camelCase")]
pub struct ApiTokenPatch {
    #[serde(deserialize_with = "present")]
    #[oai(validator(min_length = 1, max_length = 256))]
    name: Option<String>,
    #[serde(deserialize_with = "present")]
    role: Option<Role>,
    /// When the token ends; null: never.
    #[oai(nullable)]
    expires_at: MaybeUndefined<Instant>,
}

impl ApiTokenPatch {
    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    fn read(self) -> Result<Change> {
        Ok(Change {
            name: self.name.map(token_name).transpose()?,
            role: self.role,
            expires_at: change(self.expires_at, |instant| Ok(instant.0))?,
        })
    }
}

/// A token of the organization, without the token itself.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct ApiTokenOut {
    id: String,
    /// Null: it was made without a name.
    #[oai(nullable)]
    name: Option<String>,
    role: Role,
    created_at: Instant,
    /// When the token ends; null: never.
    #[oai(nullable)]
    expires_at: Option<Instant>,
    /// The minute in which the token was last used; a use is shown after a minute. Null: never.
    #[oai(nullable)]
    last_used_at: Option<Instant>,
    /// The id of the token that made it, `admin` for the configured one, `cli` for the command line, `system` for a
    /// first start; null: not recorded.
    #[oai(nullable)]
    created_by: Option<String>,
}

impl From<Model> for ApiTokenOut {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            role: row.role,
            created_at: Instant(row.created_at),
            expires_at: row.expires_at.map(Instant),
            last_used_at: row.last_used_at.map(Instant),
            created_by: row.created_by,
        }
    }
}

/// A token that was just made.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct ApiTokenCreatedOut {
    #[serde(flatten)]
    #[oai(flatten)]
    row: ApiTokenOut,
    /// The token. It is shown only once.
    token: String,
}

/// Returns the reply to a creation, which is also stored, sealed, for the idempotency key.
fn created(row: Model, token: String) -> Result<Reply> {
    let row = row.into();
    reply(201, &ApiTokenCreatedOut { row, token })
}

pub(super) struct Tokens;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Token")]
impl Tokens {
    /// List tokens
    ///
    /// The tokens of the organization itself that are not revoked, expired ones too.
    #[oai(path = "/token", method = "get", operation_id = "v1.token.list")]
    async fn list(
        &self,
        caller: Organization<Administer>,
        state: Data<&Arc<ApiState>>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        order: Query<Option<Ordering>>,
    ) -> Result<Answer<ListOut<ApiTokenOut>>, ApiError<Read>> {
        let upwards = ascending(order.0, Ordering::Ascending);
        let request = ListQuery { limit, iterator }.request(&Iterates::Over(Prefix::Token), upwards)?;
        let page = token::list_own(&state.store, &caller.0.org_id, &request).await?;
        let out = |row| Ok(ApiTokenOut::from(row));
        Ok(ListOut::answer(page, &request, |row| &row.id, out)?)
    }

    /// Make a token
    #[oai(path = "/token", method = "post", operation_id = "v1.token.create")]
    async fn create(
        &self,
        caller: Organization<Administer>,
        state: Data<&Arc<ApiState>>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<ApiTokenIn>,
    ) -> Result<Answer<ApiTokenCreatedOut, Created>, ApiError<Write>> {
        let key = key.of(&caller.0, body.1);
        let name = token_name(body.0.name)?;
        let grant = Grant {
            name: Some(&name),
            role: body.0.role,
            application: None,
            expires_at: body.0.expires_at.map(|end| end.0),
            session: None,
        };
        let (origin, org_id) = (caller.0.origin("v1.token.create"), &caller.0.org_id);
        let made = service::token::create_once(&state.store, &origin, org_id, grant, key.as_ref(), created).await?;
        Ok(made.into())
    }

    /// Get a token
    #[oai(path = "/token/:token_id", method = "get", operation_id = "v1.token.get")]
    async fn get(
        &self,
        caller: Organization<Administer>,
        state: Data<&Arc<ApiState>>,
        token_id: Path<String>,
    ) -> Result<Answer<ApiTokenOut>, ApiError<Read>> {
        let found = token::get(&state.store, &caller.0.org_id, &token_id.0).await?;
        Ok(Answer::ok(&found.into())?)
    }

    /// Change a token
    ///
    /// Within 5 seconds every process knows the change. The last valid token with the role `admin` keeps its role and
    /// its end.
    #[oai(path = "/token/:token_id", method = "patch", operation_id = "v1.token.patch")]
    async fn patch(
        &self,
        caller: Organization<Administer>,
        state: Data<&Arc<ApiState>>,
        authenticator: Data<&Arc<Authenticator>>,
        token_id: Path<String>,
        body: Body<ApiTokenPatch>,
    ) -> Result<Answer<ApiTokenOut>, ApiError<LeavesAnAdmin>> {
        let change = body.0.read()?;
        let configured = state.has_admin_token(&caller.0.org_id);
        let (origin, org_id) = (caller.0.origin("v1.token.patch"), &caller.0.org_id);
        let row = service::token::patch(&state.store, &origin, org_id, &token_id.0, change, configured).await?;
        authenticator.forget(&row.id);
        Ok(Answer::ok(&row.into())?)
    }

    /// Revoke a token
    ///
    /// Within 5 seconds no process accepts it any more. The last valid token with the role `admin` is not revoked.
    #[oai(path = "/token/:token_id", method = "delete", operation_id = "v1.token.delete")]
    async fn delete(
        &self,
        caller: Organization<Administer>,
        state: Data<&Arc<ApiState>>,
        authenticator: Data<&Arc<Authenticator>>,
        token_id: Path<String>,
    ) -> Result<Empty, ApiError<LeavesAnAdmin>> {
        let configured = state.has_admin_token(&caller.0.org_id);
        let (origin, org_id) = (caller.0.origin("v1.token.delete"), &caller.0.org_id);
        service::token::delete(&state.store, &origin, org_id, &token_id.0, configured).await?;
        authenticator.forget(&token_id.0);
        Ok(Empty)
    }
}
