//! Gives each request an id, which its response and its log lines have.
//!
//! A client or a proxy may choose the id, so that its own log agrees with ours. An id serves to find things only: it may
//! come twice, and nothing depends on it.

use poem::http::{HeaderMap, HeaderName};

use crate::clock::Clock;
use crate::domain::id::Prefix;

/// The header of requests and responses.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The most characters of an id that a client chooses.
const LONGEST: usize = 128;

/// Returns the id that a request brings if it is 1 to 128 visible ASCII characters, else a new one. Other characters
/// could pretend to be further fields or lines of the log.
pub(super) fn of(headers: &HeaderMap, clock: &Clock) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given.filter(|id| is_valid(id)) {
        Some(id) => id.to_owned(),
        None => clock.new_id(Prefix::Request),
    }
}

fn is_valid(id: &str) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}
