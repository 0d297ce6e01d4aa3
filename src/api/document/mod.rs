//! The API document in OpenAPI 3.0.3.
//!
//! poem-openapi writes it from the resources. Then `clean` rewrites what generators of clients cannot read, `refusals`
//! removes errors that an operation cannot return, `access` says which tokens may call it, and `examples` adds examples. A test compares the result with
//! `openapi/openapi.json`.
//!
//! Must not describe a single operation: the resources do.

use poem_openapi::{LicenseObject, OpenApiService};
use serde_json::Value;

use super::application::Applications;
use super::attempt::Attempts;
use super::attempt::results::Deliveries;
use super::audit::AuditLog;
use super::background_task::BackgroundTasks;
use super::console::Console;
use super::delivery::AllDeliveries;
use super::endpoint::Endpoints;
use super::endpoint::example::SendExample;
use super::endpoint::replay::Replays;
use super::endpoint::secret::EndpointSecrets;
use super::endpoint::stats::EndpointStatistics;
use super::endpoint_health::EndpointHealth;
use super::event_type::EventTypes;
use super::explain::Explanations;
use super::find::Search;
use super::health::Health;
use super::message::Messages;
use super::operational::OperationalWebhooks;
use super::operations::Operations;
use super::poller::Pollers;
use super::poller::consumer::PollerConsumers;
use super::poller::secret::PollerSecrets;
use super::portal::Authentication;
use super::queue::Queue;
use super::statistics::Statistics;
use super::token::Tokens;
use super::trial::TrialReceiver;
use clean::clean;
use refusals::prune;

mod access;
mod clean;
mod examples;
mod refusals;

const DESCRIPTION: &str = "Send webhooks: make an application for each of your customers, give it endpoints, and send \
it messages. Every message is stored before it is answered with 202, and is then delivered, signed, to each endpoint \
that wants it, at least once. The published Svix SDKs speak this API.";

/// Returns the operations of the API, both to serve and to document them.
pub(crate) fn service() -> OpenApiService<Operations, ()> {
    let operations = (
        Applications,
        EventTypes,
        Endpoints,
        (EndpointSecrets, SendExample),
        (EndpointStatistics, TrialReceiver),
        (Pollers, PollerSecrets, PollerConsumers),
        (Messages, Explanations),
        Attempts,
        OperationalWebhooks,
        (Deliveries, AllDeliveries, Queue),
        Replays,
        BackgroundTasks,
        (Search, Statistics, EndpointHealth),
        (Authentication, Console),
        (Tokens, AuditLog),
        Health,
    );
    OpenApiService::new(operations, "Postrider", env!("CARGO_PKG_VERSION"))
        .description(DESCRIPTION)
        .license(LicenseObject::new("MIT OR Apache-2.0"))
}

/// Returns the document as JSON.
///
/// # Panics
/// If poem-openapi or examples.json is not JSON, which would fail the tests.
pub fn document() -> String {
    let mut text = serde_json::to_string_pretty(&finished()).expect("a JSON value can be written");
    text.push('\n');
    text
}

fn finished() -> Value {
    let mut document = serde_json::from_str(&service().spec()).expect("poem-openapi writes JSON");
    clean(&mut document);
    prune(&mut document);
    examples::add(&mut document);
    document["openapi"] = "3.0.3".into();
    // Without a list of servers, a client uses the server from which it got the document.
    if let Some(object) = document.as_object_mut() {
        object.shift_remove("servers");
    }
    document
}
