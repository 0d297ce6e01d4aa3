//! Postrider: accepts messages over REST, stores them durably and delivers them, signed, at least once.
//!
//! ARCHITECTURE.md maps the modules in the order in which data flows, and says which module may import which.

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crash_point;
pub mod dispatcher;
pub mod domain;
pub mod error;
pub mod loops;
pub mod service;
pub mod slots;
pub mod store;
pub mod telemetry;
