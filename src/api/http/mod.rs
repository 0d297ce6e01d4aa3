//! The HTTP frame around the API's resources: listener, routes, pages, probes, and the counts of requests.
//!
//! Must not know a single resource.

mod cloud_only;
mod connection;
mod cors;
mod files;
pub mod listener;
mod pages;
pub mod probes;
mod request_id;
mod requests;
pub mod routes;
mod trial;
