//! The signing secret and the custom headers of an endpoint over REST. Reads go to the store, writes to the service.
//!
//! Must not show the value of a sensitive header, nor any header's value to a token that may not see it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use poem::http::HeaderMap;
use poem::http::header::USER_AGENT;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use crate::api::rights::{AnyToken, Edit, RevealSecret, RotateSecret, View};
use crate::api::wire::body::{Body, OptionalBody};
use crate::api::wire::error::{ApiError, Conditional, Read, Write};
use crate::api::wire::fields::{header, header_count, headers, headers_together, secret};
use crate::api::wire::idempotency::IdempotencyKey;
use crate::api::wire::response::{Answer, Empty, reply};
use crate::api::wire::values::{Nullable, json_type};
use crate::api::{ApiState, Tag};
use crate::domain::identifier::is_sensitive_header;
use crate::error::{Error, Result};
use crate::service;
use crate::service::endpoint_secret::{self, Rotation};
use crate::store::database::request;
use crate::store::endpoint;
use crate::store::idempotency::Reply;

/// Seconds for which a replaced secret goes on signing if the caller sets no other time, and at most.
const DEFAULT_GRACE: i64 = 24 * 3600;
const LONGEST_GRACE: i64 = 7 * 24 * 3600;
/// The memory that a short name takes as a `String` of its own, in bytes.
const NAME_BYTES: usize = 64;

/// A signing secret.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct EndpointSecretOut {
    /// `whsec_` and base64; for an Ed25519 key its public half, `whpk_` and base64.
    pub(crate) key: String,
}

/// How to replace a signing secret.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EndpointSecretRotateIn {
    /// The new secret, `whsec_…` or `whsk_…`. Default: a random one of the same kind as the old one.
    #[oai(nullable)]
    key: Option<String>,
    /// Seconds for which deliveries are also signed with the old secret: 0 to 604800. Default: 86400.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "604800")))]
    grace_period_seconds: Option<i64>,
}

/// All custom headers of an endpoint.
#[derive(Debug, Deserialize, Object)]
pub struct EndpointHeadersIn {
    /// Names and values have at most 16384 bytes together. Names are stored as given, and sent in title case:
    /// `X-API-KEY` as `X-Api-Key`.
    #[oai(validator(max_properties = 50))]
    pub(crate) headers: BTreeMap<String, String>,
}

/// Values of custom headers by name. `None` means the header is removed.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct HeaderChanges(BTreeMap<String, Option<String>>);

json_type!(HeaderChanges, "object", false, |_registry| {}, {
    MetaSchemaRef::Inline(Box::new(MetaSchema {
        additional_properties: Some(Box::new(Nullable::<String>::schema_ref())),
        ..MetaSchema::new("object")
    }))
});

/// Custom headers to set and to remove.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EndpointHeadersPatchIn {
    /// Headers to set; null removes a header. An endpoint has at most 50 custom headers, of 16384 bytes together.
    #[serde(default)]
    headers: HeaderChanges,
    /// Names of headers to remove.
    #[oai(nullable)]
    delete_headers: Option<Vec<String>>,
}

/// The custom headers of an endpoint, as far as they are shown.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct EndpointHeadersOut {
    headers: BTreeMap<String, String>,
    /// Names of the headers whose values are not shown: those with a name that looks secret (it contains `token`,
    /// `secret`, `key`, `auth`, `cookie`, `pass`, `signature`, `session` or the like), and all of them if the token may
    /// not see the values.
    sensitive: Vec<String>,
}

impl EndpointSecretRotateIn {
    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    pub(crate) fn read(self) -> Result<Rotation> {
        Ok(Rotation {
            secret: self.key.map(|text| secret("key", &text)).transpose()?,
            grace: grace(self.grace_period_seconds)?,
        })
    }
}

impl EndpointHeadersOut {
    /// Returns the headers as a token sees them. `manages` is true if the token may manage endpoints.
    pub(crate) fn new(all: BTreeMap<String, String>, manages: bool) -> Self {
        let is_hidden = |name: &str| !manages || is_sensitive_header(name);
        let (hidden, headers): (BTreeMap<_, _>, _) = all.into_iter().partition(|(name, _)| is_hidden(name));
        Self {
            headers,
            sensitive: hidden.into_keys().collect(),
        }
    }
}

fn grace(seconds: Option<i64>) -> Result<Duration> {
    match seconds.unwrap_or(DEFAULT_GRACE) {
        seconds @ 0..=LONGEST_GRACE => Ok(Duration::from_secs(seconds.unsigned_abs())),
        _ => Err(Error::invalid(
            "gracePeriodSeconds",
            format!("must be from 0 to {LONGEST_GRACE}"),
        )),
    }
}

/// Returns the reply to a rotation, which is also stored for the idempotency key.
pub(crate) fn rotated(key: String) -> Result<Reply> {
    reply(200, &EndpointSecretOut { key })
}

/// Returns the response to a rotation: 204 without a body for SDKs that would raise an error at any other response,
/// though the rotation has happened. All others get 200 with the key, which the SDK for Python needs from 2.8.
pub(crate) fn rotation(done: Reply, headers: &HeaderMap) -> Answer<EndpointSecretOut> {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    match agent.is_some_and(takes_204_alone) {
        true => Answer::empty(),
        false => done.into(),
    }
}

/// Returns whether a `User-Agent` is that of the SDK for Python before 1.57, such as `svix-libs/1.56.0/python`.
fn takes_204_alone(agent: &str) -> bool {
    let sdk = agent.strip_prefix("svix-libs/").and_then(|rest| rest.split_once('/'));
    let Some((version, language)) = sdk else { return false };
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => language.starts_with("python") && (major, minor) < (1, 57),
        _ => false,
    }
}

