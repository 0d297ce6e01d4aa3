//! The outcomes of delivery attempts, as the sender hands them to the settler, and what changed once they are recorded.
//! Must not query.

use crate::domain::delivery::{Decision, Trigger};
use crate::domain::health::Health;
use crate::domain::timestamp::Timestamp;

/// One HTTP try, as it is recorded.
#[derive(Clone, Debug)]
pub struct AttemptRow {
    /// Made when the try began, with the instant `created_at`.
    pub id: String,
    pub created_at: Timestamp,
    pub url: String,
    /// 0: no answer.
    pub response_status: i32,
    /// Capped, and without U+0000.
    pub response: String,
    pub duration_ms: i64,
}

impl AttemptRow {
    /// What the receiver answered, in short, or why there was no answer. Nothing of the answer's body.
    pub fn summary(&self) -> String {
        match self.response_status {
            0 => self.response.clone(),
            status => format!("it answered {status}"),
        }
    }
}

/// What became of one lease.
#[derive(Clone, Debug)]
pub struct Settlement {
    pub delivery_id: String,
    pub lease_id: i64,
    pub app_id: String,
    pub message_id: String,
    pub endpoint_id: String,
    pub trigger: Trigger,
    /// None: nothing was sent, as target or content is gone.
    pub attempt: Option<AttemptRow>,
    pub decision: Decision,
    /// Attempts that its delivery had made before.
    pub attempts_made: i32,
    /// What the attempt says of its endpoint.
    pub health: Health,
}

/// What an operator should know of, once a settle has committed.
pub struct Settled<'a> {
    pub endpoints: Vec<Changed>,
    /// Whose schedule has ended without success.
    pub given_up: Vec<&'a Settlement>,
}

/// An endpoint that begins to fail, works again, or has just been disabled.
pub struct Changed {
    pub app_id: String,
    pub endpoint_id: String,
    pub uid: Option<String>,
    pub disabled: bool,
    /// `None`: it works.
    pub failing_since: Option<Timestamp>,
    /// How the attempt ended that has changed it.
    pub summary: String,
}
