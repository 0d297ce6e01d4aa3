//! Queries the database: no other directory of `src/` contains SQL.
//!
//! There is a file for each table that the API knows, and one for each other subject, such as `retention`. `database/`
//! holds how the store talks to the database, whatever is in it. `entity/` holds the shapes of the tables. `intake/`
//! stores accepted messages with their deliveries, and `queue/` does everything that happens to delivery rows later.
//!
//! Must not know HTTP. Must not decide rules: the domain does.

pub(crate) mod application;
pub(crate) mod attempt;
pub mod audit;
pub mod background_task;
pub mod console_link;
pub mod database;
pub mod deleted;
pub(crate) mod delivery;
pub(crate) mod delivery_result;
pub(crate) mod delivery_statistics;
pub(crate) mod endpoint;
pub(crate) mod endpoint_health;
pub mod endpoint_hour;
pub mod entity;
pub mod event_id;
pub(crate) mod event_type;
pub(crate) mod find;
pub mod idempotency;
pub mod installation;
pub mod intake;
pub(crate) mod message;
mod message_reply;
pub(crate) mod message_tag;
pub(crate) mod operational;
pub mod organization;
pub mod poll;
pub(crate) mod poller;
pub mod poller_consumer;
pub(crate) mod progress;
pub mod queue;
pub mod retention;
pub(crate) mod sealed;
pub mod token;
pub(crate) mod token_use;

pub use database::backend::{Backend, is_deadlock, is_system_error, ran_too_long, took_too_long};
pub use database::options::{ConnectOptions, Hold};
pub use database::page::{Between, Page, PageRequest};
pub use database::pool::ANSWER_DEADLINE;
pub use database::source::{Source, is_prepared, ping};
pub use database::sqlite_file::sqlite_path;
pub use database::store::Store;
pub use database::tx::Tx;
