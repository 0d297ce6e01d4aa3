//! Limits how often a receiver is called. A rate is given in requests per second; its use is kept as a single instant
//! ([`Bucket`]).
//!
//! Pure: the caller gives the time and keeps the buckets.
//!
//! Must not wait, or decide what waits.

use std::time::Duration;

/// The rates that apply to an endpoint, in requests per second. `None` means no rate.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Throttle {
    /// The endpoint's own rate.
    pub endpoint: Option<u32>,
    /// The rate of its application.
    pub app: Option<u32>,
}

/// The part of a rate that may be used at once, or a single request if that is more. A burst lets deliveries go out in
/// batches.
const BURST: Duration = Duration::from_millis(200);

/// Returns the time between two requests of one process, if `processes` share a rate of `per_second` equally.
pub fn interval(per_second: u32, processes: u32) -> Duration {
    let nanos = 1_000_000_000 * u64::from(processes.max(1)) / u64::from(per_second.max(1));
    Duration::from_nanos(nanos)
}

/// The use that was made of a rate. A new bucket is unused.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bucket {
    /// The instant, by the clock of the caller, until which the rate is used up.
    used_until: Duration,
}

impl Bucket {
    /// Returns how many requests may be sent at `now`, at a rate of one every `interval`.
    pub fn free(self, interval: Duration, now: Duration) -> usize {
        let ahead = self.used_until.saturating_sub(now);
        let left = burst(interval).saturating_sub(ahead).as_nanos();
        usize::try_from(left / interval.as_nanos().max(1)).unwrap_or(usize::MAX)
    }

    /// Counts a request that is sent at `now`.
    pub fn take(&mut self, interval: Duration, now: Duration) {
        self.used_until = self.used_until.max(now) + interval;
    }

    /// Returns the instant at which half a burst may be sent. Earlier is not worth a look at what waits; later would
    /// lose a part of the rate.
    pub fn ready_at(self, interval: Duration) -> Duration {
        let burst = burst(interval);
        let whole = burst.as_nanos() / interval.as_nanos().max(1);
        let half = u32::try_from((whole / 2).max(1)).unwrap_or(u32::MAX);
        (self.used_until + interval * half).saturating_sub(burst)
    }

    /// Returns whether the bucket is the same as a new one at `now`.
    pub fn is_unused(self, now: Duration) -> bool {
        self.used_until <= now
    }
}

/// Returns the burst as time: at least long enough for a single request.
fn burst(interval: Duration) -> Duration {
    BURST.max(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many requests are sent in each of `steps`, if each step sends as many as it may.
    fn sent(per_second: u32, processes: u32, step: Duration, steps: u32) -> Vec<usize> {
        let mut bucket = Bucket::default();
        let interval = interval(per_second, processes);
        let at = |index| Duration::from_secs(9) + step * index;
        let in_step = |index| {
            let mut sent = 0;
            while bucket.free(interval, at(index)) > 0 {
                bucket.take(interval, at(index));
                sent += 1;
            }
            sent
        };
        (0..steps).map(in_step).collect()
    }

    #[test]
    fn a_rate_is_a_burst_of_200_ms_and_then_its_number_every_second() {
        let ms = Duration::from_millis(50);
        for rate in [10, 100, 1_000, 10_000, 50_000] {
            let counts = sent(rate, 1, ms, 200);
            assert_eq!(counts[0], rate as usize / 5);
            for second in counts[1..181].chunks(20) {
                assert_eq!(second.iter().sum::<usize>(), rate as usize, "of {rate}");
            }
        }
    }

    #[test]
    fn below_five_a_second_they_go_one_by_one() {
        let counts = sent(1, 1, Duration::from_millis(100), 31);
        assert_eq!(counts.iter().sum::<usize>(), 4);
        assert!([0, 10, 20, 30].iter().all(|at| counts[*at] == 1), "{counts:?}");
    }

    #[test]
    fn processes_have_equal_shares() {
        let alone: usize = sent(100, 1, Duration::from_millis(50), 201).iter().sum();
        let each: usize = sent(100, 4, Duration::from_millis(50), 201).iter().sum();
        assert_eq!((alone, each * 4), (1_020, 1_020));
    }

    #[test]
    fn odd_rates_lose_nothing() {
        for rate in [1, 3, 7, 333, 65_535] {
            let total: usize = sent(rate, 1, Duration::from_millis(20), 500).iter().sum();
            let (least, most) = (rate as usize * 998 / 100, rate as usize * 1_020 / 100 + 1);
            assert!((least..=most).contains(&total), "{total} of {rate} a second in 10 s");
        }
    }

    #[test]
    fn it_is_ready_when_half_a_burst_may_go() {
        let interval = interval(100, 1);
        let mut bucket = Bucket::default();
        let now = Duration::from_secs(5);
        assert!(bucket.ready_at(interval) <= now);
        for _ in 0..20 {
            bucket.take(interval, now);
        }
        assert_eq!(bucket.free(interval, now), 0);
        let ready = bucket.ready_at(interval);
        assert_eq!(ready, now + Duration::from_millis(100));
        assert_eq!(bucket.free(interval, ready), 10);
        assert!(!bucket.is_unused(ready));
        assert!(bucket.is_unused(now + Duration::from_millis(200)));
    }
}
