//! The kit that resources are made of: what they read from a request and what they write into a response. Must not know
//! a resource.

pub mod body;
pub mod error;
pub mod fields;
pub mod filters;
pub mod idempotency;
pub mod paging;
pub mod response;
pub mod values;
