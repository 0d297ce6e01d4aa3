//! How the store talks to the database: connections, transactions, the differences between SQLite and Postgres, and how
//! pages of lists are read and many rows are written at once.
//!
//! Must not know what is in the tables, but for the migrations' list (schema.rs) and the table `installation`, which
//! says whether a schema is there and which programs it allows.

pub mod backend;
pub mod backup;
pub mod budget;
pub mod connect;
pub mod options;
pub mod outage;
pub mod page;
pub mod pool;
mod postgres;
pub mod purpose;
mod reach;
pub mod request;
pub mod rows;
pub mod schema;
mod shared;
pub mod source;
mod sqlite;
pub mod sqlite_file;
mod sqlite_log;
mod sqlite_watch;
pub mod store;
mod turns;
pub mod tx;
