//! The data of a settlement: the outcome of a lease, as the sender hands it to the settler, and the changes that
//! recording it has made.
//!
//! Must not query.

use crate::domain::delivery::{Decision, Trigger, answered};
use crate::domain::health::{DisabledReason, Health};
use crate::domain::timestamp::Timestamp;
use crate::domain::typed_id::{AppId, AttemptId, DeliveryId, EndpointId, MessageId};
use crate::telemetry::log_fields::{DeliveryIds, LogFields};

/// An attempt as it is recorded.
#[derive(Clone, Debug)]
pub struct AttemptRow {
    /// The attempt's id, which begins with the instant `created_at`.
    pub id: AttemptId,
    /// When the attempt began.
    pub created_at: Timestamp,
    /// The URL that was called.
    pub url: String,
    /// The status of the answer; 0 means there was no answer.
    pub response_status: i32,
    /// The answer's body, cut to a maximum and without U+0000, or the reason why there was no answer.
    pub response: String,
    pub duration_ms: i64,
    /// What is kept of a failed attempt, as the JSON of [`crate::domain::failure::Failure`]; `None` for one that
    /// delivered the message.
    pub detail: Option<Box<str>>,
}

impl AttemptRow {
    /// Returns the status of the answer in words, or the reason why there was none. Contains nothing of the answer's
    /// body, because it is logged.
    pub fn summary(&self) -> String {
        match self.response_status {
            0 => self.response.clone(),
            status => answered(status),
        }
    }

    /// Returns how many bytes the texts have that are kept of the answer.
    pub fn answer_bytes(&self) -> usize {
        self.response.len() + self.detail.as_ref().map_or(0, |detail| detail.len())
    }
}

/// The outcome of one lease.
#[derive(Clone, Debug)]
pub struct Settlement {
    pub delivery_id: DeliveryId,
    pub lease_id: i64,
    pub app_id: AppId,
    pub message_id: MessageId,
    pub endpoint_id: EndpointId,
    pub trigger: Trigger,
    /// `None` means that nothing was sent: the target or the payload is gone, or another row has delivered the message.
    pub attempt: Option<AttemptRow>,
    pub decision: Decision,
    /// The number of attempts of the delivery before this one.
    pub attempts_made: i32,
    /// How the attempt changes the health of its endpoint.
    pub health: Health,
}

impl Settlement {
    /// Returns whether this is the last failed attempt of a schedule.
    pub(super) fn is_given_up(&self) -> bool {
        self.decision == Decision::Failed && self.trigger == Trigger::Scheduled && self.attempt.is_some()
    }

    /// Returns the fields of log lines about the delivery.
    pub fn log_fields(&self) -> LogFields {
        LogFields::of_delivery(&DeliveryIds {
            app_id: &self.app_id,
            endpoint_id: Some(&self.endpoint_id),
            message_id: Some(&self.message_id),
            delivery_id: &self.delivery_id,
        })
    }
}

/// The changes of a settlement that an operator should know of, once it has committed.
pub struct Settled<'a> {
    /// The endpoints whose health has changed.
    pub endpoints: Vec<Changed>,
    /// The outcomes after which a delivery has used up its schedule without success.
    pub given_up: Vec<&'a Settlement>,
}

/// An endpoint that begins to fail, works again or was disabled.
pub struct Changed {
    pub app_id: AppId,
    pub endpoint_id: EndpointId,
    pub uid: Option<String>,
    pub disabled: bool,
    /// The instant since which the endpoint fails; `None` means it works.
    pub failing_since: Option<Timestamp>,
    /// Why the endpoint is disabled, if it is.
    pub disabled_reason: Option<DisabledReason>,
    /// The summary of the attempt that has changed the endpoint.
    pub summary: String,
}
