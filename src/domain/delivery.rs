//! Decides what becomes of a delivery after an attempt: it is delivered, tried again at a certain time, or failed. Also
//! makes the text that is kept of an answer's body.
//!
//! Pure: no clock, no random numbers, no rows. The sender makes the outcomes, the settler writes the decisions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sea_orm::{DeriveActiveEnum, EnumIter};
use std::time::Duration;

use super::retry::RetrySchedule;
use super::timestamp::Timestamp;

/// The status by which a receiver says that the endpoint is gone and will not come back (RFC 9110, section 15.5.11).
pub(crate) const HTTP_GONE: u16 = 410;

/// The most bytes that are kept of an answer's body.
const ANSWER_MAX: usize = 20_000;

/// The cause of a delivery.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum Trigger {
    /// The message was accepted. Failed attempts are repeated by the retry schedule.
    #[sea_orm(num_value = 0)]
    Scheduled,
    /// A person or program asked for the delivery. It has a single attempt, which is never repeated.
    #[sea_orm(num_value = 1)]
    Manual,
}

/// The state of a result: how far a message has come at an endpoint. `Delivered` is never overwritten.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum ResultState {
    #[sea_orm(num_value = 0)]
    Delivered,
    /// The last attempt failed, and a retry is scheduled.
    #[sea_orm(num_value = 1)]
    Waiting,
    #[sea_orm(num_value = 2)]
    Failed,
}

/// A receiver's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: u16,
    /// The text that is kept of the body, as [`answer_text`] or [`unfinished_answer_text`] makes it.
    pub body: String,
    /// The wait for which the receiver asked by a Retry-After header; `None` means no valid header.
    pub retry_after: Option<Duration>,
}

/// The end of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The receiver answered, with any status.
    Answered(Answer),
    /// The receiver gave no answer: the connection was refused or reset, the time was up, the name did not resolve, or
    /// the address must not be called. `error` says which.
    NoAnswer { error: String },
    /// The endpoint, its application or the payload is gone, or the delivery was made already. Nothing was sent, and no
    /// attempt is recorded.
    NotSent,
}

impl Outcome {
    /// Returns whether the receiver could cope with the attempt. A status of 429 or 5xx, or no answer, means that it is
    /// overloaded or broken.
    pub fn receiver_coped(&self) -> bool {
        match self {
            Outcome::Answered(answer) => answer.status != 429 && answer.status < 500,
            Outcome::NoAnswer { .. } => false,
            Outcome::NotSent => true,
        }
    }

    /// Returns how long the receiver asked to get no requests, by the Retry-After of a 429 or 503. `None` means it did
    /// not ask.
    pub fn asked_rest(&self) -> Option<Duration> {
        match self {
            Outcome::Answered(answer) if matches!(answer.status, 429 | 503) => answer.retry_after,
            _ => None,
        }
    }
}

/// An attempt that has ended.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Attempt<'a> {
    pub outcome: &'a Outcome,
    pub trigger: Trigger,
    /// The number of attempts of the delivery before this one. All of them failed.
    pub attempts_made: i32,
    pub ended_at: Timestamp,
}

/// What becomes of a delivery.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    Delivered,
    /// The delivery is tried again, not before `at`.
    Retry {
        at: Timestamp,
    },
    /// The delivery ends without success.
    Failed,
}

/// Returns whether an answer with this status means that the receiver has the message.
pub(crate) fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Returns the status of an answer in words.
pub(crate) fn answered(status: i32) -> String {
    format!("it answered {status}")
}

/// Decides what becomes of a delivery after an attempt.
///
/// Only an answer of 2xx is a success. A 410 ends the delivery, because it disables the endpoint. `jitter` returns
/// a number from -1 to 1; only a retry asks for it.
pub(crate) fn decide(attempt: &Attempt<'_>, schedule: &RetrySchedule, jitter: impl FnOnce() -> f64) -> Decision {
    let retry_after = match attempt.outcome {
        Outcome::Answered(answer) if is_success(answer.status) => {
            return Decision::Delivered;
        }
        Outcome::NotSent => return Decision::Failed,
        Outcome::Answered(answer) if answer.status == HTTP_GONE => return Decision::Failed,
        Outcome::Answered(answer) => answer.retry_after,
        Outcome::NoAnswer { .. } => None,
    };
    if attempt.trigger == Trigger::Manual {
        return Decision::Failed;
    }
    let failed_attempts = u32::try_from(attempt.attempts_made).unwrap_or(0) + 1;
    schedule
        .next_delay(failed_attempts, retry_after, jitter())
        .map_or(Decision::Failed, |delay| Decision::Retry {
            at: attempt.ended_at.plus(delay),
        })
}

