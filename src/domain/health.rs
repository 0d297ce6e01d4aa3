//! What an attempt says of its endpoint: that it works, that it fails, that it has failed for too long or is given up by its
//! owner, and is disabled.
//!
//! A pure decision: no clock, no rows. Called by the sender; settle writes what changes.

use std::time::Duration;

use super::delivery::{Decision, Outcome, Trigger};
use super::timestamp::Timestamp;

/// The answer that says that the endpoint is not there any more and will not come back.
pub const GONE: u16 = 410;

/// The failure of a delivery, counted from one, from which on its endpoint counts as failing: single failures say little, and
/// what is remembered of them would have to be written again and again.
pub const FAILING: i32 = 4;

/// What changes of an endpoint.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    Same,
    /// It works, and had failed before.
    Restored,
    /// A delivery has failed four times or used up its schedule, and none has before since the last success.
    Failing,
    /// It is disabled, if it has not worked meanwhile: it has failed for too long, ever since then.
    Exhausted {
        since: Timestamp,
    },
    /// It is disabled: it answered 410.
    Retired,
}

/// Judges an endpoint that was known to fail since `failing_since` by an attempt that ended at `now`, after
/// `attempts_before` of the same delivery.
///
/// It is disabled when a delivery has used up its schedule and no attempt has succeeded for `patience` (none: never). A
/// failed retry alone does not count: an endpoint that seldom gets messages may have worked in between.
pub fn judge(
    outcome: &Outcome,
    decision: Decision,
    trigger: Trigger,
    attempts_before: i32,
    failing_since: Option<Timestamp>,
    patience: Option<Duration>,
    now: Timestamp,
) -> Standing {
    match outcome {
        Outcome::Gone => return Standing::Same,
        Outcome::Answered(answer) if answer.status == GONE => return Standing::Retired,
        Outcome::Answered(_) | Outcome::NoAnswer { .. } => {}
    }
    let ended = decision == Decision::Failed && trigger == Trigger::Scheduled;
    match failing_since {
        None if decision == Decision::Delivered => Standing::Same,
        None if ended || attempts_before + 1 >= FAILING => Standing::Failing,
        None => Standing::Same,
        Some(_) if decision == Decision::Delivered => Standing::Restored,
        Some(since) if ended && patience.is_some_and(|patience| since.plus(patience) <= now) => {
            Standing::Exhausted { since }
        }
        Some(_) => Standing::Same,
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

    /// Of a scheduled attempt, after so many, at an endpoint that fails since then.
    fn judged(status: u16, decision: Decision, before: i32, since: Option<Timestamp>) -> Standing {
        let outcome = answered(status);
        judge(&outcome, decision, Trigger::Scheduled, before, since, Some(DAYS), NOW)
    }

    #[test]
    fn what_is_known_is_not_said_again() {
        assert_eq!(judged(200, Decision::Delivered, 0, None), Standing::Same);
        assert_eq!(judged(500, RETRY, 3, Some(NOW)), Standing::Same);
        assert_eq!(judged(500, Decision::Failed, 3, Some(NOW)), Standing::Same);
    }

    #[test]
    fn an_endpoint_fails_from_the_fourth_failure_of_a_delivery_or_its_last_one_on() {
        for (before, standing) in [
            (0, Standing::Same),
            (2, Standing::Same),
            (3, Standing::Failing),
            (6, Standing::Failing),
        ] {
            assert_eq!(judged(500, RETRY, before, None), standing, "{before}");
        }
        assert_eq!(judged(500, Decision::Failed, 0, None), Standing::Failing);
    }

    #[test]
    fn a_first_success_after_that_is_news() {
        assert_eq!(judged(204, Decision::Delivered, 0, Some(NOW)), Standing::Restored);
    }

    #[test]
    fn a_schedule_used_up_after_the_whole_patience_disables() {
        let since = NOW.minus(DAYS);
        let exhausted = Standing::Exhausted { since };
        assert_eq!(judged(500, Decision::Failed, 0, Some(since)), exhausted);
        assert_eq!(judged(500, RETRY, 0, Some(since)), Standing::Same, "a retry is left");
        let later = Timestamp(since.0 + 1);
        assert_eq!(judged(500, Decision::Failed, 0, Some(later)), Standing::Same);
        let never = judge(
            &answered(500),
            Decision::Failed,
            Trigger::Scheduled,
            0,
            Some(since),
            None,
            NOW,
        );
        assert_eq!(never, Standing::Same);
    }

    #[test]
    fn a_manual_failure_says_nothing_for_who_tries_by_hand_wants_it_to_work() {
        for since in [None, Some(NOW.minus(DAYS))] {
            let (outcome, trigger) = (answered(500), Trigger::Manual);
            let standing = judge(&outcome, Decision::Failed, trigger, 0, since, Some(DAYS), NOW);
            assert_eq!(standing, Standing::Same);
        }
    }

    #[test]
    fn a_410_disables_at_once_whoever_asked() {
        for trigger in [Trigger::Scheduled, Trigger::Manual] {
            let standing = judge(&answered(410), Decision::Failed, trigger, 0, None, None, NOW);
            assert_eq!(standing, Standing::Retired);
        }
    }

    #[test]
    fn what_was_not_sent_says_nothing() {
        let (gone, scheduled) = (Outcome::Gone, Trigger::Scheduled);
        let standing = judge(&gone, Decision::Failed, scheduled, 3, None, Some(DAYS), NOW);
        assert_eq!(standing, Standing::Same);
    }
}
