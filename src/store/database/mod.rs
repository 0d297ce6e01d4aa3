//! How the store talks to the database: connections, transactions, the differences between SQLite and Postgres, and how
//! pages of lists are read and many rows are written at once.
//!
//! Must not know what is in the tables, but for the migrations' list (schema.rs) and the table `installation`, which
//! says whether a schema is there and which programs it allows.

pub(crate) mod backend;
pub(crate) mod backup;
pub(crate) mod budget;
pub(crate) mod connect;
mod last_break;
pub(crate) mod options;
pub(crate) mod outage;
pub(crate) mod page;
pub(crate) mod pool;
mod postgres;
pub(crate) mod purpose;
mod reach;
pub(crate) mod request;
pub(crate) mod rows;
pub mod schema;
mod shared;
pub(crate) mod source;
mod sqlite;
pub(crate) mod sqlite_file;
mod sqlite_log;
mod sqlite_watch;
pub(crate) mod store;
mod turns;
pub(crate) mod tx;