/// Returns the text that is kept of an answer's body: its first 20,000 bytes, in base64 if they are not UTF-8.
///
/// U+0000 becomes U+FFFD, because Postgres cannot store U+0000. A character that the cut splits is left out. A body of
/// exactly 20,000 bytes counts as cut too.
pub fn answer_text(bytes: &[u8]) -> String {
    text_of(&bytes[..bytes.len().min(ANSWER_MAX)], bytes.len() >= ANSWER_MAX)
}

/// Returns the text that is kept of a body that broke off: the part that arrived, and `ending` in parentheses. Both
/// together have at most 20,000 bytes.
pub fn unfinished_answer_text(bytes: &[u8], ending: &str) -> String {
    let room = ANSWER_MAX.saturating_sub(ending.len() + "\n()".len());
    let text = text_of(&bytes[..bytes.len().min(room)], true);
    let line_end = if text.is_empty() { "" } else { "\n" };
    format!("{text}{line_end}({ending})")
}

/// Returns bytes as text, in base64 if they are not UTF-8. If they are cut, a split character at the end is left out.
fn text_of(kept: &[u8], is_cut: bool) -> String {
    let text = match std::str::from_utf8(kept) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && is_cut => {
            std::str::from_utf8(&kept[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return STANDARD.encode(kept),
    };
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use sea_orm::ActiveEnum;

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_408_994_464_929);

    fn answered(status: u16) -> Outcome {
        Outcome::Answered(Answer {
            status,
            body: String::new(),
            retry_after: None,
        })
    }

    fn no_answer() -> Outcome {
        Outcome::NoAnswer {
            error: "connection refused".to_owned(),
        }
    }

    /// Decides about the attempt with this number, the first of a delivery being 1.
    fn decided_by(schedule: &str, outcome: &Outcome, trigger: Trigger, number: i32) -> Decision {
        let attempt = Attempt {
            outcome,
            trigger,
            attempts_made: number - 1,
            ended_at: NOW,
        };
        decide(&attempt, &schedule.parse().unwrap(), || 0.0)
    }

    fn decided(outcome: &Outcome, trigger: Trigger, number: i32) -> Decision {
        decided_by("5, 300", outcome, trigger, number)
    }

    fn retry_in(seconds: u64) -> Decision {
        Decision::Retry {
            at: NOW.plus(Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn every_2xx_answer_is_delivered_whatever_the_trigger_and_count() {
        for status in [200, 201, 202, 204, 299] {
            for trigger in [Trigger::Scheduled, Trigger::Manual] {
                assert_eq!(decided(&answered(status), trigger, 1), Decision::Delivered, "{status}");
                assert_eq!(decided(&answered(status), trigger, 99), Decision::Delivered, "{status}");
            }
        }
    }

    #[test]
    fn every_other_answer_is_retried_by_schedule() {
        for status in [100, 199, 300, 301, 302, 304, 400, 401, 404, 429, 500, 503, 599, 999] {
            assert_eq!(
                decided(&answered(status), Trigger::Scheduled, 1),
                retry_in(5),
                "{status}"
            );
            assert_eq!(
                decided(&answered(status), Trigger::Scheduled, 2),
                retry_in(300),
                "{status}"
            );
        }
        assert_eq!(decided(&no_answer(), Trigger::Scheduled, 1), retry_in(5));
    }

    #[test]
    fn the_last_failed_attempt_ends_the_delivery() {
        assert_eq!(decided(&answered(500), Trigger::Scheduled, 3), Decision::Failed);
        assert_eq!(decided(&no_answer(), Trigger::Scheduled, 3), Decision::Failed);
        let one_attempt = "";
        assert_eq!(
            decided_by(one_attempt, &no_answer(), Trigger::Scheduled, 1),
            Decision::Failed
        );
    }

    #[test]
    fn a_410_is_not_tried_again() {
        assert_eq!(decided(&answered(410), Trigger::Scheduled, 1), Decision::Failed);
    }

    #[test]
    fn a_manual_attempt_is_never_rescheduled() {
        assert_eq!(decided(&answered(500), Trigger::Manual, 1), Decision::Failed);
        assert_eq!(decided(&no_answer(), Trigger::Manual, 1), Decision::Failed);
    }

    #[test]
    fn what_is_gone_fails_without_a_retry() {
        assert_eq!(decided(&Outcome::NotSent, Trigger::Scheduled, 1), Decision::Failed);
        assert_eq!(decided(&Outcome::NotSent, Trigger::Manual, 1), Decision::Failed);
    }

    #[test]
    fn retry_after_moves_the_retry() {
        let outcome = Outcome::Answered(Answer {
            status: 503,
            body: String::new(),
            retry_after: Some(Duration::from_secs(60)),
        });
        assert_eq!(decided(&outcome, Trigger::Scheduled, 1), retry_in(60));
        assert_eq!(decided(&outcome, Trigger::Scheduled, 3), Decision::Failed);
    }

    #[test]
    fn a_receiver_that_answers_429_or_5xx_or_nothing_gets_too_much() {
        for status in [429, 500, 502, 503, 504, 599] {
            assert!(!answered(status).receiver_coped(), "{status}");
        }
        for status in [200, 204, 301, 400, 404, 410] {
            assert!(answered(status).receiver_coped(), "{status}");
        }
        assert!(!no_answer().receiver_coped());
    }

    #[test]
    fn retry_after_asks_for_a_rest_where_it_comes_with_429_or_503() {
        for (status, rest) in [(429, true), (503, true), (500, false), (200, false), (301, false)] {
            let outcome = Outcome::Answered(Answer {
                status,
                body: String::new(),
                retry_after: Some(Duration::from_secs(7)),
            });
            assert_eq!(outcome.asked_rest().is_some(), rest, "{status}");
        }
        assert_eq!(answered(503).asked_rest(), None);
    }

    #[test]
    fn enums_are_stored_as_the_numbers_of_the_contract() {
        assert_eq!(
            [Trigger::Scheduled, Trigger::Manual].map(|trigger| trigger.to_value()),
            [0, 1]
        );
        let states = [ResultState::Delivered, ResultState::Waiting, ResultState::Failed];
        assert_eq!(states.map(|state| state.to_value()), [0, 1, 2]);
    }

    #[test]
    fn answer_text_is_the_body_as_it_came() {
        assert_eq!(answer_text(b""), "");
        assert_eq!(answer_text("grüße 🚀\n".as_bytes()), "grüße 🚀\n");
    }

    #[test]
    fn answer_text_replaces_nul() {
        assert_eq!(answer_text(b"a\0b\0"), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn answer_text_is_cut_at_20000_bytes_between_characters() {
        assert_eq!(answer_text(&[b'x'; 20_000]).len(), 20_000);
        assert_eq!(answer_text(&[b'x'; 30_000]).len(), 20_000);
        let split = "x".repeat(19_998) + "🚀" + "rest";
        assert_eq!(answer_text(split.as_bytes()), "x".repeat(19_998));
        assert_eq!(answer_text(&split.as_bytes()[..20_000]), "x".repeat(19_998));
    }

    #[test]
    fn an_answer_that_is_not_utf_8_is_kept_as_base64() {
        assert_eq!(answer_text(b"\xff\xfe\0"), "//4A");
        assert_eq!(answer_text("ü".as_bytes().split_last().unwrap().1), "ww==");
        let mut long = vec![b'x'; 30_000];
        long[0] = 0xff;
        assert_eq!(answer_text(&long), STANDARD.encode(&long[..20_000]));
    }

    #[test]
    fn bytes_past_the_cut_do_not_matter() {
        let mut long = vec![b'x'; 30_000];
        long[25_000] = 0xff;
        assert_eq!(answer_text(&long).len(), 20_000);
    }

    #[test]
    fn a_body_that_was_cut_off_is_kept_with_a_remark() {
        assert_eq!(unfinished_answer_text(b"half", "ended early"), "half\n(ended early)");
        assert_eq!(unfinished_answer_text(b"", "ended early"), "(ended early)");
        let split = "gr\u{fc}".as_bytes().split_last().unwrap().1;
        assert_eq!(
            unfinished_answer_text(split, "e"),
            "gr\n(e)",
            "the cut runs through a character"
        );
        let long = unfinished_answer_text(&[b'x'; 30_000], "ended early");
        assert_eq!(long.len(), 20_000);
        assert!(long.ends_with("x\n(ended early)"));
    }
}
