//! How the store talks to the database: connections, transactions, what differs between SQLite and Postgres, and how
//! pages and many rows are read and written. Must not know what is in the tables.

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
