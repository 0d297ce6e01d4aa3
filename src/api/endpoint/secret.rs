//! The signing secret and the own headers of an endpoint over REST. Reads go to store, writes to service.

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

use crate::api::auth::Caller;
use crate::api::wire::body::{Body, OptionalBody};
use crate::api::wire::error::{ApiError, Conditional, Read, Write};
use crate::api::wire::fields::{header, header_count, headers, headers_together, secret};
use crate::api::wire::idempotency::IdempotencyKey;
use crate::api::wire::response::{Answer, Empty, reply};
use crate::api::wire::values::{Nullable, json_type};
use crate::api::{ApiState, Tag};
use crate::domain::identifier::is_sensitive_header;
use crate::domain::secret::EndpointSecret;
use crate::error::{Error, Result};
use crate::service::{self, endpoint_secret};
use crate::store::database::request;
use crate::store::endpoint;
use crate::store::idempotency::Reply;

const DEFAULT_GRACE: i64 = 24 * 3600;
const LONGEST_GRACE: i64 = 7 * 24 * 3600;
/// What a short name takes in memory as a text of its own.
const NAME_BYTES: usize = 64;

/// A signing secret.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct EndpointSecretOut {
    /// `whsec_` and base64; of an Ed25519 key the public half, `whpk_` and base64.
    pub(crate) key: String,
}

/// How to replace a signing secret.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EndpointSecretRotateIn {
    /// The new secret, `whsec_` or `whsk_`; a random one of the same kind as the old is made where it is left out.
    #[oai(nullable)]
    key: Option<String>,
    /// How long the old secret goes on signing: 0 to 604800, 86400 where it is left out.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "604800")))]
    grace_period_seconds: Option<i64>,
}

/// Own headers, all of them.
#[derive(Debug, Deserialize, Object)]
pub struct EndpointHeadersIn {
    /// Names and values have at most 16384 bytes together. Names are kept as given, and go out in title case: `X-API-KEY` as
    /// `X-Api-Key`.
    #[oai(validator(max_properties = 50))]
    pub(crate) headers: BTreeMap<String, String>,
}

/// Own headers by their names; null stands for none.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct HeaderChanges(BTreeMap<String, Option<String>>);

json_type!(HeaderChanges, "object", false, |_registry| {}, {
    MetaSchemaRef::Inline(Box::new(MetaSchema {
        additional_properties: Some(Box::new(Nullable::<String>::schema_ref())),
        ..MetaSchema::new("object")
    }))
});

/// Own headers to set and to remove.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EndpointHeadersPatchIn {
    /// Sets these; null removes one. There may be 50 in all, of 16384 bytes together.
    #[serde(default)]
    headers: HeaderChanges,
    /// Removes these.
    #[oai(nullable)]
    delete_headers: Option<Vec<String>>,
}

/// Own headers as they are.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct EndpointHeadersOut {
    headers: BTreeMap<String, String>,
    /// Names of headers whose values are not shown: those with a name that looks secret (`token`, `secret`, `key`, `auth`,
    /// `cookie`, `pass`, `signature`, `session` and the like are in it), and all if the token may not manage endpoints.
    sensitive: Vec<String>,
}

impl EndpointSecretRotateIn {
    pub(crate) fn read(self) -> Result<(Option<EndpointSecret>, Duration)> {
        let new = self.key.map(|text| secret("key", &text)).transpose()?;
        Ok((new, grace(self.grace_period_seconds)?))
    }
}

impl EndpointHeadersOut {
    /// The headers as a token sees them that may manage endpoints, or may not.
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

pub(crate) fn rotated(key: String) -> Result<Reply> {
    reply(200, &EndpointSecretOut { key })
}

/// The response to a rotation: 204 without a body for SDKs that take any other for a failure, after the rotation has
/// happened. All others get the key with 200, and from 2.8 on need it.
pub(crate) fn rotation(done: Reply, headers: &HeaderMap) -> Answer<EndpointSecretOut> {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    match agent.is_some_and(takes_204_alone) {
        true => Answer::empty(),
        false => done.into(),
    }
}

/// Whether this is the SDK for Python in a version before 1.57: `svix-libs/1.56.0/python`.
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
    /// The bytes that its names take beside their text, of which a body of 2 MB may have half a million.
    fn names_bytes(&self) -> usize {
        let names = self.headers.0.len() + self.delete_headers.as_ref().map_or(0, Vec::len);
        names * NAME_BYTES
    }

    /// Names are the same whatever their capitals.
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
        caller: Caller,
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
    /// The body may be left out. The old one goes on signing beside the new one for a while, so that the receiver can follow.
    /// SDKs for Python before 1.57, told by their `User-Agent`, get 204 without a body: they take nothing else.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/secret/rotate",
        method = "post",
        operation_id = "v1.endpoint.rotate-secret"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn rotate(
        &self,
        caller: Caller,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        headers: &HeaderMap,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: OptionalBody<EndpointSecretRotateIn>,
    ) -> Result<Answer<EndpointSecretOut>, ApiError<Conditional>> {
        let key = key.of(&caller, body.1);
        let (new, grace) = body.0.read()?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let (store, name) = (&state.store, &endpoint_id.0);
        let done = endpoint_secret::rotate(store, &app, name, new, grace, key.as_ref(), rotated).await?;
        Ok(rotation(done, headers))
    }

    /// Get an endpoint's own headers
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/headers",
        method = "get",
        operation_id = "v1.endpoint.get-headers"
    )]
    async fn headers(
        &self,
        caller: Caller,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
    ) -> Result<Answer<EndpointHeadersOut>, ApiError<Read>> {
        let app = caller.application(&state.store, &app_id.0).await?;
        let found = endpoint::get(&state.store, &app.id, &endpoint_id.0).await?;
        let headers = service::endpoint::headers(&state.store, &found)?;
        Ok(Answer::ok(&EndpointHeadersOut::new(headers, caller.sees_headers()))?)
    }

    /// Replace an endpoint's own headers
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/headers",
        method = "put",
        operation_id = "v1.endpoint.update-headers"
    )]
    async fn put_headers(
        &self,
        caller: Caller,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        body: Body<EndpointHeadersIn>,
    ) -> Result<Empty, ApiError<Write>> {
        let new = headers(body.0.headers)?;
        let app = caller.application(&state.store, &app_id.0).await?;
        service::endpoint::change_headers(&state.store, &app, &endpoint_id.0, |_| Ok(new)).await?;
        Ok(Empty)
    }

    /// Change an endpoint's own headers
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/headers",
        method = "patch",
        operation_id = "v1.endpoint.patch-headers"
    )]
    async fn patch_headers(
        &self,
        caller: Caller,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        body: Body<EndpointHeadersPatchIn>,
    ) -> Result<Empty, ApiError<Write>> {
        // It is applied to what the database answers, and held until then.
        request::reserve(body.0.names_bytes()).await?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let change = |known| body.0.apply(known);
        service::endpoint::change_headers(&state.store, &app, &endpoint_id.0, change).await?;
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
