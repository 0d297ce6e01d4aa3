//! `status` and `statusText`: how an attempt ended, and how a message stands at an endpoint. Numbers and words are a closed
//! set of the wire contract. Called by attempt and delivery.

use poem_openapi::param::Query;

use crate::api::wire::paging::bad_query;
use crate::domain::delivery::ResultState;
use crate::error::Result;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    Success = 0,
    /// Nothing has this one: what was not tried yet is not listed.
    Pending = 1,
    Fail = 2,
    Sending = 3,
    /// Nothing has this one.
    Canceled = 4,
}

impl Status {
    /// The parameter `status`.
    ///
    /// # Errors
    /// `Invalid` when it is none of these.
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

    pub fn of_attempt(delivered: bool) -> Self {
        if delivered { Self::Success } else { Self::Fail }
    }

    pub fn number(self) -> i64 {
        self as i64
    }

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

    /// The state that a message at an endpoint has then; none: no message has it.
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
