//! HTTP in: the REST resources, authentication, paging, errors, the pages and the API document.
//!
//! A resource is a type whose methods are the operations of one group, described by poem-openapi attributes. It reads
//! rows from the store and hands writes to the service. The doc comments of its operations, parameters and bodies are
//! also the descriptions in the API document, so they are written for the users of the API.
//!
//! Must not decide rules (the domain does) or write rows (the service does).

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

/// The resources of the API, in the order in which the document lists their operations.
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

/// The groups into which the API document sorts the operations.
#[derive(poem_openapi::Tags)]
enum Tag {
    /// An application is one of your customers. It has endpoints, and you send messages to it.
    Application,
    /// Kinds of events in your product. Endpoints filter by them, and they are documentation for your customers.
    #[oai(rename = "Event Type")]
    EventType,
    /// URLs at which an application receives its messages.
    Endpoint,
    /// Payloads that are sent to the endpoints of an application.
    Message,
    /// Requests that were made to deliver messages to endpoints, and the answers to them.
    #[oai(rename = "Message Attempt")]
    MessageAttempt,
    /// Endpoints of your own that are notified of what happens to the endpoints and messages of your applications.
    #[oai(rename = "Operational Webhook")]
    OperationalWebhook,
    /// Many messages that are sent to an endpoint again, in the background.
    #[oai(rename = "Background Task")]
    BackgroundTask,
    /// Tokens with which the people of an application use this API and the portal page.
    Authentication,
    /// Probes, which need no token.
    Health,
}
