//! `status` and `statusText`: the outcome of an attempt, and the state of a message at an endpoint.
//!
//! Both use the same closed set of numbers and words, which the SDKs know.
//!
//! Must not decide an outcome: `domain/delivery.rs` does.

use poem_openapi::param::Query;

use crate::api::wire::paging::bad_query;
use crate::domain::delivery::ResultState;
use crate::error::Result;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    Success = 0,
    /// Never returned: a message has no result at an endpoint before the first outcome there is settled.
    Pending = 1,
    Fail = 2,
    /// A message that waits for a retry.
    Sending = 3,
    /// Never returned.
    Canceled = 4,
}

impl Status {
    /// Returns the status that the query parameter `status` names; `None` means the parameter is absent.
    ///
    /// # Errors
    /// `Invalid` if the number is not one of these.
    pub fn read(status: Query<Option<i64>>) -> Result<Option<Self>> {
        Ok(Some(match status.0 {
            None => return Ok(None),
            Some(0) => Self::Success,
            Some(1) => Self::Pending,
            Some(2) => Self::Fail,
            Some(3) => Self::Sending,
            Some(4) => Self::Canceled,
            Some(_) => return Err(bad_query("status", "must be from 0 to 4")),
        }))
    }

    /// Returns the status of a settled attempt.
    pub fn of_attempt(delivered: bool) -> Self {
        if delivered { Self::Success } else { Self::Fail }
    }

    /// Returns `status` on the wire.
    pub fn number(self) -> i64 {
        self as i64
    }

    /// Returns `statusText` on the wire.
    pub fn text(self) -> String {
        let text = match self {
            Self::Success => "success",
            Self::Pending => "pending",
            Self::Fail => "fail",
            Self::Sending => "sending",
            Self::Canceled => "canceled",
        };
        text.to_owned()
    }

    /// Returns the state of messages that have this status at an endpoint; `None` means no message ever has it.
    pub fn state(self) -> Option<ResultState> {
        match self {
            Self::Success => Some(ResultState::Delivered),
            Self::Fail => Some(ResultState::Failed),
            Self::Sending => Some(ResultState::Waiting),
            Self::Pending | Self::Canceled => None,
        }
    }
}

impl From<ResultState> for Status {
    fn from(state: ResultState) -> Self {
        match state {
            ResultState::Delivered => Self::Success,
            ResultState::Waiting => Self::Sending,
            ResultState::Failed => Self::Fail,
        }
    }
}
