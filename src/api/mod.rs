//! HTTP in: poem-openapi resources, auth, paging, errors and the API document. Reads go to store, writes to service.
//! Must not: decide rules, write rows. Called by app, cli (the document) and the tests.

mod application;
mod attempt;
mod auth;
mod background_task;
mod document;
mod endpoint;
mod event_type;
mod health;
pub mod http;
mod message;
mod operational;
mod portal;
mod state;
mod wire;
mod yaml;

pub use auth::AdminToken;
pub use document::{document, document_yaml};
pub use http::probes::{Probes, probe_routes};
pub use http::routes::routes;
pub use state::ApiState;

/// All operations, in the order of the document.
type Operations = (
    application::Applications,
    event_type::EventTypes,
    endpoint::Endpoints,
    endpoint::secret::EndpointSecrets,
    endpoint::example::SendExample,
    endpoint::stats::EndpointStatistics,
    message::Messages,
    attempt::Attempts,
    operational::OperationalWebhooks,
    attempt::results::Deliveries,
    endpoint::replay::Replays,
    background_task::BackgroundTasks,
    portal::Authentication,
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
