//! The frame around the resources: the listener, the routes, pages, probes, and what counts requests. Must not know a
//! single resource.

mod cloud_only;
mod connection;
pub mod listener;
mod pages;
pub mod probes;
mod requests;
pub mod routes;
