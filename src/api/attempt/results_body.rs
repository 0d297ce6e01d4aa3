//! The bodies of results in responses: a message with its state at one endpoint, and an endpoint with the state of one
//! message there.
//!
//! Must not read rows: `results.rs` does.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use super::status::Status;
use crate::api::wire::values::{Instant, JsonText};
use crate::domain::health::DisabledReason;
use crate::store::entity::delivery_result::Model;
use crate::store::entity::{endpoint, message};

/// A message, and its state at one endpoint.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EndpointMessageOut {
    id: String,
    event_type: String,
    #[oai(nullable)]
    event_id: Option<String>,
    #[oai(nullable)]
    channels: Option<Vec<String>>,
    /// In alphabetical order; null if there are none, or if they were removed with the payload.
    #[oai(nullable)]
    tags: Option<Vec<String>>,
    /// `{}` if it was not asked for, `{"expired":true}` if it is no longer kept, `{"rawPayload": "…"}` if what is
    /// delivered is not a JSON object or breaks a rule of `payload`.
    payload: JsonText,
    timestamp: Instant,
    /// 0: delivered; 2: failed, no retry is left; 3: waiting for a retry.
    status: i64,
    status_text: String,
    /// When the message is tried again at the endpoint; null if it is not.
    #[oai(nullable)]
    next_attempt: Option<Instant>,
}

impl EndpointMessageOut {
    pub fn new(message: message::Model, payload: JsonText, row: &Model) -> Self {
        let status = Status::from(row.state);
        Self {
            id: message.id,
            event_type: message.event_type,
            event_id: message.event_id,
            channels: message.channels.map(|list| list.0),
            tags: message.tags.map(|list| list.0),
            payload,
            timestamp: Instant(message.created_at),
            status: status.number(),
            status_text: status.text(),
            next_attempt: row.next_at.map(Instant),
        }
    }
}

/// An endpoint, and the state of one message there.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct MessageEndpointOut {
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
    channels: Option<Vec<String>>,
    #[oai(nullable)]
    throttle_rate: Option<i32>,
    /// The same as `throttleRate`, under its older name.
    #[oai(nullable, deprecated)]
    rate_limit: Option<i32>,
    /// Always 1; older clients require it.
    #[oai(deprecated)]
    version: i32,
    created_at: Instant,
    updated_at: Instant,
    /// 0: delivered; 2: failed, no retry is left; 3: waiting for a retry.
    status: i64,
    status_text: String,
    /// When the message is tried again at the endpoint; null if it is not.
    #[oai(nullable)]
    next_attempt: Option<Instant>,
}

impl MessageEndpointOut {
    pub fn new(endpoint: endpoint::Model, row: &Model) -> Self {
        let disabling = endpoint.disabling().unwrap_or_default();
        let event_types = endpoint.event_types.map(|list| list.0);
        let status = Status::from(row.state);
        Self {
            id: endpoint.id,
            uid: endpoint.uid,
            url: endpoint.url,
            description: endpoint.description,
            disabled: endpoint.disabled,
            disabled_at: disabling.at.map(Instant),
            disabled_reason: disabling.reason,
            failing_since: endpoint.failing_since.map(Instant),
            event_types: event_types.clone(),
            filter_types: event_types,
            channels: endpoint.channels.map(|list| list.0),
            throttle_rate: endpoint.throttle_rate,
            rate_limit: endpoint.throttle_rate,
            version: 1,
            created_at: Instant(endpoint.created_at),
            updated_at: Instant(endpoint.updated_at),
            status: status.number(),
            status_text: status.text(),
            next_attempt: row.next_at.map(Instant),
        }
    }
}
