//! Says how far a message has come at an endpoint, and if it was not sent there, why not, in plain words.
//!
//! Settings are judged as they are today: what they were when the message was accepted is not kept. If the endpoint
//! was changed since, the text says so. Must not decide which endpoints want a message: `filter` does.

use poem_openapi::Enum;
use serde::{Deserialize, Serialize};

use super::delivery::ResultState;
use super::filter::{EndpointFilter, accepts};
use super::health::DisabledReason;
use super::timestamp::Timestamp;

/// The most names of a filter that a text lists.
const MOST_NAMES: usize = 5;

/// The state of a delivery as users see it.
#[derive(Clone, Copy, Debug, Deserialize, Enum, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[oai(rename = "DeliveryState", rename_all = "lowercase")]
pub enum State {
    Waiting,
    Sending,
    Delivered,
    Failed,
}

/// What became of a message at an endpoint.
#[derive(Clone, Copy, Debug, Deserialize, Enum, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename = "DeliveryVerdict", rename_all = "camelCase")]
pub enum Verdict {
    Delivered,
    Waiting,
    Sending,
    Failed,
    NotSent,
}

/// Why a message was not sent to an endpoint.
#[derive(Clone, Copy, Debug, Deserialize, Enum, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename = "NotSentReason", rename_all = "camelCase")]
pub enum Reason {
    /// The endpoint does not want this event type.
    EventType,
    /// The endpoint wants none of the message's channels.
    Channel,
    Disabled,
    /// The endpoint was created after the message.
    CreatedLater,
    Deleted,
    /// The payload was removed before the message could be sent.
    NoPayload,
}

/// A delivery's row in the queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Queued {
    /// Whether a process has leased it, and so is sending it.
    pub is_leased: bool,
    /// When the next attempt is due; `None` means that it waits for a free slot of its endpoint.
    pub due_at: Option<Timestamp>,
}

/// Returns the state of a message at an endpoint, by its result and by its row in the queue. `None` means it has neither:
/// it was never queued for the endpoint.
pub fn state_of(result: Option<ResultState>, queued: Option<Queued>) -> Option<State> {
    match (result, queued) {
        // Even if it is being sent again.
        (Some(ResultState::Delivered), _) => Some(State::Delivered),
        (_, Some(row)) if row.is_leased => Some(State::Sending),
        (_, Some(_)) | (Some(ResultState::Waiting), None) => Some(State::Waiting),
        (Some(ResultState::Failed), None) => Some(State::Failed),
        (None, None) => None,
    }
}

/// A message, as far as it decides who gets it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub event_type: &'a str,
    /// Whether the organization has an event type of this name.
    pub is_registered: bool,
    pub channels: &'a [String],
    pub created_at: Timestamp,
    pub has_payload: bool,
}

/// An endpoint as it is today.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    pub filter: EndpointFilter<'a>,
    /// When and why it was disabled, as far as that is known; `None` means it is enabled.
    pub disabled: Option<(Option<Timestamp>, Option<DisabledReason>)>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
}

/// A poller as it is today.
#[derive(Clone, Copy, Debug)]
pub struct Poller<'a> {
    pub filter: EndpointFilter<'a>,
    pub disabled: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The attempts of a message at an endpoint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tries {
    pub attempts: i64,
    /// The status of the last answer; 0 means there was none, `None` that there was no attempt.
    pub last_status: Option<i32>,
    /// Why the last attempt got no answer.
    pub last_error: Option<String>,
    pub last_at: Option<Timestamp>,
}

/// A verdict with its reason and its words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// Why the message was not sent. `None` also if today's settings do not explain it.
    pub reason: Option<Reason>,
    pub text: String,
}

/// Judges what became of a message at an endpoint.
pub fn judge(
    message: &Message<'_>,
    endpoint: &Endpoint<'_>,
    state: Option<State>,
    queued: Option<Queued>,
    tries: &Tries,
) -> Judgement {
    let (verdict, text) = match state {
        Some(State::Delivered) => (Verdict::Delivered, delivered(tries)),
        Some(State::Sending) => (Verdict::Sending, sending(tries)),
        Some(State::Waiting) => (Verdict::Waiting, waiting(message, endpoint, queued, tries)),
        Some(State::Failed) if tries.attempts > 0 => (Verdict::Failed, failed(tries)),
        Some(State::Failed) => return given_up(message, endpoint),
        None => return never_queued(message, endpoint),
    };
    Judgement {
        verdict,
        reason: None,
        text,
    }
}

fn delivered(tries: &Tries) -> String {
    match (tries.attempts, tries.last_at) {
        (1, Some(at)) => format!("Delivered by the first attempt, at {at}."),
        (attempts, Some(at)) => format!("Delivered. {attempts} attempts were made, the last one at {at}."),
        (_, None) => "Delivered.".to_owned(),
    }
}

