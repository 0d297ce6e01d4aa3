//! Remembers the floors: the places in the indexes at which the claims of this process begin to read.
//!
//! While a snapshot is held (a dump, a replication slot, an abandoned report), Postgres keeps every index entry that
//! was deleted since. A claim that began at the start of its index would read all of them: 200 ms after a million
//! deliveries. So each process remembers for each lane the due time up to which its claims have taken all rows, and for
//! each endpoint the id up to which they have leased its parked rows. The next claim begins a little below.
//!
//! A row can still appear below a floor: its transaction committed late, another process had locked it and rolled back,
//! or a clock stepped. [`lift`](super::lift) finds such due rows beside the claims and makes them due now. Parked rows
//! below a floor are found by a claim without one, every 30 s for each endpoint; those that this process itself commits so
//! late make it forget the floor. SQLite leaves no deleted entries in an
//! index: there the floors stay at the start.
//!
//! The claimer's task writes the floors: those of lanes after its commit, those of parked rows before it, and it
//! forgets them if the commit fails. The look's task forgets unused ones. Claims, parking, `lift` and the depth read
//! them. No order among these is needed: a floor that is too low costs time, and rows below one that is too high are
//! found as described.
//!
//! Must not query: claims and looks do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::domain::typed_id::{DeliveryId, EndpointId};
use crate::slots::Lane;

/// How far below the last claimed row the next claim begins: for transactions that commit some time after their rows
/// are due, and for clocks that differ by some milliseconds. A claim reads the entries that were deleted in this time:
/// at 4,000 deliveries a second 4,000 of them, in 1 ms. With five seconds it took 5 ms; commits that come later than
/// that are rare too, and left to [`lift`](super::lift).
pub const TOLERANCE: Duration = Duration::from_secs(1);
const TOLERANCE_US: i64 = TOLERANCE.as_micros() as i64;
/// How often the parked rows of an endpoint are claimed without a floor.
const WITHOUT_FLOOR: Duration = Duration::from_secs(30);

/// The floors of one process.
pub struct Floors {
    /// The due times above which claims look, in microseconds, by lane.
    lanes: [AtomicI64; 2],
    parked: Mutex<HashMap<EndpointId, Brought>>,
}

/// The floor of an endpoint's parked rows.
struct Brought {
    /// Rows with ids from before this instant have been leased: ids begin with the instant at which they were made.
    until: Timestamp,
    /// When the rows were last claimed without a floor, by the monotonic clock.
    looked_at: Duration,
}

impl Default for Floors {
    fn default() -> Self {
        Self {
            lanes: [AtomicI64::new(i64::MIN), AtomicI64::new(i64::MIN)],
            parked: Mutex::default(),
        }
    }
}

impl Floors {
    /// Returns the due time above which a claim of `lane` looks.
    pub fn of(&self, lane: Lane, now: Timestamp) -> Timestamp {
        // If the clock has stepped back, rows that are due now lie below the remembered floor.
        let floor = self.lanes[lane as usize].load(Ordering::Relaxed);
        Timestamp(floor.min(now.0.saturating_sub(TOLERANCE_US)))
    }

    /// Remembers that this process has committed a claim of everything in `lane` that was due until `drained`.
    pub fn raise(&self, lane: Lane, drained: Timestamp) {
        let floor = drained.0.saturating_sub(TOLERANCE_US);
        self.lanes[lane as usize].store(floor, Ordering::Relaxed);
    }

    /// Raises all floors to `now`, because a claim read for so long that Postgres ended it. Due rows below are left to
    /// [`lift`](super::lift), parked ones to the next claim without a floor.
    pub fn begin_at(&self, now: Timestamp) {
        for lane in [Lane::First, Lane::Retry] {
            self.raise(lane, now);
        }
        for brought in self.parked().values_mut() {
            brought.until = Timestamp(now.0.saturating_sub(TOLERANCE_US));
        }
    }

    /// Returns the id from which a claim of the endpoint's parked rows looks; empty means from the first one. Once in
    /// 30 s it is empty, and this notes the instant.
    pub(crate) fn first_parked(&self, endpoint: &EndpointId, now: Duration) -> String {
        let mut parked = self.parked();
        match parked.get_mut(endpoint) {
            Some(brought) if now.saturating_sub(brought.looked_at) < WITHOUT_FLOOR => {
                return Prefix::Delivery.first_id_at(brought.until);
            }
            Some(brought) => brought.looked_at = now,
            None => {
                let brought = Brought {
                    until: Timestamp(0),
                    looked_at: now,
                };
                parked.insert(endpoint.clone(), brought);
            }
        }
        String::new()
    }

    /// Remembers that the endpoint's parked rows up to the id `last` are leased. Called before the claim commits.
    pub(crate) fn raise_parked(&self, endpoint: &EndpointId, last: &DeliveryId) {
        if let Some(brought) = self.parked().get_mut(endpoint)
            && let Some(at) = Prefix::Delivery.instant_of(last.as_str())
        {
            brought.until = Timestamp(at.0.saturating_sub(TOLERANCE_US));
        }
    }

    /// Forgets the floors of endpoints, because rows with old ids were parked or have committed late, or because the
    /// claim that raised the floors did not commit.
    pub fn forget_parked<'a>(&self, endpoints: impl IntoIterator<Item = &'a EndpointId>) {
        let mut parked = self.parked();
        for endpoint in endpoints {
            parked.remove(endpoint);
        }
    }

    /// Forgets the floors of endpoints that are due for a claim without one anyway, so that memory follows what is in
    /// use.
    pub fn forget_unused(&self, now: Duration) {
        self.parked()
            .retain(|_, brought| now.saturating_sub(brought.looked_at) < WITHOUT_FLOOR);
    }

    fn parked(&self) -> MutexGuard<'_, HashMap<EndpointId, Brought>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    #[test]
    fn a_floor_begins_below_everything_and_stays_a_tolerance_below_now() {
        let floors = Floors::default();
        assert_eq!(floors.of(Lane::First, NOW), Timestamp(i64::MIN));
        floors.raise(Lane::First, NOW);
        assert_eq!(floors.of(Lane::First, NOW), Timestamp(NOW.0 - TOLERANCE_US));
        assert_eq!(
            floors.of(Lane::Retry, NOW),
            Timestamp(i64::MIN),
            "each lane has its own"
        );
        let stepped_back = Timestamp(NOW.0 - 60_000_000);
        assert_eq!(
            floors.of(Lane::First, stepped_back),
            Timestamp(stepped_back.0 - TOLERANCE_US)
        );
    }

    #[test]
    fn parked_rows_are_looked_for_from_the_last_one_and_now_and_then_from_the_first() {
        let floors = Floors::default();
        let endpoint: EndpointId = "ep_1".into();
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(floors.first_parked(&endpoint, at(100)), "");
        floors.raise_parked(&endpoint, &Prefix::Delivery.first_id_at(NOW).into());
        let floor = Prefix::Delivery.first_id_at(Timestamp(NOW.0 - TOLERANCE_US));
        assert_eq!(floors.first_parked(&endpoint, at(129)), floor);
        assert_eq!(floors.first_parked(&endpoint, at(130)), "", "30 s later");
        assert_eq!(floors.first_parked(&endpoint, at(131)), floor);
        floors.forget_parked([&endpoint]);
        assert_eq!(floors.first_parked(&endpoint, at(132)), "");
        floors.begin_at(NOW);
        assert_eq!(
            floors.first_parked(&endpoint, at(133)),
            floor,
            "a claim without it read for too long"
        );
    }
}
