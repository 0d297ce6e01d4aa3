//! Judges an endpoint's health by an attempt: it works, it fails, it has failed for too long, or its receiver says that
//! it is gone for good. In the last two cases the endpoint is to be disabled.
//!
//! A pure decision: no clock, no rows. Must not write the change: the queue's settlement does.

use std::time::Duration;

use poem_openapi::Enum;
use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};

use super::delivery::{Attempt, Decision, HTTP_GONE, Outcome, Trigger};
use super::timestamp::Timestamp;

/// The number of failures of one delivery from which its endpoint counts as failing. Fewer failures say little about
/// the endpoint, and remembering them would write its row whenever it flaps.
pub const FAILING: i32 = 4;

/// How an attempt changes the health of its endpoint.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Health {
    /// Nothing new is known.
    Unchanged,
    /// The endpoint was failing, and works again.
    Restored,
    /// The endpoint begins to count as failing: a delivery has failed [`FAILING`] times or used up its schedule.
    Failing,
    /// The endpoint has failed for too long and is to be disabled, unless it has worked in the meantime.
    Exhausted {
        /// The instant since which it has been failing.
        since: Timestamp,
    },
    /// The receiver answered 410: the endpoint is to be disabled at once.
    Gone410,
}

/// Why an endpoint is disabled.
#[derive(Copy, Clone, Debug, DeriveActiveEnum, Deserialize, EnumIter, Enum, Eq, PartialEq, Serialize)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase")]
pub enum DisabledReason {
    /// A person or a program has disabled it through the API.
    #[sea_orm(num_value = 0)]
    Manual,
    /// Its receiver answered 410.
    #[sea_orm(num_value = 1)]
    Gone,
    /// It has failed for too long.
    #[sea_orm(num_value = 2)]
    Failing,
}

/// Returns how an attempt changes the health of its endpoint.
///
/// `failing_since` is the instant since which the endpoint is known to fail; `None` means it works. An endpoint is to be
/// disabled when a delivery has used up its schedule and no attempt has succeeded for `patience`; `None` means never. A
/// failed retry alone never disables it: an endpoint that seldom gets messages may have worked in between.
pub(crate) fn judge(
    attempt: &Attempt<'_>,
    decision: Decision,
    failing_since: Option<Timestamp>,
    patience: Option<Duration>,
) -> Health {
    match attempt.outcome {
        Outcome::NotSent => return Health::Unchanged,
        Outcome::Answered(answer) if answer.status == HTTP_GONE => return Health::Gone410,
        Outcome::Answered(_) | Outcome::NoAnswer { .. } => {}
    }
    let ended = decision == Decision::Failed && attempt.trigger == Trigger::Scheduled;
    match failing_since {
        None if decision == Decision::Delivered => Health::Unchanged,
        None if ended || attempt.attempts_made + 1 >= FAILING => Health::Failing,
        None => Health::Unchanged,
        Some(_) if decision == Decision::Delivered => Health::Restored,
        Some(since) if ended && patience.is_some_and(|patience| since.plus(patience) <= attempt.ended_at) => {
            Health::Exhausted { since }
        }
        Some(_) => Health::Unchanged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::Answer;

    const NOW: Timestamp = Timestamp(1_795_408_994_464_929);
    const DAYS: Duration = Duration::from_hours(5 * 24);
    const RETRY: Decision = Decision::Retry { at: NOW };

    fn answered(status: u16) -> Outcome {
        Outcome::Answered(Answer {
            status,
            body: String::new(),
            retry_after: None,
        })
    }

    fn ended(outcome: &Outcome, trigger: Trigger, attempts_made: i32) -> Attempt<'_> {
        Attempt {
            outcome,
            trigger,
            attempts_made,
            ended_at: NOW,
        }
    }

    /// Judges a scheduled attempt that `before` others preceded, at an endpoint that has failed since `since`.
    fn judged(status: u16, decision: Decision, before: i32, since: Option<Timestamp>) -> Health {
        let outcome = answered(status);
        let attempt = ended(&outcome, Trigger::Scheduled, before);
        judge(&attempt, decision, since, Some(DAYS))
    }

    #[test]
    fn what_is_known_is_not_said_again() {
        assert_eq!(judged(200, Decision::Delivered, 0, None), Health::Unchanged);
        assert_eq!(judged(500, RETRY, 3, Some(NOW)), Health::Unchanged);
        assert_eq!(judged(500, Decision::Failed, 3, Some(NOW)), Health::Unchanged);
    }

    #[test]
    fn an_endpoint_fails_from_the_fourth_failure_of_a_delivery_or_its_last_one_on() {
        for (before, health) in [
            (0, Health::Unchanged),
            (2, Health::Unchanged),
            (3, Health::Failing),
            (6, Health::Failing),
        ] {
            assert_eq!(judged(500, RETRY, before, None), health, "{before}");
        }
        assert_eq!(judged(500, Decision::Failed, 0, None), Health::Failing);
    }

    #[test]
    fn a_first_success_after_that_is_news() {
        assert_eq!(judged(204, Decision::Delivered, 0, Some(NOW)), Health::Restored);
    }

    #[test]
    fn a_schedule_used_up_after_the_whole_patience_disables() {
        let since = NOW.minus(DAYS);
        let exhausted = Health::Exhausted { since };
        assert_eq!(judged(500, Decision::Failed, 0, Some(since)), exhausted);
        assert_eq!(judged(500, RETRY, 0, Some(since)), Health::Unchanged, "a retry is left");
        let later = Timestamp(since.0 + 1);
        assert_eq!(judged(500, Decision::Failed, 0, Some(later)), Health::Unchanged);
        let outcome = answered(500);
        let attempt = ended(&outcome, Trigger::Scheduled, 0);
        let never = judge(&attempt, Decision::Failed, Some(since), None);
        assert_eq!(never, Health::Unchanged);
    }

    #[test]
    fn a_manual_failure_says_nothing_for_who_tries_by_hand_wants_it_to_work() {
        for since in [None, Some(NOW.minus(DAYS))] {
            let outcome = answered(500);
            let attempt = ended(&outcome, Trigger::Manual, 0);
            let health = judge(&attempt, Decision::Failed, since, Some(DAYS));
            assert_eq!(health, Health::Unchanged);
        }
    }

    #[test]
    fn a_410_disables_at_once_whoever_asked() {
        for trigger in [Trigger::Scheduled, Trigger::Manual] {
            let outcome = answered(410);
            let health = judge(&ended(&outcome, trigger, 0), Decision::Failed, None, None);
            assert_eq!(health, Health::Gone410);
        }
    }

    #[test]
    fn what_was_not_sent_says_nothing() {
        let attempt = ended(&Outcome::NotSent, Trigger::Scheduled, 3);
        let health = judge(&attempt, Decision::Failed, None, Some(DAYS));
        assert_eq!(health, Health::Unchanged);
    }
}
