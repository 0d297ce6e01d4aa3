//! Operational events: the notices that an organization gets about its own endpoints and messages, and their form on
//! the wire.
//!
//! Responsible for the names and the bodies of the events, and for which attempts are worth a notice. Must not decide
//! which operational endpoints get an event: `store` does.
//!
//! The operational endpoints of an organization, and the messages to them, belong to an application that has the
//! organization's own id, so that no path or uid ever names it.

use serde::Serialize;

use super::delivery::{Decision, Trigger};
use super::health::{DisabledReason, FAILING};
use super::id::Prefix;

/// The event types that an operational endpoint can ask for.
pub const EVENT_TYPES: [&str; 7] = [
    "endpoint.created",
    "endpoint.updated",
    "endpoint.deleted",
    "endpoint.disabled",
    "message.attempt.failing",
    "message.attempt.exhausted",
    "message.attempt.recovered",
];

/// The most operational endpoints that an organization may have. Each notice writes a row for each of them, in the
/// transaction of the change that it reports.
pub const MOST_ENDPOINTS: u32 = 20;

/// Returns whether this is the id of the application that holds an organization's operational endpoints. Events in it
/// cause no notice: an operational endpoint that fails would otherwise notify itself of that, again and again.
pub fn is_operational(app_id: &str) -> bool {
    Prefix::Organization.is_of(app_id)
}

/// An event that an organization is notified of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    EndpointCreated(AboutEndpoint),
    EndpointUpdated(AboutEndpoint),
    EndpointDeleted(AboutEndpoint),
    EndpointDisabled(AboutEndpoint),
    AttemptFailing(AboutAttempt),
    AttemptExhausted(AboutAttempt),
    AttemptRecovered(AboutAttempt),
}

/// The notice that an attempt causes.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// The delivery has failed [`FAILING`] times, and its retries go on.
    Failing,
    /// The delivery has used up its schedule.
    Exhausted,
    /// The delivery has succeeded after a notice of failure.
    Recovered,
}

impl Notice {
    /// Returns the event that reports this notice about an attempt.
    pub fn event(self, about: AboutAttempt) -> Event {
        match self {
            Self::Failing => Event::AttemptFailing(about),
            Self::Exhausted => Event::AttemptExhausted(about),
            Self::Recovered => Event::AttemptRecovered(about),
        }
    }
}

/// Returns the notice that an attempt causes; `None` means it causes none. `attempts_made` counts the attempts of the
/// same delivery before this one, all of which failed.
///
/// A manual attempt that fails causes none, because its requester is expected to watch the result. A manual attempt
/// that succeeds is a recovery only if failures of the schedule were notified, which `store` finds out.
pub fn notice_of(decision: Decision, trigger: Trigger, attempts_made: i32) -> Option<Notice> {
    match (decision, trigger) {
        (Decision::Delivered, Trigger::Manual) => Some(Notice::Recovered),
        (Decision::Delivered, Trigger::Scheduled) => (attempts_made >= FAILING).then_some(Notice::Recovered),
        (Decision::Failed, Trigger::Scheduled) => Some(Notice::Exhausted),
        (Decision::Retry { .. }, _) => (attempts_made + 1 == FAILING).then_some(Notice::Failing),
        (Decision::Failed, Trigger::Manual) => None,
    }
}

/// The data of an event about an endpoint.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AboutEndpoint {
    pub app_id: String,
    pub app_uid: Option<String>,
    pub endpoint_id: String,
    pub endpoint_uid: Option<String>,
    /// The instant since which the endpoint counts as failing, in RFC 3339. `None` leaves the field out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_since: Option<String>,
    /// When the endpoint was disabled, in RFC 3339. `None` leaves the field out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<String>,
    /// Why the endpoint was disabled. `None` leaves the field out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<DisabledReason>,
}

/// The data of an event about an attempt.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AboutAttempt {
    pub app_id: String,
    pub app_uid: Option<String>,
    pub msg_id: String,
    pub msg_event_id: Option<String>,
    pub endpoint_id: String,
    pub last_attempt: LastAttempt,
}

