//! Signing in to the console over REST: links that work once, and the token that each of them gives.
//!
//! The console itself is in `ui/`. Must not store anything itself: the service does.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::rights::{Administer, Organization};
use super::wire::body::{Body, KeyedBody};
use super::wire::error::{ApiError, SignIn, Write};
use super::wire::idempotency::IdempotencyKey;
use super::wire::response::{Answer, reply};
use super::wire::values::Instant;
use super::{ApiState, Tag};
use crate::domain::role::Role;
use crate::error::{Error, Result};
use crate::service::console_link::{self, Link, MINUTES, MOST_MINUTES};
use crate::store::database::request;

/// The customer as which all requests count that bring a code: together they take no more turns than one token does.
const CUSTOMER: &str = "console-session";

/// A link that signs in to the console.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct ConsoleLinkIn {
    role: Role,
    /// For how many minutes the link's user stays signed in: 1 to 1440. Default: 480.
    #[oai(nullable, validator(minimum(value = "1"), maximum(value = "1440")))]
    minutes: Option<i64>,
}

impl ConsoleLinkIn {
    /// Returns the minutes.
    ///
    /// # Errors
    /// `Invalid` names the field.
    fn minutes(&self) -> Result<u16> {
        let minutes = self.minutes.map_or(Ok(MINUTES), u16::try_from);
        let allowed = minutes.ok().filter(|minutes| (1..=MOST_MINUTES).contains(minutes));
        allowed.ok_or_else(|| Error::invalid("minutes", format!("must be from 1 to {MOST_MINUTES}")))
    }
}

/// A link that was just made.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct ConsoleLinkOut {
    /// The address of the console, with the code in its fragment, which browsers never send to a server.
    pub url: String,
    /// The code. It is shown only once.
    code: String,
    /// When the link can be used no more.
    expires_at: Instant,
}

/// The code of a link.
#[derive(Debug, Deserialize, Object)]
pub struct ConsoleSessionIn {
    code: String,
}

/// The token of somebody who has signed in to the console.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct ConsoleSessionOut {
    /// The token. It is shown only once.
    token: String,
    /// When it ends.
    expires_at: Instant,
}

pub(super) struct Console;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Authentication")]
impl Console {
    /// Make a link that signs in to the console
    ///
    /// The link works once, within 10 minutes. Who opens it acts with the role that is named here, until the token of the
    /// console ends.
    #[oai(
        path = "/auth/console-link",
        method = "post",
        operation_id = "v1.authentication.console-link"
    )]
    async fn console_link(
        &self,
        caller: Organization<Administer>,
        state: Data<&Arc<ApiState>>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<ConsoleLinkIn>,
    ) -> Result<Answer<ConsoleLinkOut>, ApiError<Write>> {
        let key = key.of(&caller.0, body.1);
        let origin = caller.0.origin("v1.authentication.console-link");
        let link = Link {
            role: body.0.role,
            minutes: body.0.minutes()?,
        };
        let render = |code: &str, expires_at| {
            let out = ConsoleLinkOut {
                url: console_link::url(&state.public_url, code),
                code: code.to_owned(),
                expires_at: Instant(expires_at),
            };
            reply(200, &out)
        };
        let made = console_link::create(&state.store, &origin, &caller.0.org_id, link, key.as_ref(), render).await?;
        Ok(made.into())
    }

    /// Change the code of a link for a token
    ///
    /// Takes no token. A code works once.
    #[oai(
        path = "/auth/console-session",
        method = "post",
        operation_id = "v1.authentication.console-session"
    )]
    async fn console_session(
        &self,
        state: Data<&Arc<ApiState>>,
        body: Body<ConsoleSessionIn>,
    ) -> Result<Answer<ConsoleSessionOut>, ApiError<SignIn>> {
        request::set_customer(&state.store.budget().customer(CUSTOMER));
        let (token, end) = console_link::redeem(&state.store, &body.0.code).await?;
        let expires_at = Instant(end);
        Ok(Answer::ok(&ConsoleSessionOut { token, expires_at })?)
    }
}
