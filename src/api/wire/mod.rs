//! The building blocks of the API's resources: what they read from requests and what they write into responses.
//!
//! Must not know a resource.

pub mod body;
pub mod error;
pub mod fields;
pub mod filters;
pub mod idempotency;
pub mod paging;
pub mod response;
pub mod values;
