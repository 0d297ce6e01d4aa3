//! Learns from the failures of an endpoint (an answer of 429 or 5xx, or none) how many deliveries may be in flight to
//! it, and how long it rests.
//!
//! Must not count what is in flight: state.rs does.

use std::time::Duration;

use crate::domain::delivery::Outcome;

/// The longest rest that a Retry-After gives. An endpoint that recovers early must not wait until tomorrow.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The limit and the rest of an endpoint that fails. Times are by the monotonic clock.
pub(super) struct Trouble {
    /// The most deliveries in flight.
    pub limit: usize,
    /// Until then nothing is sent. A time in the past means that the endpoint does not rest.
    pub rests_until: Duration,
    /// When the last failure came.
    pub learned_at: Duration,
    /// The number of failures since the last success.
    in_a_row: usize,
}

impl Trouble {
    /// Learns from the outcome of an attempt; `cap` is the configured cap, and `None` as `trouble` means that the
    /// endpoint is not in trouble. A success raises the limit by one; when it has reached the cap and no rest is left,
    /// the trouble ends. A failure lowers it by one, the second in a row by two, the third by three: with a cap of 128
    /// sixteen in a row leave one delivery at a time, while a rare failure has no effect for long.
    pub fn learn(trouble: &mut Option<Box<Self>>, outcome: &Outcome, cap: usize, now: Duration) {
        if outcome.receiver_coped() {
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
        // Rejected: halving the limit at each failure, which held back endpoints that fail a quarter of the time;
        // counting down from what is in flight, which punished the last attempts of a burst. A success gives one back,
        // so recovery doubles the limit with every round.
        known.limit = known.limit.saturating_sub(known.in_a_row).max(1);
        known.rests_until = known.rests_until.max(now + rest);
        known.learned_at = now;
    }
}
