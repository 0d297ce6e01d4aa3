//! Operational events: what an organization is told of its own endpoints and messages, and how that reads on the wire.
//!
//! Responsible for the names and the bodies alone; who hears of an event is asked in store. Operational endpoints and
//! messages belong to an application that each organization has for them; it has the organization's own id, so no
//! path or uid ever names it.

use serde::Serialize;

use super::id::Prefix;

/// What an operational endpoint can ask for.
pub const EVENT_TYPES: [&str; 7] = [
    "endpoint.created",
    "endpoint.updated",
    "endpoint.deleted",
    "endpoint.disabled",
    "message.attempt.failing",
    "message.attempt.exhausted",
    "message.attempt.recovered",
];

/// Whether the application of this id is an organization's own one. Nothing is told about what happens to it: an
/// operational endpoint that fails would otherwise tell itself so, again and again.
pub fn is_operational(app_id: &str) -> bool {
    Prefix::Organization.is_of(app_id)
}

/// Something that an organization is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    EndpointCreated(AboutEndpoint),
    EndpointUpdated(AboutEndpoint),
    EndpointDeleted(AboutEndpoint),
    EndpointDisabled(AboutEndpoint),
    AttemptFailing(AboutAttempt),
    AttemptExhausted(AboutAttempt),
    AttemptRecovered(AboutAttempt),
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AboutEndpoint {
    pub app_id: String,
    pub app_uid: Option<String>,
    pub endpoint_id: String,
    pub endpoint_uid: Option<String>,
    /// Since when every attempt has failed; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_since: Option<String>,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AboutAttempt {
    pub app_id: String,
    pub app_uid: Option<String>,
    pub msg_id: String,
    pub msg_event_id: Option<String>,
    pub endpoint_id: String,
    pub last_attempt: LastAttempt,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastAttempt {
    pub id: String,
    /// 0: no answer.
    pub response_status_code: i32,
    /// RFC 3339.
    pub timestamp: String,
}

#[derive(Serialize)]
struct Body<'a, T> {
    r#type: &'a str,
    data: &'a T,
}

impl Event {
    /// Its name: one of [`EVENT_TYPES`].
    pub fn event_type(&self) -> &'static str {
        EVENT_TYPES[match self {
            Self::EndpointCreated(_) => 0,
            Self::EndpointUpdated(_) => 1,
            Self::EndpointDeleted(_) => 2,
            Self::EndpointDisabled(_) => 3,
            Self::AttemptFailing(_) => 4,
            Self::AttemptExhausted(_) => 5,
            Self::AttemptRecovered(_) => 6,
        }]
    }

    /// The payload: `{"type": …, "data": {…}}`.
    pub fn body(&self) -> String {
        match self {
            Self::EndpointCreated(data)
            | Self::EndpointUpdated(data)
            | Self::EndpointDeleted(data)
            | Self::EndpointDisabled(data) => written(self.event_type(), data),
            Self::AttemptFailing(data) | Self::AttemptExhausted(data) | Self::AttemptRecovered(data) => {
                written(self.event_type(), data)
            }
        }
    }
}

fn written(r#type: &str, data: &impl Serialize) -> String {
    serde_json::to_string(&Body { r#type, data }).expect("text and numbers are JSON")
}
