//! Portal access over REST: tokens with which the people of one application use the API and the portal page.
//!
//! The organization makes a token; each token can end itself. Writes go to the service. The page itself is in
//! `ui/`, and `http/pages.rs` serves it.
//!
//! Must not decide which requests a limited token may make: rights.rs does.

pub(super) mod body;

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;

use self::body::{AppPortalAccessIn, AppPortalAccessOut, ApplicationTokenExpireIn, TokenOut, WhoamiOut};
use super::auth::Authenticator;
use super::caller::{Caller, not_created};
use super::rights::{Administer, AnyToken, EndToken, OpenPortal, Organization, View};
use super::wire::body::{KeyedBody, OptionalBody};
use super::wire::error::{ApiError, Read, Write};
use super::wire::idempotency::IdempotencyKey;
use super::wire::response::{Answer, Empty, reply};
use super::{ApiState, Tag};
use crate::error::Result;
use crate::service::{portal, token};
use crate::store::idempotency::{Key, Reply};

/// Makes a token for the application with the id or uid `app`, and returns the reply, which is also stored for the
/// idempotency key.
async fn open(
    state: &ApiState,
    caller: &Caller,
    operation: &'static str,
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
            url: portal::url(&state.public_url, token),
            token: token.to_owned(),
        };
        reply(200, &out)
    };
    let opened = portal::open(
        &state.store,
        &caller.origin(operation),
        &caller.org_id,
        app,
        access,
        key.as_ref(),
        render,
    )
    .await;
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
        let operation = "v1.authentication.app-portal-access";
        Ok(open(&state, &caller.0, operation, &app_id.0, key, body.0).await?.into())
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
        let operation = "v1.authentication.dashboard-access";
        Ok(open(&state, &caller.0, operation, &app_id.0, key, access).await?.into())
    }

    /// End the tokens of an application
    ///
    /// Within 5 seconds no process accepts them any more. The body may be left out: then all of them end at once.
    #[oai(
        path = "/auth/app/:app_id/expire-all",
        method = "post",
        operation_id = "v1.authentication.expire-all"
    )]
    async fn expire_all(
        &self,
        caller: Organization<Administer>,
        state: Data<&Arc<ApiState>>,
        authenticator: Data<&Arc<Authenticator>>,
        app_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: OptionalBody<ApplicationTokenExpireIn>,
    ) -> Result<Empty, ApiError<Write>> {
        let key = key.of(&caller.0, body.1);
        let (after, sessions) = body.0.read()?;
        let app = caller.0.application(&state.store, &app_id.0).await?;
        let origin = caller.0.origin("v1.authentication.expire-all");
        portal::close_all(&state.store, &origin, &app, &sessions, after, key.as_ref()).await?;
        authenticator.forget_application(&app.id);
        Ok(Empty)
    }

    /// End the token of the request
    ///
    /// Within 5 seconds no process accepts it any more. Of an organization's tokens only those of the console are ended.
    #[oai(path = "/auth/logout", method = "post", operation_id = "v1.authentication.logout")]
    async fn logout(
        &self,
        caller: AnyToken<EndToken>,
        state: Data<&Arc<ApiState>>,
        authenticator: Data<&Arc<Authenticator>>,
        #[oai(name = "idempotency-key")] _key: IdempotencyKey,
    ) -> Result<Empty, ApiError<Write>> {
        caller.check_application(&state.store).await?;
        let origin = caller.origin("v1.authentication.logout");
        match &caller.app_id {
            Some(app_id) => portal::close(&state.store, &origin, &caller.org_id, app_id).await?,
            None => token::sign_out(&state.store, &origin, &caller.org_id).await?,
        }
        authenticator.forget(&caller.token_id);
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
        Ok(Answer::ok(&TokenOut::from(&*caller))?)
    }

    /// Show whose the token of the request is
    #[oai(path = "/auth/whoami", method = "get", operation_id = "v1.authentication.whoami")]
    async fn whoami(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
    ) -> Result<Answer<WhoamiOut>, ApiError<Read>> {
        caller.check_application(&state.store).await?;
        Ok(Answer::ok(&WhoamiOut::from(&*caller))?)
    }
}
