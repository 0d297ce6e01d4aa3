//! The bodies of operational endpoints in requests and responses.
//!
//! They are the bodies of ordinary endpoints without channels, and the same code checks them.
//!
//! Must not check fields by itself.

use std::collections::BTreeMap;

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use crate::api::caller::Caller;
use crate::api::endpoint::body::{EndpointIn, EndpointUpdate, FilterField};
use crate::api::wire::values::Instant;
use crate::domain::health::DisabledReason;
use crate::domain::target::TargetPolicy;
use crate::error::Result;
use crate::service::endpoint::New;
use crate::store::endpoint::Content;
use crate::store::entity::endpoint::Model;

/// An operational endpoint to create.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct OperationalWebhookEndpointIn {
    /// Absolute, with the scheme http or https.
    url: String,
    #[oai(nullable, validator(max_length = 4096))]
    description: Option<String>,
    /// The caller's own identifier, unique among the operational endpoints.
    #[oai(
        nullable,
        validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")
    )]
    uid: Option<String>,
    /// The largest number of requests per second to the endpoint; null: no limit but the server's own.
    #[oai(nullable, validator(minimum(value = "1"), maximum(value = "65535")))]
    throttle_rate: Option<i64>,
    /// The older name of `throttleRate`, which takes precedence.
    #[oai(nullable, deprecated, validator(minimum(value = "1"), maximum(value = "65535")))]
    rate_limit: Option<i64>,
    #[oai(nullable)]
    disabled: Option<bool>,
    /// Only these events; null: all. The events are `endpoint.created`, `endpoint.updated`, `endpoint.deleted`,
    /// `endpoint.disabled`, `message.attempt.failing`, `message.attempt.exhausted` and `message.attempt.recovered`.
    #[oai(nullable, validator(min_items = 1, max_items = 1000))]
    event_types: Option<Vec<String>>,
    /// The older name of `eventTypes`, which takes precedence.
    #[oai(nullable, deprecated, validator(min_items = 1, max_items = 1000))]
    filter_types: Option<Vec<String>>,
    #[oai(nullable)]
    metadata: Option<BTreeMap<String, String>>,
    /// The signing secret, of the same forms as for any endpoint. Default: a random one.
    #[oai(nullable)]
    secret: Option<String>,
    /// Custom headers of its deliveries; names and values have at most 16384 bytes together. Names are sent in title
    /// case, `X-API-KEY` as `X-Api-Key`.
    #[oai(nullable, validator(max_properties = 50))]
    headers: Option<BTreeMap<String, String>>,
}

impl OperationalWebhookEndpointIn {
    /// Returns under which of its two names the caller gave the filter.
    pub fn filter_field(&self) -> FilterField {
        FilterField(self.event_types.is_some())
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    pub fn read(self, targets: &TargetPolicy, caller: &Caller) -> Result<New> {
        let given = EndpointIn {
            url: self.url,
            description: self.description,
            uid: self.uid,
            throttle_rate: self.throttle_rate,
            rate_limit: self.rate_limit,
            disabled: self.disabled,
            event_types: self.event_types,
            filter_types: self.filter_types,
            channels: None,
            metadata: self.metadata,
            secret: self.secret,
            headers: self.headers,
        };
        given.read(targets, caller)
    }
}

/// The content of an operational endpoint, which replaces all it had before but its secret and its custom headers.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct OperationalWebhookEndpointUpdate {
    /// Absolute, with the scheme http or https.
    url: String,
    #[oai(nullable, validator(max_length = 4096))]
    description: Option<String>,
    /// The caller's own identifier, unique among the operational endpoints.
    #[oai(
        nullable,
        validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")
    )]
    uid: Option<String>,
    /// The largest number of requests per second to the endpoint; null: no limit but the server's own.
    #[oai(nullable, validator(minimum(value = "1"), maximum(value = "65535")))]
    throttle_rate: Option<i64>,
    /// The older name of `throttleRate`, which takes precedence.
    #[oai(nullable, deprecated, validator(minimum(value = "1"), maximum(value = "65535")))]
    rate_limit: Option<i64>,
    #[oai(nullable)]
    disabled: Option<bool>,
    /// Only these events; null: all of them.
    #[oai(nullable, validator(min_items = 1, max_items = 1000))]
    event_types: Option<Vec<String>>,
    /// The older name of `eventTypes`, which takes precedence.
    #[oai(nullable, deprecated, validator(min_items = 1, max_items = 1000))]
    filter_types: Option<Vec<String>>,
    #[oai(nullable)]
    metadata: Option<BTreeMap<String, String>>,
}

impl OperationalWebhookEndpointUpdate {
    /// Returns under which of its two names the caller gave the filter.
    pub fn filter_field(&self) -> FilterField {
        FilterField(self.event_types.is_some())
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    pub fn read(self, targets: &TargetPolicy, caller: &Caller) -> Result<Content> {
        let given = EndpointUpdate {
            url: self.url,
            description: self.description,
            uid: self.uid,
            throttle_rate: self.throttle_rate,
            rate_limit: self.rate_limit,
            disabled: self.disabled,
            event_types: self.event_types,
            filter_types: self.filter_types,
            channels: None,
            metadata: self.metadata,
        };
        given.read(targets, caller)
    }
}

/// An operational endpoint.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct OperationalWebhookEndpointOut {
    id: String,
    #[oai(nullable)]
    uid: Option<String>,
    url: String,
    description: String,
    disabled: bool,
    /// When the endpoint was disabled; null if it is enabled.
    #[oai(nullable)]
    disabled_at: Option<Instant>,
    /// Why the endpoint is disabled: `manual` through this API, `gone` since its receiver answered 410, `failing`
    /// since it failed for too long. Null if it is enabled.
    #[oai(nullable)]
    disabled_reason: Option<DisabledReason>,
    /// Since when the endpoint has been failing, with no success in between; null if it works.
    #[oai(nullable)]
    failing_since: Option<Instant>,
    #[oai(nullable)]
    event_types: Option<Vec<String>>,
    /// The same as `eventTypes`, under its older name.
    #[oai(nullable, deprecated)]
    filter_types: Option<Vec<String>>,
    #[oai(nullable)]
    throttle_rate: Option<i32>,
    /// The same as `throttleRate`, under its older name.
    #[oai(nullable, deprecated)]
    rate_limit: Option<i32>,
    metadata: BTreeMap<String, String>,
    created_at: Instant,
    updated_at: Instant,
}

impl From<Model> for OperationalWebhookEndpointOut {
    fn from(row: Model) -> Self {
        let disabling = row.disabling().unwrap_or_default();
        let event_types = row.event_types.map(|list| list.0);
        Self {
            id: row.id,
            uid: row.uid,
            url: row.url,
            description: row.description,
            disabled: row.disabled,
            disabled_at: disabling.at.map(Instant),
            disabled_reason: disabling.reason,
            failing_since: row.failing_since.map(Instant),
            event_types: event_types.clone(),
            filter_types: event_types,
            throttle_rate: row.throttle_rate,
            rate_limit: row.throttle_rate,
            metadata: row.metadata.0,
            created_at: Instant(row.created_at),
            updated_at: Instant(row.updated_at),
        }
    }
}
