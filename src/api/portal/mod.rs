//! Tokens for an application's own people: made by the organization, ended by whoever holds one. Writes go to service.

use std::sync::Arc;
use std::time::Duration;

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::application::ApplicationIn;
use super::auth::{Authenticator, Caller, Organization};
use super::wire::body::KeyedBody;
use super::wire::error::{ApiError, Read, Write};
use super::wire::fields::identifiers;
use super::wire::idempotency::IdempotencyKey;
use super::wire::response::{Answer, Empty, reply};
use super::wire::values::{Instant, object};
use super::{ApiState, Tag};
use crate::domain::capability::{Capability, read_only};
use crate::error::{Error, Result};
use crate::service::portal::{self, Access};
use crate::store::idempotency::{Key, Reply};

/// Seconds: an hour and a week.
const SHORTEST: i64 = 3600;
const LONGEST: i64 = 7 * 24 * 3600;
const MOST_FLAGS: usize = 100;

/// What a new token of an application may do, and how long.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(rename_all = "camelCase", default)]
#[oai(rename_all = "camelCase")]
pub struct AppPortalAccessIn {
    /// Makes this application where the path names none; its `uid` must be the one in the path. Ignored where there is one.
    #[serde(deserialize_with = "object")]
    #[oai(nullable)]
    application: Option<ApplicationIn>,
    /// Seconds that the token is valid: 3600 to 604800, 604800 where it is left out.
    #[oai(nullable, validator(minimum(value = "3600"), maximum(value = "604800")))]
    expiry: Option<i64>,
    /// Besides event types without a `featureFlag` the token sees those whose flag is one of these.
    #[oai(nullable, validator(max_items = 100))]
    feature_flags: Option<Vec<String>>,
    /// The token only reads: no signing secret either, unless `capabilities` has `ViewEndpointSecret`.
    #[oai(nullable)]
    read_only: Option<bool>,
    /// Limits the token to these and to `ViewBase`; everything that an application's token may do where it is left out.
    #[oai(nullable)]
    capabilities: Option<Vec<Capability>>,
}

impl AppPortalAccessIn {
    fn read(self) -> Result<Access> {
        let application = self.application.map(ApplicationIn::read).transpose();
        let seconds = match self.expiry.unwrap_or(LONGEST) {
            seconds @ SHORTEST..=LONGEST => seconds.unsigned_abs(),
            _ => {
                let message = format!("must be from {SHORTEST} to {LONGEST} seconds");
                return Err(Error::invalid("expiry", message));
            }
        };
        let feature_flags = match self.feature_flags.unwrap_or_default() {
            none if none.is_empty() => none,
            flags => identifiers("featureFlags", flags, MOST_FLAGS)?,
        };
        let capabilities = match (self.capabilities, self.read_only) {
            (held, Some(true)) => Some(read_only(&held.unwrap_or_default())),
            (held, _) => held,
        };
        Ok(Access {
            lasts: Duration::from_secs(seconds),
            feature_flags,
            capabilities: capabilities.map(with_base),
            application: application.map_err(|err| err.within("application"))?,
        })
    }
}

/// A set that has `ViewBase`, as every token.
fn with_base(held: Vec<Capability>) -> Vec<Capability> {
    let mut set = vec![Capability::ViewBase];
    for one in held {
        if !set.contains(&one) {
            set.push(one);
        }
    }
    set
}

/// A token of an application and the page that it opens.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct AppPortalAccessOut {
    /// A page that tells what the token may do. The token is in its fragment, which browsers send to no server.
    url: String,
    /// It is shown this once.
    token: String,
}

/// The token that asks.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct TokenOut {
    /// The application that the token is of; null for an organization's.
    #[oai(nullable)]
    application_id: Option<String>,
    /// Event types with one of these flags are seen; null: all are.
    #[oai(nullable)]
    feature_flags: Option<Vec<String>>,
    /// What it is limited to; null: everything that a token of its kind may do.
    #[oai(nullable)]
    capabilities: Option<Vec<Capability>>,
    #[oai(nullable)]
    expires_at: Option<Instant>,
}

async fn open(
    state: &ApiState,
    caller: &Caller,
    app: &str,
    key: Option<Key>,
    access: AppPortalAccessIn,
) -> Result<Reply> {
    let access = access.read()?;
    let render = |token: &str| {
        let out = AppPortalAccessOut {
            url: format!("{}/portal#token={token}", state.public_url),
            token: token.to_owned(),
        };
        reply(200, &out)
    };
    portal::open(&state.store, &caller.org_id, app, access, key.as_ref(), render).await
}

pub(crate) struct Authentication;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Authentication")]
impl Authentication {
    /// Give access to an application's people
    ///
    /// The token that is answered is of this application alone.
    #[oai(
        path = "/auth/app-portal-access/:app_id",
        method = "post",
        operation_id = "v1.authentication.app-portal-access"
    )]
    async fn app_portal_access(
        &self,
        caller: Organization,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<AppPortalAccessIn>,
    ) -> Result<Answer<AppPortalAccessOut>, ApiError<Write>> {
        let key = key.of(&caller.0, body.1);
        Ok(open(&state, &caller.0, &app_id.0, key, body.0).await?.into())
    }

    /// Give access to an application's people, as older clients ask for it
    #[oai(
        path = "/auth/dashboard-access/:app_id",
        method = "post",
        operation_id = "v1.authentication.dashboard-access",
        deprecated
    )]
    async fn dashboard_access(
        &self,
        caller: Organization,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
    ) -> Result<Answer<AppPortalAccessOut>, ApiError<Write>> {
        let key = key.of(&caller.0, None);
        let access = AppPortalAccessIn::default();
        Ok(open(&state, &caller.0, &app_id.0, key, access).await?.into())
    }

    /// End the token that asks
    ///
    /// Within 5 seconds no process takes it any more. With an organization's token nothing is ended.
    #[oai(path = "/auth/logout", method = "post", operation_id = "v1.authentication.logout")]
    async fn logout(
        &self,
        caller: Caller,
        state: Data<&Arc<ApiState>>,
        authenticator: Data<&Arc<Authenticator>>,
        #[oai(name = "idempotency-key")] _key: IdempotencyKey,
    ) -> Result<Empty, ApiError<Write>> {
        caller.check_application(&state.store).await?;
        if caller.app_id.is_some() {
            portal::close(&state.store, &caller.token_id).await?;
            authenticator.forget(&caller.token_id);
        }
        Ok(Empty)
    }

    /// Tell what the token that asks may do
    #[oai(path = "/auth/token", method = "get", operation_id = "v1.authentication.token")]
    async fn token(&self, caller: Caller, state: Data<&Arc<ApiState>>) -> Result<Answer<TokenOut>, ApiError<Read>> {
        caller.check_application(&state.store).await?;
        let out = TokenOut {
            feature_flags: caller.flags().map(<[_]>::to_vec),
            capabilities: caller.capabilities.as_deref().map(<[_]>::to_vec),
            expires_at: caller.expires_at.map(Instant),
            application_id: caller.app_id,
        };
        Ok(Answer::ok(&out)?)
    }
}
