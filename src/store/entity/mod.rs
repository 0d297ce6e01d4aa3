//! The tables as SeaORM entities, one table per file. A test compares them with the migrations.
//!
//! Must not contain queries or rules. Stored forms of values, such as sealed headers, are here too.

pub mod api_token;
pub mod application;
pub mod attempt;
pub mod audit;
pub mod background_task;
pub mod console_link;
pub mod delivery;
pub mod delivery_result;
pub mod endpoint;
pub mod endpoint_hour;
pub mod event_type;
pub mod idempotency;
pub mod installation;
pub mod janitor_turn;
pub mod json_text;
pub mod message;
pub mod message_content;
pub mod message_tag;
pub mod organization;
pub mod poll_epoch;
pub mod poll_item;
pub mod poller;
pub mod poller_consumer;
pub mod process;
pub mod taken_event_id;
