//! Portal access over REST: tokens with which the people of one application use the API and the portal page.
//!
//! The organization makes a token; each token can end itself. Writes go to the service. The page itself is in
//! `page.html`, `page.js` and `page.css`, which `http/pages.rs` serves.
//!
//! Must not decide which requests a limited token may make: rights.rs does.

use std::sync::Arc;
use std::time::Duration;

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::application::ApplicationIn;
use super::auth::Authenticator;
use super::caller::{Caller, not_created};
use super::rights::{AnyToken, EndToken, OpenPortal, Organization, View};
use super::wire::body::KeyedBody;
use super::wire::error::{ApiError, Read, Write};
use super::wire::fields::identifiers;
use super::wire::idempotency::IdempotencyKey;
use super::wire::response::{Answer, Empty, reply};
use super::wire::values::{Instant, object};
use super::{ApiState, Tag};
use crate::domain::capability::{Capability, read_only};
use crate::domain::role::Role;
use crate::error::{Error, Kind, Result};
use crate::service::portal::{self, Access};
use crate::store::idempotency::{Key, Reply};

/// The shortest and the longest life of a token, in seconds: an hour and a week.
const SHORTEST: i64 = 3600;
const LONGEST: i64 = 7 * 24 * 3600;
/// The largest number of feature flags of one token.
const MOST_FLAGS: usize = 100;

/// The rights and the lifetime of a new token for an application.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(rename_all = "camelCase", default)]
#[oai(rename_all = "camelCase")]
pub struct AppPortalAccessIn {
    /// The application to create if the path names one that does not exist; its `uid` must be the one in the path.
    /// Ignored if it exists.
    #[serde(deserialize_with = "object")]
    #[oai(nullable)]
    application: Option<ApplicationIn>,
    /// Seconds for which the token is valid: 3600 to 604800. Default: 604800.
    #[oai(nullable, validator(minimum(value = "3600"), maximum(value = "604800")))]
    expiry: Option<i64>,
    /// Feature flags of event types that the token sees, besides event types without a `featureFlag`. Default: none.
    #[oai(nullable, validator(max_items = 100))]
    feature_flags: Option<Vec<String>>,
    /// Whether the token only reads. It does not read signing secrets either, unless `capabilities` has
    /// `ViewEndpointSecret`. Default: false.
    #[oai(nullable)]
    read_only: Option<bool>,
    /// The capabilities that the token is limited to, besides `ViewBase`. Default: everything that an application's
    /// token may do.
    #[oai(nullable)]
    capabilities: Option<Vec<Capability>>,
}

impl AppPortalAccessIn {
    /// Checks the fields. `caller` is who asks for the token.
    ///
    /// # Errors
    /// `Invalid` names the field.
    fn read(self, caller: &Caller) -> Result<Access> {
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
        let capabilities = match caller.limited_role() {
            Some(role) => Some(viewing(capabilities, role)?),
            None => capabilities,
        };
        Ok(Access {
            created_by: caller.token_id.clone(),
            lasts: Duration::from_secs(seconds),
            feature_flags,
            capabilities: capabilities.map(with_base),
            application: application.map_err(|err| err.within("application"))?,
        })
    }
}

/// Returns the capabilities of a token that a role makes which is limited: those of a token that only reads, and no
/// secrets. `wanted` are those that the caller names; `None` means it names none.
///
/// # Errors
/// `Forbidden` if the caller names any others.
fn viewing(wanted: Option<Vec<Capability>>, role: Role) -> Result<Vec<Capability>> {
    let wanted = wanted.unwrap_or_default();
    if wanted.iter().any(|capability| *capability != Capability::ViewBase) {
        let message = format!(
            "a token with the role {} gives no other capability than ViewBase",
            role.name()
        );
        return Err(Error::new(Kind::Forbidden, message));
    }
    Ok(wanted)
}

/// Returns the capabilities without duplicates, and with `ViewBase`, which every token has.
fn with_base(held: Vec<Capability>) -> Vec<Capability> {
    let mut set = vec![Capability::ViewBase];
    for capability in held {
        if !set.contains(&capability) {
            set.push(capability);
        }
    }
    set
}