/// The attempt that caused an event.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastAttempt {
    pub id: String,
    /// The status of the receiver's answer; 0 means there was no answer.
    pub response_status_code: i32,
    /// The instant at which the attempt began, in RFC 3339.
    pub timestamp: String,
}

/// A payload as it is sent.
#[derive(Serialize)]
struct Body<'a, T> {
    r#type: &'a str,
    data: &'a T,
}

impl Event {
    /// Returns the name of the event, one of [`EVENT_TYPES`].
    pub fn event_type(&self) -> &'static str {
        EVENT_TYPES[match self {
            Self::EndpointCreated(_) => 0,
            Self::EndpointUpdated(_) => 1,
            Self::EndpointDeleted(_) => 2,
            Self::EndpointDisabled(_) => 3,
            Self::AttemptFailing(_) => 4,
            Self::AttemptExhausted(_) => 5,
            Self::AttemptRecovered(_) => 6,
        }]
    }

    /// Returns the payload: `{"type": …, "data": {…}}`.
    pub fn body(&self) -> String {
        match self {
            Self::EndpointCreated(data)
            | Self::EndpointUpdated(data)
            | Self::EndpointDeleted(data)
            | Self::EndpointDisabled(data) => written(self.event_type(), data),
            Self::AttemptFailing(data) | Self::AttemptExhausted(data) | Self::AttemptRecovered(data) => {
                written(self.event_type(), data)
            }
        }
    }
}

fn written(r#type: &str, data: &impl Serialize) -> String {
    serde_json::to_string(&Body { r#type, data }).expect("text and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use super::super::timestamp::Timestamp;
    use super::*;

    #[test]
    fn an_outcome_tells_what_the_contract_says() {
        let retry = Decision::Retry { at: Timestamp(0) };
        let scheduled = |decision, before| notice_of(decision, Trigger::Scheduled, before);
        for before in [0, 1, 2, 4, 5] {
            assert_eq!(scheduled(retry, before), None, "{before}");
        }
        assert_eq!(scheduled(retry, 3), Some(Notice::Failing), "the fourth failure");
        assert_eq!(scheduled(Decision::Failed, 0), Some(Notice::Exhausted));
        assert_eq!(scheduled(Decision::Failed, 3), Some(Notice::Exhausted), "not both");
        for (before, notice) in [(0, None), (3, None), (4, Some(Notice::Recovered))] {
            assert_eq!(scheduled(Decision::Delivered, before), notice, "{before}");
        }
        assert_eq!(notice_of(Decision::Failed, Trigger::Manual, 0), None);
        assert_eq!(
            notice_of(Decision::Delivered, Trigger::Manual, 0),
            Some(Notice::Recovered)
        );
    }

    #[test]
    fn a_body_is_type_and_data_as_in_the_contract() {
        let about = AboutEndpoint {
            app_id: "app_1".to_owned(),
            app_uid: None,
            endpoint_id: "ep_1".to_owned(),
            endpoint_uid: Some("e".to_owned()),
            fail_since: None,
            disabled_at: None,
            disabled_reason: None,
        };
        let data = r#""data":{"appId":"app_1","appUid":null,"endpointId":"ep_1","endpointUid":"e"}"#;
        let body = Event::EndpointCreated(about.clone()).body();
        assert_eq!(body, format!(r#"{{"type":"endpoint.created",{data}}}"#));
        let instant = Some(Timestamp(0).to_rfc3339());
        let about = AboutEndpoint {
            fail_since: instant.clone(),
            disabled_at: instant,
            disabled_reason: Some(DisabledReason::Failing),
            ..about
        };
        let disabled = Event::EndpointDisabled(about).body();
        let at = "1970-01-01T00:00:00.000000Z";
        let rest = format!(r#""failSince":"{at}","disabledAt":"{at}","disabledReason":"failing"}}}}"#);
        assert!(disabled.ends_with(&rest), "{disabled}");
    }
}
