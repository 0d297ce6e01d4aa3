//! Postrider: accepts messages over REST, stores them durably and delivers them, signed, at least once.
//! The modules in the order data flows; ARCHITECTURE.md has the map and who may import whom.

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
