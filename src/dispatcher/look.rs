//! Looks for what no claim would find: endpoints whose parked rows this process does not know of, and due rows below the
//! floors of its claims.
//!
//! Runs beside the claimer, because both looks read what a held snapshot keeps of the rows that are gone, and can take
//! long. As long as they find nothing new they take at most a twentieth of the time. Must not claim anything.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::slots::Slots;
use crate::store::database::outage;
use crate::store::{Store, queue};

const PERIOD: Duration = Duration::from_secs(1);
/// The pause if the last look has left something, and how many times as long as the look it is at least: 100,000 endpoints
/// are known some seconds after a start.
const GOES_ON: (Duration, u32) = (Duration::from_millis(50), 4);
/// Endpoints with parked rows that one look finds.
const ENDPOINTS: usize = 1_024;
/// Of these, so many are entered at once: meanwhile every send waits.
const ENTERED: usize = 64;
/// Else the pause is at least so many times as long as the look was.
const REST: u32 = 20;

pub(super) struct Look {
    store: Store,
    slots: Arc<Slots>,
    /// Where the look for endpoints with parked rows goes on.
    after: String,
    /// The first round through all of these endpoints has ended.
    knows_all: bool,
}

/// How long to wait after a look that took so long.
pub(super) fn rest(period: Duration, took: Duration) -> Duration {
    period.max(took * REST)
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

    pub async fn run(mut self, stop: CancellationToken) {
        let clock = self.store.clock().clone();
        while !stop.is_cancelled() {
            let began = clock.monotonic();
            let more = match self.turn().await {
                Ok(more) => more,
                Err(err) => {
                    let what = "waiting deliveries that no claim finds could not be looked for; trying again";
                    outage::note_failure(&err, what);
                    false
                }
            };
            let took = clock.monotonic().saturating_sub(began);
            let pause = match more {
                true => GOES_ON.0.max(took * GOES_ON.1),
                false => rest(PERIOD, took),
            };
            tokio::select! {
                () = clock.sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Both looks. Returns whether to go on soon.
    pub async fn turn(&mut self) -> Result<bool> {
        let discovered = self.discover().await;
        // In any case: for rows below the floors there is no other net.
        let lifted = queue::lift(&self.store).await?;
        discovered?;
        Ok(lifted || !self.knows_all)
    }

    /// Finds endpoints with parked rows: parked by other processes, or before a restart.
    async fn discover(&mut self) -> Result<()> {
        let found = queue::list_parked(&self.store, &self.after, ENDPOINTS).await?;
        self.after = match found.last() {
            Some(last) if found.len() == ENDPOINTS => last.to_string(),
            _ => String::new(),
        };
        self.knows_all |= self.after.is_empty();
        let mut any_room = false;
        for some in found.chunks(ENTERED) {
            any_room |= self.slots.set_parked(some);
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
