//! The bodies of portal access: what a new token may do, and what the token of a request is.
//!
//! Must not make tokens: `mod.rs` hands that to the service.

use std::time::Duration;

use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};

use crate::api::application::ApplicationIn;
use crate::api::caller::Caller;
use crate::api::wire::fields::{identifiers, text};
use crate::api::wire::values::{Instant, object};
use crate::domain::capability::{Capability, read_only};
use crate::domain::role::Role;
use crate::error::{Error, Kind, Result};
use crate::service::portal::Access;

/// The shortest and the longest life of a token, in seconds: an hour and a week.
const SHORTEST: i64 = 3600;
const LONGEST: i64 = 7 * 24 * 3600;
/// The largest number of feature flags of one token.
const MOST_FLAGS: usize = 100;
/// The largest number of sessions in one request, and of characters in the name of one.
const MOST_SESSIONS: usize = 100;
const LONGEST_SESSION: usize = 256;

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
    /// Your name for the session in which the token is used, 1 to 256 characters, so that the tokens of one session can
    /// be ended. Default: none.
    #[oai(nullable, validator(min_length = 1, max_length = 256))]
    session_id: Option<String>,
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
    pub fn read(self, caller: &Caller) -> Result<Access> {
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
            session_id: self.session_id.map(|text| session("sessionId", text)).transpose()?,
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

/// Checks the name of a session, which may be any text.
fn session(field: &str, value: String) -> Result<String> {
    match value.chars().count() {
        1..=LONGEST_SESSION => text(field, value),
        _ => Err(Error::invalid(
            field,
            format!("must be 1 to {LONGEST_SESSION} characters"),
        )),
    }
}

/// The tokens of an application to end.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(rename_all = "camelCase", default)]
#[oai(rename_all = "camelCase")]
pub struct ApplicationTokenExpireIn {
    /// Seconds after which they end: 0 to 604800. A token that ends earlier keeps its end. Default: 0.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "604800")))]
    expiry: Option<i64>,
    /// Only tokens that were made with one of these as their `sessionId`. Default: all tokens of the application.
    #[oai(nullable, validator(max_items = 100))]
    session_ids: Option<Vec<String>>,
}

impl ApplicationTokenExpireIn {
    /// Checks the fields. Returns the time after which the tokens end, and the sessions; none means all tokens.
    ///
    /// # Errors
    /// `Invalid` names the field.
    pub fn read(self) -> Result<(Duration, Vec<String>)> {
        let seconds = match self.expiry.unwrap_or_default() {
            seconds @ 0..=LONGEST => seconds.unsigned_abs(),
            _ => return Err(Error::invalid("expiry", format!("must be from 0 to {LONGEST} seconds"))),
        };
        let sessions = self.session_ids.unwrap_or_default();
        if sessions.len() > MOST_SESSIONS {
            return Err(Error::invalid("sessionIds", format!("must be at most {MOST_SESSIONS}")));
        }
        let sessions = sessions.into_iter().map(|text| session("sessionIds", text));
        Ok((Duration::from_secs(seconds), sessions.collect::<Result<_>>()?))
    }
}

/// A token of an application and the page that it opens.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct AppPortalAccessOut {
    /// The URL of a page that shows what the token may do. The token is in the fragment, which browsers never send to a
    /// server.
    pub url: String,
    /// The token. It is shown only once.
    pub token: String,
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

impl From<&Caller> for TokenOut {
    fn from(caller: &Caller) -> Self {
        Self {
            feature_flags: caller.flags().map(<[_]>::to_vec),
            capabilities: caller.capabilities.as_deref().map(<[_]>::to_vec),
            expires_at: caller.expires_at.map(Instant),
            application_id: caller.app_id.clone(),
        }
    }
}

/// What a token is: the role of an organization's, or `portal` for an application's.
#[derive(Clone, Copy, Debug, Deserialize, Enum, Serialize)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase")]
pub enum WhoamiRole {
    Admin,
    Operator,
    Viewer,
    Sender,
    Portal,
}

impl From<Option<Role>> for WhoamiRole {
    fn from(role: Option<Role>) -> Self {
        match role {
            Some(Role::Admin) => Self::Admin,
            Some(Role::Operator) => Self::Operator,
            Some(Role::Viewer) => Self::Viewer,
            Some(Role::Sender) => Self::Sender,
            None => Self::Portal,
        }
    }
}

/// The owner of the token of a request, and what the token is.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct WhoamiOut {
    organization_id: String,
    /// The id of the token; `admin` for the configured one.
    token_id: String,
    /// The name of the token; null: it has none.
    #[oai(nullable)]
    name: Option<String>,
    role: WhoamiRole,
    /// The application that the token is limited to; absent for an organization's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<String>,
    /// The capabilities that the token is limited to; absent if it has no such limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Vec<Capability>>,
    /// When the token ends; null: never.
    #[oai(nullable)]
    expires_at: Option<Instant>,
}

impl From<&Caller> for WhoamiOut {
    fn from(caller: &Caller) -> Self {
        Self {
            capabilities: caller.capabilities.as_deref().map(<[_]>::to_vec),
            expires_at: caller.expires_at.map(Instant),
            organization_id: caller.org_id.clone(),
            token_id: caller.token_id.clone(),
            name: caller.name.as_deref().map(str::to_owned),
            role: caller.role.into(),
            app_id: caller.app_id.clone(),
        }
    }
}
