//! Finds waiting deliveries that no claim would find: parked rows of endpoints that this process does not know of, and
//! due rows below the floors of its claims.
//!
//! Runs beside the claimer, because both looks read the deleted rows that a held snapshot keeps, and can take long. As
//! long as they find nothing new they take at most a twentieth of the time, unless a look takes more than half a second.
//! Must not claim anything.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::slots::Slots;
use crate::store::database::outage;
use crate::store::{Store, queue};

/// The usual pause between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// The least pause if there is more to find. With it and [`REST_BETWEEN`], 100,000 endpoints are known some seconds
/// after a start.
const PAUSE_BETWEEN: Duration = Duration::from_millis(50);
/// How many times as long as the last look the pause is at least, if there is more to find.
const REST_BETWEEN: u32 = 4;
/// Endpoints with parked rows that one look finds at most.
const ENDPOINTS: usize = 1_024;
/// How many of them are noted under one hold of the slots' lock, because every send waits for that lock.
const ENTERED: usize = 64;
/// How many times as long as the last look the pause is at least, if there is no more to find.
const REST: u32 = 20;
/// The longest pause after a look that took long. What only a look finds waits for this long: after a commit of 2.8 s
/// in a look it was 56 s.
const LONGEST_REST: Duration = Duration::from_secs(10);

pub(super) struct Look {
    store: Store,
    slots: Arc<Slots>,
    /// The endpoint after which the look for parked rows goes on; empty means from the first one.
    after: String,
    /// Whether the first round through all endpoints with parked rows has ended.
    knows_all: bool,
}

/// Returns how long to pause after work that took `took`: `period`, or longer, so that the work takes at most a
/// twentieth of the time. A longer pause than `period` is at most ten seconds.
pub(super) fn rest(period: Duration, took: Duration) -> Duration {
    period.max((took * REST).min(LONGEST_REST))
}

impl Look {
    pub fn new(store: Store, slots: Arc<Slots>) -> Self {
        Self {
            store,
            slots,
            after: String::new(),
            knows_all: false,
        }
    }

    /// Looks again and again until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let clock = self.store.clock().clone();
        while !stop.is_cancelled() {
            let began = clock.monotonic();
            let more = match self.round().await {
                Ok(more) => more,
                Err(err) => {
                    let what = "waiting deliveries that no claim finds could not be looked for; trying again";
                    outage::note_failure(&err, what);
                    false
                }
            };
            let took = clock.monotonic().saturating_sub(began);
            let pause = match more {
                true => PAUSE_BETWEEN.max((took * REST_BETWEEN).min(LONGEST_REST)),
                false => rest(PERIOD, took),
            };
            tokio::select! {
                () = clock.sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Makes one round, which is both looks. Returns whether there is more to find soon.
    pub async fn round(&mut self) -> Result<bool> {
        let discovered = self.discover().await;
        // Even if `discover` has failed: nothing else finds rows below the floors.
        let lifted = queue::lift(&self.store).await?;
        discovered?;
        Ok(lifted || !self.knows_all)
    }

    /// Notes the next endpoints with parked rows, which other processes parked, or this one before a restart. Wakes the
    /// claimer if one of them may have some back at once. After the first round, also forgets rates and floors that are
    /// out of use.
    async fn discover(&mut self) -> Result<()> {
        let found = queue::list_parked(&self.store, &self.after, ENDPOINTS).await?;
        self.after = match found.last() {
            Some(last) if found.len() == ENDPOINTS => last.to_string(),
            _ => String::new(),
        };
        self.knows_all |= self.after.is_empty();
        let mut any_room = false;
        for endpoints in found.chunks(ENTERED) {
            any_room |= self.slots.set_parked(endpoints);
        }
        if any_room {
            self.store.wake();
        }
        if self.knows_all {
            self.slots.forget_unused();
            self.store.floors().forget_unused(self.store.clock().monotonic());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_with_the_work_before_it_to_ten_seconds() {
        let millis = Duration::from_millis;
        assert_eq!(rest(PERIOD, millis(1)), PERIOD);
        assert_eq!(rest(PERIOD, millis(100)), millis(2_000));
        assert_eq!(rest(PERIOD, millis(2_800)), millis(10_000));
        assert_eq!(
            rest(millis(30_000), millis(2_800)),
            millis(30_000),
            "the usual pause stays"
        );
    }
}
