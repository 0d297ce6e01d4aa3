//! The integration tests: one binary, a file per subject. harness/ has what they share: a database a test on SQLite
//! and on Postgres, a programmable HTTP receiver, a proxy that breaks connections.

#[macro_use]
mod harness;

mod api;
mod application;
mod architecture;
mod auth;
mod cli;
mod config;
mod database;
mod delivery;
mod endpoint;
mod event_type;
mod intake;
mod leases;
mod migrate;
mod migrations;
mod proxy;
mod query_plans;
mod receiver;
mod schema_drift;
mod seed;
mod serve;