impl EndpointHeadersPatchIn {
    /// Returns the bytes of memory that the names take beside their text. A body of 2 MB may have half a million names.
    fn names_bytes(&self) -> usize {
        let names = self.headers.0.len() + self.delete_headers.as_ref().map_or(0, Vec::len);
        names * NAME_BYTES
    }

    /// Returns the headers `known` with these changes. Names that differ only in case name the same header.
    ///
    /// # Errors
    /// `Invalid` for a header that breaks a rule, or if the headers are too many or too large together.
    fn apply(self, mut known: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
        let (set, removed): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.headers.0.into_iter().partition(|(_, value)| value.is_some());
        header_count(set.len())?;
        let removed = removed.into_keys().chain(self.delete_headers.unwrap_or_default());
        let removed: HashSet<String> = removed.map(|name| name.to_ascii_lowercase()).collect();
        known.retain(|name, _| !removed.contains(&name.to_ascii_lowercase()));
        for (name, value) in set {
            let value = value.unwrap_or_default();
            header(&name, &value)?;
            known.retain(|other, _| !other.eq_ignore_ascii_case(&name));
            known.insert(name, value);
        }
        headers_together(&known)?;
        Ok(known)
    }
}

pub(crate) struct EndpointSecrets;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Endpoint")]
impl EndpointSecrets {
    /// Get an endpoint's signing secret
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/secret",
        method = "get",
        operation_id = "v1.endpoint.get-secret"
    )]
    async fn secret(
        &self,
        caller: AnyToken<RevealSecret>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
    ) -> Result<Answer<EndpointSecretOut>, ApiError<Read>> {
        let app = caller.application(&state.store, &app_id.0).await?;
        let found = endpoint::get(&state.store, &app.id, &endpoint_id.0).await?;
        let key = endpoint_secret::reveal(&state.store, &found)?;
        Ok(Answer::ok(&EndpointSecretOut { key })?)
    }

    /// Replace an endpoint's signing secret
    ///
    /// The body may be left out. For a while deliveries are signed with both the old and the new secret, so that the
    /// receiver has time to change. SDKs for Python before 1.57, known by their `User-Agent`, get 204 without a body:
    /// they take any other response for an error.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/secret/rotate",
        method = "post",
        operation_id = "v1.endpoint.rotate-secret"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn rotate(
        &self,
        caller: AnyToken<RotateSecret>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        headers: &HeaderMap,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: OptionalBody<EndpointSecretRotateIn>,
    ) -> Result<Answer<EndpointSecretOut>, ApiError<Conditional>> {
        let key = key.of(&caller, body.1);
        let new = body.0.read()?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let (origin, name) = (caller.origin("v1.endpoint.rotate-secret"), &endpoint_id.0);
        let done = endpoint_secret::rotate(&state.store, &origin, &app, name, new, key.as_ref(), rotated).await?;
        Ok(rotation(done, headers))
    }

    /// Get an endpoint's custom headers
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/headers",
        method = "get",
        operation_id = "v1.endpoint.get-headers"
    )]
    async fn headers(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
    ) -> Result<Answer<EndpointHeadersOut>, ApiError<Read>> {
        let app = caller.application(&state.store, &app_id.0).await?;
        let found = endpoint::get(&state.store, &app.id, &endpoint_id.0).await?;
        let headers = service::endpoint::headers(&state.store, &found)?;
        Ok(Answer::ok(&EndpointHeadersOut::new(headers, caller.sees_headers()))?)
    }

    /// Replace an endpoint's custom headers
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/headers",
        method = "put",
        operation_id = "v1.endpoint.update-headers"
    )]
    async fn put_headers(
        &self,
        caller: AnyToken<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        body: Body<EndpointHeadersIn>,
    ) -> Result<Empty, ApiError<Write>> {
        let new = headers(body.0.headers)?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let origin = caller.origin("v1.endpoint.update-headers");
        service::endpoint::change_headers(&state.store, &origin, &app, &endpoint_id.0, |_| Ok(new)).await?;
        Ok(Empty)
    }

    /// Change an endpoint's custom headers
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/headers",
        method = "patch",
        operation_id = "v1.endpoint.patch-headers"
    )]
    async fn patch_headers(
        &self,
        caller: AnyToken<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        body: Body<EndpointHeadersPatchIn>,
    ) -> Result<Empty, ApiError<Write>> {
        // The names are in memory until the current headers have been read, since the changes apply to those.
        request::reserve(body.0.names_bytes()).await?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let change = |known| body.0.apply(known);
        let origin = caller.origin("v1.endpoint.patch-headers");
        service::endpoint::change_headers(&state.store, &origin, &app, &endpoint_id.0, change).await?;
        Ok(Empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_sdks_for_python_are_told_by_their_user_agent() {
        for old in [
            "svix-libs/0.70.0/python",
            "svix-libs/1.11.0/python",
            "svix-libs/1.56.0/python",
        ] {
            assert!(takes_204_alone(old), "{old}");
        }
        for other in [
            "svix-libs/1.57.0/python",
            "svix-libs/1.99.1/python",
            "svix-libs/2.9.1/python python/3.13",
            "svix-libs/1.40.0/javascript",
            "svix-libs/1.40.0/go",
            "svix-libs/1.40.0",
            "svix-libs/one.two/python",
            "svix-libs/1/python",
            "python-requests/1.1.0",
            "",
        ] {
            assert!(!takes_204_alone(other), "{other}");
        }
    }
}
