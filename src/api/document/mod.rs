//! The API document: what poem-openapi writes, cleaned of what generators of clients stumble over and of refusals that an
//! operation cannot give. Called by routes and docs (served), cli (`app openapi`) and the test that compares it with the
//! committed files.

use poem_openapi::{LicenseObject, OpenApiService};
use serde_json::Value;

use super::Operations;
use super::application::Applications;
use super::attempt::Attempts;
use super::attempt::results::Deliveries;
use super::background_task::BackgroundTasks;
use super::endpoint::Endpoints;
use super::endpoint::example::SendExample;
use super::endpoint::replay::Replays;
use super::endpoint::secret::EndpointSecrets;
use super::endpoint::stats::EndpointStatistics;
use super::event_type::EventTypes;
use super::health::Health;
use super::message::Messages;
use super::operational::OperationalWebhooks;
use super::portal::Authentication;
use super::yaml::to_yaml;
use clean::clean;
use refusals::prune;

mod clean;
mod examples;
mod refusals;

const DESCRIPTION: &str = "Send webhooks: make an application for each of your customers, give it endpoints, and send \
it messages. Every message is stored before it is answered with 202, and is then delivered, signed, to each endpoint that \
wants it, at least once. The published Svix SDKs speak this API.";

pub(crate) fn service() -> OpenApiService<Operations, ()> {
    let operations = (
        Applications,
        EventTypes,
        Endpoints,
        EndpointSecrets,
        SendExample,
        EndpointStatistics,
        Messages,
        Attempts,
        OperationalWebhooks,
        Deliveries,
        Replays,
        BackgroundTasks,
        Authentication,
        Health,
    );
    OpenApiService::new(operations, "Postrider", env!("CARGO_PKG_VERSION"))
        .description(DESCRIPTION)
        .license(LicenseObject::new("MIT OR Apache-2.0"))
}

/// The document as JSON.
///
/// # Panics
/// Never: what poem-openapi writes is JSON, which a test shows.
pub fn document() -> String {
    let mut text = serde_json::to_string_pretty(&finished()).expect("a JSON value can be written");
    text.push('\n');
    text
}

/// The document as YAML.
///
/// # Panics
/// As [`document`].
pub fn document_yaml() -> String {
    to_yaml(&finished())
}

fn finished() -> Value {
    let mut document = serde_json::from_str(&service().spec()).expect("poem-openapi writes JSON");
    clean(&mut document);
    prune(&mut document);
    examples::add(&mut document);
    document["openapi"] = "3.0.3".into();
    // None named: the paths are those of the server that answered the document.
    if let Some(object) = document.as_object_mut() {
        object.shift_remove("servers");
    }
    document
}