fn sending(tries: &Tries) -> String {
    match tries.attempts {
        0 => "The first attempt is under way.".to_owned(),
        _ => format!("An attempt is under way. {}", so_far(tries)),
    }
}

fn waiting(message: &Message<'_>, endpoint: &Endpoint<'_>, queued: Option<Queued>, tries: &Tries) -> String {
    let next = match queued.map(|row| row.due_at) {
        Some(Some(at)) if tries.attempts > 0 => format!("The next attempt is due at {at}."),
        Some(None) => "Its next attempt waits until the endpoint may get more requests.".to_owned(),
        _ => "Its next attempt waits for its turn.".to_owned(),
    };
    let begun = match tries.attempts {
        0 => "Accepted, and not tried yet.".to_owned(),
        _ => so_far(tries),
    };
    // The row ends without an attempt when its turn comes.
    match obstacle(message, endpoint) {
        Some((_, why)) => format!("{begun} It will not be sent: {why}"),
        None => format!("{begun} {next}"),
    }
}

fn failed(tries: &Tries) -> String {
    format!(
        "{} No attempt is left; it can be sent again by a resend or a recovery.",
        so_far(tries)
    )
}

/// Says how many attempts have failed, and how the last one did.
fn so_far(tries: &Tries) -> String {
    let count = match tries.attempts {
        1 => "1 attempt has failed".to_owned(),
        attempts => format!("{attempts} attempts have failed"),
    };
    match (tries.last_status, &tries.last_error) {
        (Some(0), Some(error)) => format!("{count}; the last one got no answer: {}.", error.trim_end_matches('.')),
        (Some(0) | None, _) => format!("{count}."),
        (Some(status), _) => format!("{count}; the last answer had status {status}."),
    }
}

/// Judges a message that was queued for the endpoint, and ended without an attempt.
fn given_up(message: &Message<'_>, endpoint: &Endpoint<'_>) -> Judgement {
    match obstacle(message, endpoint) {
        Some((reason, why)) => not_sent(
            Some(reason),
            format!("It was queued, and not sent when its turn came: {why}"),
        ),
        None => {
            let text = "It was queued, and not sent when its turn came: the endpoint was disabled at that time. \
                        It can be sent again by a resend or a recovery.";
            not_sent(None, text.to_owned())
        }
    }
}

/// Returns what keeps a queued message from being sent to the endpoint.
fn obstacle(message: &Message<'_>, endpoint: &Endpoint<'_>) -> Option<(Reason, String)> {
    if let Some(at) = endpoint.deleted_at {
        return Some((Reason::Deleted, format!("the endpoint was deleted at {at}.")));
    }
    if !message.has_payload {
        return Some((Reason::NoPayload, "its payload was removed.".to_owned()));
    }
    let (at, reason) = endpoint.disabled?;
    Some((Reason::Disabled, format!("the endpoint {}", disabled(at, reason))))
}

/// Judges a message that was never queued for the endpoint, by the endpoint's settings of today.
fn never_queued(message: &Message<'_>, endpoint: &Endpoint<'_>) -> Judgement {
    let accepted = message.created_at;
    if endpoint.created_at > accepted {
        let at = endpoint.created_at;
        let text =
            format!("The endpoint was created at {at}, after the message; a replay of missing messages sends it.");
        return not_sent(Some(Reason::CreatedLater), text);
    }
    if let Some(at) = endpoint.deleted_at.filter(|at| *at <= accepted) {
        return not_sent(
            Some(Reason::Deleted),
            format!("The endpoint was deleted at {at}, before the message."),
        );
    }
    let disabled_before = endpoint.disabled.filter(|(at, _)| at.is_none_or(|at| at <= accepted));
    let (reason, text) = match (disabled_before, unwanted(message, endpoint.filter)) {
        (Some((at, why)), _) => (Some(Reason::Disabled), format!("The endpoint {}", disabled(at, why))),
        (None, Some((reason, text))) => (Some(reason), text),
        (None, None) => {
            let text = "By its settings of today the endpoint would get it. Its settings were others when the message \
                        was accepted, or the message was for another endpoint alone.";
            (None, text.to_owned())
        }
    };
    not_sent(reason, text + &changed_since(endpoint.updated_at, accepted))
}

/// Says how far consumers of a poller are that has a message: for each whether it has confirmed the message.
pub fn readable(confirmed: &[bool]) -> String {
    let count = confirmed.iter().filter(|is_so| **is_so).count();
    match (count, confirmed.len()) {
        (_, 0) => "It can be read. There is no consumer; a reader that keeps its place itself is not known.".to_owned(),
        (1, 1) => "It can be read, and the only consumer has confirmed it.".to_owned(),
        (0, 1) => "It can be read. The only consumer has not confirmed it yet.".to_owned(),
        (count, all) => format!("It can be read. {count} of {all} consumers have confirmed it."),
    }
}

