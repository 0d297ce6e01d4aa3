//! The rules of the product: which addresses may be called, what is signed, which endpoints get a message, when a
//! delivery is tried again.
//!
//! Pure: no I/O, no async, no queries, no clock. Random bytes are the only thing it takes from the operating system.
//! Must not import any other module of the program.

pub(crate) mod act;
pub mod audit;
pub(crate) mod capability;
pub(crate) mod cursor;
pub mod delivery;
pub(crate) mod effect;
pub mod encryption_keys;
pub mod failure;
pub(crate) mod filter;
pub mod health;
pub mod id;
pub(crate) mod identifier;
pub mod json_schema;
pub(crate) mod operational;
pub(crate) mod pattern;
pub(crate) mod payload;
pub mod poller_number;
#[cfg(test)]
mod properties;
pub(crate) mod request_headers;
pub(crate) mod retry;
pub(crate) mod rewritten;
pub mod role;
pub mod secret;
pub(crate) mod signature;
pub mod tally;
pub mod target;
pub mod task;
pub(crate) mod throttle;
pub mod timestamp;
pub mod token;
pub mod typed_id;
pub(crate) mod verdict;
pub(crate) mod verification;
pub(crate) mod verifier;
