//! HTTP in: the REST resources, authentication, paging, errors, the pages and the API document.
//!
//! A resource is a type whose methods are the operations of one group, described by poem-openapi attributes. It reads
//! rows from the store and hands writes to the service. The doc comments of its operations, parameters and bodies are
//! also the descriptions in the API document, so they are written for the users of the API.
//!
//! Must not decide rules (the domain does) or write rows (the service does).

mod application;
mod attempt;
mod audit;
mod auth;
mod background_task;
mod caller;
mod console;
mod delivery;
mod document;
mod endpoint;
mod endpoint_health;
mod event_type;
pub(crate) mod explain;
pub(crate) mod explain_poller;
mod find;
mod health;
pub mod http;
mod message;
mod operational;
mod operations;
mod paths;
mod poller;
mod portal;
mod queue;
mod rights;
mod state;
mod statistics;
mod tag;
mod token;
mod trial;
mod wire;

pub(crate) use application::ApplicationOut;
pub use auth::AdminToken;
pub(crate) use console::ConsoleLinkOut;
pub use document::document;
pub(crate) use endpoint::body::EndpointOut;
pub use http::probes::{Probes, probe_routes};
pub use http::routes::routes;
pub(crate) use portal::body::AppPortalAccessOut;
pub use state::ApiState;
use tag::Tag;
pub use trial::Trial;