/// Returns why a poller does not have a message, by its settings of today, with the words for it.
pub fn left_out(message: &Message<'_>, poller: &Poller<'_>) -> (Option<Reason>, String) {
    let at = poller.created_at;
    if at > message.created_at {
        let text = format!("The poller was created at {at}, after the message.");
        return (Some(Reason::CreatedLater), text);
    }
    let (reason, text) = match (poller.disabled, unwanted(message, poller.filter)) {
        (true, _) => (Some(Reason::Disabled), "The poller is disabled.".to_owned()),
        (false, Some((reason, text))) => (Some(reason), text),
        (false, None) => {
            let text = "By its settings of today the poller would have it. Its settings were others when \
                        the message was accepted, or the message was for one endpoint alone.";
            (None, text.to_owned())
        }
    };
    (reason, text + &changed_since(poller.updated_at, message.created_at))
}

/// Says that something was changed after the message was accepted; nothing if it was not.
fn changed_since(updated_at: Timestamp, accepted: Timestamp) -> String {
    match updated_at > accepted {
        true => format!(" It was changed at {updated_at}, after the message: this is judged by its settings of today."),
        false => String::new(),
    }
}

/// Returns why a filter leaves a message out; `None` means that the message passes it.
fn unwanted(message: &Message<'_>, filter: EndpointFilter<'_>) -> Option<(Reason, String)> {
    let by_type = EndpointFilter {
        channels: None,
        ..filter
    };
    let event_type = message.event_type;
    if !accepts(&by_type, event_type, message.channels) {
        let wanted = listed(filter.event_types.unwrap_or_default());
        let unknown = match message.is_registered {
            true => "",
            false => " No event type has this name: is it misspelt?",
        };
        let text = format!("The message is of type {event_type}, and the endpoint wants only {wanted}.{unknown}");
        return Some((Reason::EventType, text));
    }
    if !accepts(&filter, event_type, message.channels) {
        let wanted = listed(filter.channels.unwrap_or_default());
        let has = match message.channels {
            [] => "The message is on no channel".to_owned(),
            channels => format!("The message is on {}", listed(channels)),
        };
        let text = format!("{has}, and the endpoint wants only what is on {wanted}.");
        return Some((Reason::Channel, text));
    }
    None
}

fn not_sent(reason: Option<Reason>, text: String) -> Judgement {
    Judgement {
        verdict: Verdict::NotSent,
        reason,
        text,
    }
}

/// Says since when and why an endpoint is disabled.
fn disabled(at: Option<Timestamp>, reason: Option<DisabledReason>) -> String {
    let since = at.map_or_else(String::new, |at| format!(" since {at}"));
    let why = match reason {
        Some(DisabledReason::Manual) => ": a person or a program disabled it.",
        Some(DisabledReason::Gone) => ": its receiver answered 410 Gone.",
        Some(DisabledReason::Failing) => ": it failed for too long.",
        None => ".",
    };
    format!("is disabled{since}{why}")
}

