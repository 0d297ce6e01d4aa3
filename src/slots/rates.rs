//! Counts how much of each rate this process has used, by the id of the endpoint or application that has the rate.
//!
//! Must not decide which deliveries wait: it only says when a rate allows more.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::throttle::{Bucket, interval};

/// From this number of buckets on, each new one makes the sweep look at [`SWEPT_BY_NEW`] others. Otherwise their number
/// could grow faster than the sweep comes round.
const MANY: usize = 65_536;
const SWEPT_BY_NEW: usize = 2;

/// The used rates.
#[derive(Default)]
pub(super) struct Rates {
    /// How many processes share the rates. 0, until the first heartbeat, counts as 1.
    pub processes: u32,
    buckets: HashMap<Arc<str>, Bucket>,
    /// The key of each bucket, in the order in which the sweep comes to them.
    sweep: VecDeque<Arc<str>>,
}

impl Rates {
    /// Returns the time between two requests of this process at a rate of `per_second` for all processes.
    pub fn interval(&self, per_second: u32) -> Duration {
        interval(per_second, self.processes)
    }

    /// Returns how many requests may be sent now.
    pub fn free(&self, id: &str, per_second: u32, now: Duration) -> usize {
        self.bucket(id).free(self.interval(per_second), now)
    }

    /// Returns the instant at which a look for rows that wait for this rate is worth its cost: when it allows half a
    /// burst.
    pub fn ready_at(&self, id: &str, per_second: u32) -> Duration {
        self.bucket(id).ready_at(self.interval(per_second))
    }

    /// Counts one request that is sent now.
    pub fn take(&mut self, id: &Arc<str>, per_second: u32, now: Duration) {
        let interval = self.interval(per_second);
        if let Some(bucket) = self.buckets.get_mut(id) {
            bucket.take(interval, now);
            return;
        }
        if self.sweep.len() > MANY {
            self.forget_unused(now, SWEPT_BY_NEW);
        }
        let mut bucket = Bucket::default();
        bucket.take(interval, now);
        self.buckets.insert(id.clone(), bucket);
        self.sweep.push_back(id.clone());
    }

    /// Looks at the next `count` buckets and forgets those that are the same as new ones.
    pub fn forget_unused(&mut self, now: Duration, count: usize) {
        for _ in 0..count.min(self.sweep.len()) {
            let Some(id) = self.sweep.pop_front() else { return };
            if self.bucket(&id).is_unused(now) {
                self.buckets.remove(&id);
            } else {
                self.sweep.push_back(id);
            }
        }
    }

    fn bucket(&self, id: &str) -> Bucket {
        self.buckets.get(id).copied().unwrap_or_default()
    }
}
