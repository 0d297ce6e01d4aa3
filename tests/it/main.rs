//! The integration tests: one binary, a file per subject. harness/ has what they share: a database a test on SQLite
//! and on Postgres, a programmable HTTP receiver, a proxy that breaks connections.

#[macro_use]
mod harness;

mod api;
mod application;
mod architecture;
mod attempt;
mod auth;
mod background_task;
mod bad_input;
mod cli;
mod cloud_only;
mod config;
mod contract;
mod crash;
mod crash_tasks;
mod database;
mod delivery;
mod endpoint;
mod event_type;
mod expunge;
mod fairness;
mod idempotency;
mod intake;
mod leases;
mod message;
mod message_in;
mod migrate;
mod migrations;
mod openapi;
mod openapi_refusals;
mod operational;
mod outage;
mod own_header;
mod paging;
mod pair;
mod proxy;
mod query_plans;
mod reads;
mod receiver;
mod replay;
mod resend;
mod retention;
mod schema_drift;
mod secret;
mod seed;
mod send_example;
mod sending;
mod serve;
mod settlement;
mod shared_write;
mod slowdown;
mod stats;
mod throttle;
