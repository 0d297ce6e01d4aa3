//! HTTP in: poem-openapi resources, auth, paging, errors and the API document. Reads go to store, writes to service.
//! Must not: decide rules, write rows. Called by app, cli (the document) and the tests.

mod answer;
mod application;
mod attempt;
mod auth;
mod authentication;
mod background_task;
mod body;
mod cloud_only;
mod connection;
mod delivery;
mod delivery_body;
mod docs;
mod endpoint;
mod endpoint_body;
mod endpoint_secret;
mod endpoint_stats;
mod error;
mod event_type;
mod fields;
mod filters;
mod health;
mod idempotency;
pub mod listener;
mod message;
mod openapi;
mod operational;
mod operational_body;
mod paging;
mod probes;
mod replay;
mod requests;
mod routes;
mod send_example;
mod state;
mod status;
mod wire;
mod yaml;

pub use auth::AdminToken;
pub use openapi::{document, document_yaml};
pub use probes::{Probes, probe_routes};
pub use routes::routes;
pub use state::ApiState;

/// All operations, in the order of the document.
type Operations = (
    application::Applications,
    event_type::EventTypes,
    endpoint::Endpoints,
    endpoint_secret::EndpointSecrets,
    send_example::SendExample,
    endpoint_stats::EndpointStatistics,
    message::Messages,
    attempt::Attempts,
    operational::OperationalWebhooks,
    delivery::Deliveries,
    replay::Replays,
    background_task::BackgroundTasks,
    authentication::Authentication,
    health::Health,
);

/// The groups of the document.
#[derive(poem_openapi::Tags)]
enum Tag {
    /// An application is one customer of yours: what its endpoints get is sent to it.
    Application,
    /// What may happen in your product: a filter of endpoints, and documentation for your customers.
    #[oai(rename = "Event Type")]
    EventType,
    /// Where an application receives its messages.
    Endpoint,
    /// What is sent.
    Message,
    /// What was tried, and what was answered.
    #[oai(rename = "Message Attempt")]
    MessageAttempt,
    /// Endpoints of yours that are told what happens to those of your applications.
    #[oai(rename = "Operational Webhook")]
    OperationalWebhook,
    /// Many messages again, in the background.
    #[oai(rename = "Background Task")]
    BackgroundTask,
    /// Tokens for an application's own people.
    Authentication,
    /// Probes.
    Health,
}
