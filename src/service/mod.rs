//! Writes: one public function, one transaction. Reads need none of it.
//! Must not: know HTTP, parse requests, write SQL. Called by api and cli.

pub mod application;
pub mod attempt;
pub mod background_task;
pub mod delivery;
pub mod endpoint;
pub mod endpoint_secret;
pub mod event_type;
pub mod key_rotation;
pub mod message;
pub mod operational;
pub mod organization;
pub mod portal;
pub mod token;
