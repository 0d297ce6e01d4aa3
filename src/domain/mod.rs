//! The rules of the product: which addresses may be called, what is signed, which endpoints get a message, when a
//! delivery is tried again.
//!
//! Pure: no I/O, no async, no queries, no clock. Random bytes are the only thing it takes from the operating system.
//! Must not import any other module of the program.

pub mod capability;
pub mod delivery;
pub(crate) mod effect;
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
