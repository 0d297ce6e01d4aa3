//! SQL: the only directory that queries. One file a resource, plus the queue (intake, claim, settle, process).
//! Must not: know HTTP, decide rules (domain does). Called by service (writes), api (reads) and dispatcher (queue).

pub mod application;
pub mod attempt;
mod backend;
pub mod background_task;
pub mod backup;
mod connect;
pub mod deleted;
pub mod delivery_result;
pub mod endpoint;
pub mod entity;
pub mod event_id;
pub mod event_type;
pub mod handoff;
pub mod idempotency;
pub mod installation;
pub mod intake;
pub mod message;
pub mod notify;
pub mod operational;
pub mod organization;
pub mod outage;
mod page;
mod pool;
mod postgres;
pub mod process;
mod purpose;
pub mod queue;
mod reach;
pub mod retention;
mod rows;
pub mod schema;
pub mod sealed;
mod source;
mod sqlite_file;
pub mod token;
pub mod turns;
mod tx;

pub use backend::{Backend, is_system_error, ran_too_long, took_too_long};
pub use connect::{ConnectOptions, Hold, Store};
pub use page::{Between, Page, PageRequest};
pub use pool::ANSWER_DEADLINE;
pub use purpose::Connections;
pub use source::{Source, is_prepared, ping};
pub use sqlite_file::sqlite_path;
pub use tx::Tx;
