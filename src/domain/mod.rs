//! The rules of the product: what may be called, what is signed, who gets a message, when it is tried again.
//!
//! Pure: no I/O, no async, no queries, no clock. Called by every other module; imports none of them.

pub mod capability;
pub mod delivery;
pub mod encryption_keys;
pub mod filter;
pub mod health;
pub mod id;
pub mod identifier;
pub mod json_schema;
pub mod operational;
pub mod payload;
pub mod retry;
pub mod secret;
pub mod signature;
pub mod target;
pub mod task;
pub mod throttle;
pub mod timestamp;
pub mod token;