/// Lists names, and how many more there are.
fn listed(names: &[String]) -> String {
    let shown = &names[..names.len().min(MOST_NAMES)];
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Timestamp = Timestamp(1_000_000);
    const ACCEPTED: Timestamp = Timestamp(2_000_000);
    const LATER: Timestamp = Timestamp(3_000_000);

    fn message() -> Message<'static> {
        Message {
            event_type: "order.paid",
            is_registered: true,
            channels: &[],
            created_at: ACCEPTED,
            has_payload: true,
        }
    }

    fn endpoint() -> Endpoint<'static> {
        Endpoint {
            filter: EndpointFilter::default(),
            disabled: None,
            created_at: BEFORE,
            updated_at: BEFORE,
            deleted_at: None,
        }
    }

    /// Judges a message that was never queued for this endpoint.
    fn judged(message: &Message<'_>, endpoint: &Endpoint<'_>) -> (Option<Reason>, String) {
        let judgement = judge(message, endpoint, None, None, &Tries::default());
        assert_eq!(judgement.verdict, Verdict::NotSent);
        (judgement.reason, judgement.text)
    }

    #[test]
    fn a_row_in_the_queue_is_told_from_a_result() {
        let row = |is_leased| {
            Some(Queued {
                is_leased,
                due_at: None,
            })
        };
        for (result, queued, state) in [
            (None, None, None),
            (None, row(false), Some(State::Waiting)),
            (None, row(true), Some(State::Sending)),
            (Some(ResultState::Waiting), row(true), Some(State::Sending)),
            (Some(ResultState::Failed), None, Some(State::Failed)),
            (Some(ResultState::Failed), row(false), Some(State::Waiting)),
            (Some(ResultState::Delivered), row(true), Some(State::Delivered)),
        ] {
            assert_eq!(state_of(result, queued), state, "{result:?}, {queued:?}");
        }
    }

    #[test]
    fn the_first_reason_that_holds_is_told() {
        let names = ["order.shipped".to_owned()];
        let typed = EndpointFilter {
            event_types: Some(&names),
            channels: Some(&names),
        };
        let channelled = EndpointFilter {
            event_types: None,
            channels: Some(&names),
        };
        let at = |filter| Endpoint { filter, ..endpoint() };
        let disabled = |since| Endpoint {
            disabled: Some((Some(since), Some(DisabledReason::Gone))),
            ..at(typed)
        };
        for (endpoint, reason, word) in [
            (at(typed), Reason::EventType, "wants only order.shipped."),
            (at(channelled), Reason::Channel, "on no channel"),
            (disabled(BEFORE), Reason::Disabled, "410 Gone"),
            (disabled(LATER), Reason::EventType, "order.shipped"),
            (
                Endpoint {
                    created_at: LATER,
                    ..disabled(LATER)
                },
                Reason::CreatedLater,
                "after the message",
            ),
            (
                Endpoint {
                    deleted_at: Some(BEFORE),
                    ..at(typed)
                },
                Reason::Deleted,
                "before the message",
            ),
        ] {
            let (found, text) = judged(&message(), &endpoint);
            assert_eq!(found, Some(reason), "{text}");
            assert!(text.contains(word), "{text}");
            assert!(!text.contains("was changed"), "{text}");
        }
    }

    #[test]
    fn a_name_that_no_event_type_has_is_told() {
        let names = ["order.shipped".to_owned()];
        let filter = EndpointFilter {
            event_types: Some(&names),
            channels: None,
        };
        let message = Message {
            is_registered: false,
            ..message()
        };
        let (_, text) = judged(&message, &Endpoint { filter, ..endpoint() });
        assert!(text.contains("No event type has this name"), "{text}");
    }

    #[test]
    fn what_was_changed_since_is_judged_as_it_is_today_and_told_so() {
        let changed = Endpoint {
            updated_at: LATER,
            ..endpoint()
        };
        let (reason, text) = judged(&message(), &changed);
        assert_eq!(reason, None);
        assert!(
            text.contains("would get it") && text.contains("was changed at 1970-01-01T00:00:03"),
            "{text}"
        );
    }

    #[test]
    fn a_delivery_without_an_attempt_has_a_reason_or_none_that_is_known() {
        let ended = |message: &Message<'_>, endpoint: &Endpoint<'_>| {
            judge(message, endpoint, Some(State::Failed), None, &Tries::default()).reason
        };
        assert_eq!(ended(&message(), &endpoint()), None);
        let without = Message {
            has_payload: false,
            ..message()
        };
        assert_eq!(ended(&without, &endpoint()), Some(Reason::NoPayload));
        let deleted = Endpoint {
            deleted_at: Some(LATER),
            ..endpoint()
        };
        assert_eq!(ended(&without, &deleted), Some(Reason::Deleted));
    }

    #[test]
    fn the_words_tell_how_often_it_failed_and_what_comes_next() {
        let tries = Tries {
            attempts: 2,
            last_status: Some(0),
            last_error: Some("the connection was refused".to_owned()),
            last_at: Some(LATER),
        };
        let queued = Queued {
            is_leased: false,
            due_at: Some(LATER),
        };
        let words = |state, queued, endpoint| judge(&message(), &endpoint, Some(state), queued, &tries).text;
        let waits = words(State::Waiting, Some(queued), endpoint());
        let begun = "2 attempts have failed; the last one got no answer: the connection was refused.";
        assert_eq!(waits, format!("{begun} The next attempt is due at {LATER}."));
        let failed = words(State::Failed, None, endpoint());
        assert!(
            failed.starts_with(begun) && failed.contains("No attempt is left"),
            "{failed}"
        );
        let disabled = Endpoint {
            disabled: Some((None, None)),
            ..endpoint()
        };
        let waits = words(State::Waiting, Some(queued), disabled);
        assert!(
            waits.ends_with("It will not be sent: the endpoint is disabled."),
            "{waits}"
        );
    }

    #[test]
    fn a_long_filter_is_cut() {
        let names: Vec<String> = (0..7).map(|n| format!("t{n}")).collect();
        assert_eq!(listed(&names), "t0, t1, t2, t3, t4 and 2 more");
    }
}
