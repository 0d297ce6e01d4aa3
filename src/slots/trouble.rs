//! What is known of an endpoint that answered 429, 5xx, or not at all: how many tries it gets at a time, and its rest.
//! Must not count what is in flight.

use std::time::Duration;

use crate::domain::delivery::Outcome;

/// A Retry-After makes an endpoint rest no longer than this: whoever recovers must not wait until tomorrow.
const LONGEST_REST: Duration = Duration::from_secs(60);

pub(super) struct Trouble {
    /// In flight at most.
    pub limit: usize,
    pub rests_until: Duration,
    pub learned_at: Duration,
    /// Failures since the last success.
    in_a_row: usize,
}

impl Trouble {
    /// Takes in how an attempt ended. Each success allows one more in flight. Each failure allows one less, the second
    /// in a row two less, the third three: sixteen in a row leave one try at a time, and now and then one changes nothing.
    pub fn learn(trouble: &mut Option<Box<Self>>, outcome: &Outcome, cap: usize, now: Duration) {
        if outcome.is_borne() {
            let Some(known) = trouble else { return };
            known.limit = (known.limit + 1).min(cap);
            known.in_a_row = 0;
            if known.limit == cap && known.rests_until <= now {
                *trouble = None;
            }
            return;
        }
        let known = trouble.get_or_insert_with(|| {
            Box::new(Self {
                limit: cap,
                rests_until: Duration::ZERO,
                learned_at: now,
                in_a_row: 0,
            })
        });
        let rest = outcome.asked_rest().unwrap_or_default().min(LONGEST_REST);
        known.in_a_row += 1;
        known.limit = known.limit.saturating_sub(known.in_a_row).max(1);
        known.rests_until = known.rests_until.max(now + rest);
        known.learned_at = now;
    }
}
