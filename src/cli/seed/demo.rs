//! The demo data of `app seed`, as the file demo.json has it. Must not write anything.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::failure::{Failure, Phase};
use crate::error::{Error, Result};

const DEMO: &str = include_str!("demo.json");
/// The address of the invented receivers, for documentation (RFC 5737).
const RECEIVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

/// Returns the demo data.
///
/// # Errors
/// `Internal` if the file is not as this module reads it; a test reads it.
pub(super) fn demo() -> Result<Demo> {
    serde_json::from_str(DEMO).map_err(|err| Error::internal("the demo data is broken").because(err))
}

#[derive(Deserialize)]
pub(super) struct Demo {
    pub organizations: Vec<Organization>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Organization {
    pub name: String,
    pub event_types: Vec<EventType>,
    pub applications: Vec<DemoApplication>,
    #[serde(default)]
    pub operational_endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventType {
    pub name: String,
    pub description: String,
    pub schemas: Value,
    pub feature_flag: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct DemoApplication {
    pub uid: String,
    pub name: String,
    pub metadata: BTreeMap<String, String>,
    pub endpoints: Vec<Endpoint>,
    #[serde(default)]
    pub pollers: Vec<Poller>,
    pub messages: Vec<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub uid: String,
    pub description: String,
    pub event_types: Option<Vec<String>>,
    pub channels: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Poller {
    pub uid: String,
    pub description: String,
    pub event_types: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    pub event_id: String,
    pub event_type: String,
    #[serde(default)]
    pub channels: Vec<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub payload: Box<RawValue>,
    /// The attempts that are invented for it if nothing is really sent.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attempt {
    pub endpoint: String,
    pub status: i32,
    pub response: String,
    pub duration_ms: i64,
}

impl Attempt {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Invents what the sender would have kept of a failure.
    pub fn detail(&self) -> Option<Box<str>> {
        if self.is_success() {
            return None;
        }
        let mut failure = Failure::new(Phase::Answer);
        failure.keep_headers([("content-type", &b"text/plain"[..]), ("server", b"nginx")]);
        failure.peer = Some((RECEIVER, 443).into());
        failure.phases.first_byte = u32::try_from(self.duration_ms).ok();
        Some(failure.to_json().into())
    }
}
