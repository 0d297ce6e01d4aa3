//! Decides what settling an outcome changes. The lease may have been lost, and another row may have delivered the
//! message, while the attempt was under way.
//!
//! Must not decide what becomes of a delivery after an attempt: `delivery` does.

use super::delivery::{Decision, Trigger};
use super::timestamp::Timestamp;

/// What settling an outcome changes. The attempt is always recorded, because it happened.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// A failure under a lost lease: nothing else changes.
    Recorded,
    /// A success under a lost lease: it counts, because the receiver has the message. The row is another lease's, or
    /// waits for one.
    Counted,
    /// The row is due again at `at`.
    Rescheduled { at: Timestamp },
    /// The row ends.
    Finished,
    /// A manual attempt has succeeded: the row ends, and a scheduled retry that waits is no longer needed.
    Resent,
    /// A failure although another row has delivered the message: the row ends, and the result stays.
    Superseded,
}

impl Effect {
    /// Returns the effect of an outcome. `is_held` tells whether its lease still holds, `is_delivered` whether another
    /// row has delivered the message to the endpoint in the meantime.
    pub fn of(decision: Decision, trigger: Trigger, is_held: bool, is_delivered: bool) -> Self {
        match decision {
            Decision::Delivered if !is_held => Self::Counted,
            Decision::Delivered if trigger == Trigger::Manual => Self::Resent,
            Decision::Delivered => Self::Finished,
            Decision::Retry { .. } | Decision::Failed if !is_held => Self::Recorded,
            Decision::Retry { .. } | Decision::Failed if is_delivered => Self::Superseded,
            Decision::Retry { at } => Self::Rescheduled { at },
            Decision::Failed => Self::Finished,
        }
    }

    /// Returns whether the outcome says something about the health of its endpoint.
    pub fn concerns_health(self) -> bool {
        self != Self::Recorded
    }

    /// Returns whether the outcome becomes the result of the message at the endpoint, and may be worth a notice.
    pub fn becomes_result(self) -> bool {
        !matches!(self, Self::Recorded | Self::Superseded)
    }

    /// Returns when the next attempt is due, in microseconds since 1970; `None` means there is none.
    pub fn next_at(self) -> Option<i64> {
        match self {
            Self::Rescheduled { at } => Some(at.0),
            _ => None,
        }
    }

    /// Returns whether the row of the outcome is deleted.
    pub fn ends_row(self) -> bool {
        matches!(self, Self::Finished | Self::Resent | Self::Superseded)
    }

    /// Returns whether other rows of the message at the endpoint are deleted if no process has leased them.
    pub fn ends_waiting_rows(self) -> bool {
        matches!(self, Self::Counted | Self::Resent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(1_795_408_994_464_929);

    #[test]
    fn an_outcome_has_one_effect_for_each_combination_of_what_it_depends_on() {
        use Decision::{Delivered, Failed, Retry};
        use Effect::{Counted, Finished, Recorded, Rescheduled, Resent, Superseded};
        use Trigger::{Manual, Scheduled};

        let again = Rescheduled { at: AT };
        let retry = Retry { at: AT };
        // The effects if the lease is lost or held, for each of them if the message was not delivered by another row or
        // was.
        let table = [
            (Delivered, Scheduled, [Counted, Counted], [Finished, Finished]),
            (Delivered, Manual, [Counted, Counted], [Resent, Resent]),
            (retry, Scheduled, [Recorded, Recorded], [again, Superseded]),
            (retry, Manual, [Recorded, Recorded], [again, Superseded]),
            (Failed, Scheduled, [Recorded, Recorded], [Finished, Superseded]),
            (Failed, Manual, [Recorded, Recorded], [Finished, Superseded]),
        ];
        for (decision, trigger, lost, held) in table {
            for (is_held, effects) in [(false, lost), (true, held)] {
                let found = [false, true].map(|is_delivered| Effect::of(decision, trigger, is_held, is_delivered));
                assert_eq!(found, effects, "{decision:?}, {trigger:?}, held: {is_held}");
            }
        }
    }

    #[test]
    fn an_effect_says_which_statements_take_the_outcome() {
        let again = Effect::Rescheduled { at: AT };
        let table = [
            (Effect::Recorded, [false, false, false, false]),
            (Effect::Counted, [true, true, false, true]),
            (again, [true, true, false, false]),
            (Effect::Finished, [true, true, true, false]),
            (Effect::Resent, [true, true, true, true]),
            (Effect::Superseded, [true, false, true, false]),
        ];
        for (effect, [health, result, row, waiting]) in table {
            assert_eq!(effect.concerns_health(), health, "{effect:?}");
            assert_eq!(effect.becomes_result(), result, "{effect:?}");
            assert_eq!(effect.next_at(), (effect == again).then_some(AT.0), "{effect:?}");
            assert_eq!(effect.ends_row(), row, "{effect:?}");
            assert_eq!(effect.ends_waiting_rows(), waiting, "{effect:?}");
        }
    }
}