/// A token of an application and the page that it opens.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct AppPortalAccessOut {
    /// The URL of a page that shows what the token may do. The token is in the fragment, which browsers never send to a
    /// server.
    url: String,
    /// The token. It is shown only once.
    token: String,
}

/// The token of a request.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct TokenOut {
    /// The application that the token is limited to; null for an organization's token.
    #[oai(nullable)]
    application_id: Option<String>,
    /// Feature flags of event types that the token sees, besides event types without a flag; null: it sees all.
    #[oai(nullable)]
    feature_flags: Option<Vec<String>>,
    /// The capabilities that the token is limited to; null: everything that a token of its kind may do.
    #[oai(nullable)]
    capabilities: Option<Vec<Capability>>,
    /// When the token ends; null: never.
    #[oai(nullable)]
    expires_at: Option<Instant>,
}

/// Makes a token for the application with the id or uid `app`, and returns the reply, which is also stored for the
/// idempotency key.
async fn open(
    state: &ApiState,
    caller: &Caller,
    app: &str,
    key: Option<Key>,
    access: AppPortalAccessIn,
) -> Result<Reply> {
    let mut access = access.read(caller)?;
    let not_allowed = caller.limited_role().filter(|_| access.application.is_some());
    if not_allowed.is_some() {
        access.application = None;
    }
    let render = |token: &str| {
        let out = AppPortalAccessOut {
            url: format!("{}/portal#token={token}", state.public_url),
            token: token.to_owned(),
        };
        reply(200, &out)
    };
    let opened = portal::open(&state.store, &caller.org_id, app, access, key.as_ref(), render).await;
    opened.map_err(|err| not_created(not_allowed, err))
}

pub(crate) struct Authentication;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Authentication")]
impl Authentication {
    /// Create a token for the people of an application
    ///
    /// The token is limited to this application. A token with the role `operator` or `viewer` makes tokens that only
    /// read, without signing secrets and values of custom headers, and creates no application.
    #[oai(
        path = "/auth/app-portal-access/:app_id",
        method = "post",
        operation_id = "v1.authentication.app-portal-access"
    )]
    async fn app_portal_access(
        &self,
        caller: Organization<OpenPortal>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<AppPortalAccessIn>,
    ) -> Result<Answer<AppPortalAccessOut>, ApiError<Write>> {
        let key = key.of(&caller.0, body.1);
        Ok(open(&state, &caller.0, &app_id.0, key, body.0).await?.into())
    }

    /// Create a token for the people of an application, as older clients do
    ///
    /// A token with the role `operator` or `viewer` makes tokens that only read, without signing secrets and values of
    /// custom headers.
    #[oai(
        path = "/auth/dashboard-access/:app_id",
        method = "post",
        operation_id = "v1.authentication.dashboard-access",
        deprecated
    )]
    async fn dashboard_access(
        &self,
        caller: Organization<OpenPortal>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
    ) -> Result<Answer<AppPortalAccessOut>, ApiError<Write>> {
        let key = key.of(&caller.0, None);
        let access = AppPortalAccessIn::default();
        Ok(open(&state, &caller.0, &app_id.0, key, access).await?.into())
    }

    /// End the token of the request
    ///
    /// Within 5 seconds no process accepts it any more. An organization's token is not ended.
    #[oai(path = "/auth/logout", method = "post", operation_id = "v1.authentication.logout")]
    async fn logout(
        &self,
        caller: AnyToken<EndToken>,
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

    /// Show what the token of the request may do
    #[oai(path = "/auth/token", method = "get", operation_id = "v1.authentication.token")]
    async fn token(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
    ) -> Result<Answer<TokenOut>, ApiError<Read>> {
        caller.check_application(&state.store).await?;
        let out = TokenOut {
            feature_flags: caller.flags().map(<[_]>::to_vec),
            capabilities: caller.capabilities.as_deref().map(<[_]>::to_vec),
            expires_at: caller.expires_at.map(Instant),
            application_id: caller.0.app_id,
        };
        Ok(Answer::ok(&out)?)
    }
}
