//! Counts attempts: how many delivered their message, how the others failed, and how long answers took.
//!
//! How long answers took is a histogram of fixed buckets, so that tallies of any periods, endpoints and processes can be
//! added up. A percentile that is read from it lies in the same bucket as the true one, so from 5 ms to 30 s it is wrong
//! by a factor of 5/3 at most, and usually by much less: within a bucket answers are taken to be spread evenly, by the
//! logarithm.
//!
//! Must not know where tallies are kept.

use std::time::Duration;

/// Where the buckets end, in milliseconds; each is 1.33 to 1.67 times as long as the one before. Answers that took longer
/// are in one more bucket.
// 5 s is a boundary, so that it is exact whether the 95th percentile of an endpoint is above it.
const ENDS_MS: [i64; 24] = [
    5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000, 5_000, 7_000, 10_000,
    15_000, 20_000, 30_000,
];
/// Where the last bucket is taken to end: no attempt takes much longer.
const LAST_END_MS: i64 = 60_000;
/// The number of buckets.
pub const BUCKETS: usize = ENDS_MS.len() + 1;
/// The first bucket of answers that count as slow: they took [`SLOW`] or longer.
pub const FIRST_SLOW: usize = 19;
/// From which time on an answer is slow.
pub const SLOW: Duration = Duration::from_secs(5);

/// How attempts ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Attempts that were answered with 2xx.
    pub delivered: i64,
    /// All other attempts.
    pub failed: i64,
    pub status_3xx: i64,
    pub status_4xx: i64,
    pub status_5xx: i64,
    /// Answers by the time that they took. Attempts without an answer are not here.
    pub answers: [i64; BUCKETS],
}

impl Tally {
    /// Counts an attempt. A status of 0 means that there was no answer.
    pub fn count(&mut self, delivered: bool, status: i32, duration_ms: i64) {
        match delivered {
            true => self.delivered += 1,
            false => self.failed += 1,
        }
        match status {
            300..=399 => self.status_3xx += 1,
            400..=499 => self.status_4xx += 1,
            500..=599 => self.status_5xx += 1,
            _ => {}
        }
        if status != 0 {
            self.answers[ENDS_MS.partition_point(|end| *end <= duration_ms)] += 1;
        }
    }

    /// Adds the counts of another tally.
    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.status_3xx += other.status_3xx;
        self.status_4xx += other.status_4xx;
        self.status_5xx += other.status_5xx;
        for (own, others) in self.answers.iter_mut().zip(&other.answers) {
            *own += others;
        }
    }

    /// Returns the number of attempts.
    pub fn attempts(&self) -> i64 {
        self.delivered + self.failed
    }

    /// Returns the number of attempts that had no answer, or one whose status is of none of the classes 2xx to 5xx.
    pub fn unanswered(&self) -> i64 {
        self.failed - self.status_3xx - self.status_4xx - self.status_5xx
    }

    /// Returns the time in milliseconds within which this percentage of the answers came, about; `None` if there was no
    /// answer.
    pub fn percentile_ms(&self, percent: i64) -> Option<i64> {
        let answers: i64 = self.answers.iter().sum();
        if answers == 0 {
            return None;
        }
        // The rank of the answer that is asked for, from 1 on.
        let rank = ((answers * percent + 99) / 100).max(1);
        let mut before = 0;
        for (bucket, count) in self.answers.iter().enumerate() {
            if before + count >= rank {
                let share = ((rank - before) as f64 - 0.5) / *count as f64;
                return Some(within(bucket, share));
            }
            before += count;
        }
        None
    }
}

/// Returns the time in milliseconds at a share of a bucket's length: by the logarithm, in the first one in proportion.
fn within(bucket: usize, share: f64) -> i64 {
    let end = ENDS_MS.get(bucket).copied().unwrap_or(LAST_END_MS) as f64;
    let at = match bucket.checked_sub(1) {
        None => end * share,
        Some(before) => {
            let begin = ENDS_MS[before] as f64;
            begin * (end / begin).powf(share)
        }
    };
    at as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations: impl IntoIterator<Item = i64>) -> Tally {
        let mut tally = Tally::default();
        for duration in durations {
            tally.count(true, 200, duration);
        }
        tally
    }

    #[test]
    fn an_attempt_counts_once_and_by_its_class() {
        let mut tally = Tally::default();
        for status in [200, 204, 302, 404, 410, 503, 0, 0, 0] {
            tally.count((200..300).contains(&status), status, 10);
        }
        assert_eq!((tally.delivered, tally.failed, tally.attempts()), (2, 7, 9));
        assert_eq!((tally.status_3xx, tally.status_4xx, tally.status_5xx), (1, 2, 1));
        assert_eq!(tally.unanswered(), 3);
        assert_eq!(tally.answers.iter().sum::<i64>(), 6, "without those that had no answer");
    }

    #[test]
    fn tallies_add_up() {
        let (mut one, other) = (of([1, 20, 300]), of([20, 40_000]));
        one.add(&other);
        assert_eq!(one, of([1, 20, 300, 20, 40_000]));
    }

    #[test]
    fn a_percentile_is_wrong_by_five_thirds_at_most() {
        let mut seed = 1_u64;
        for round in 0..200 {
            let mut durations: Vec<i64> = (0..round + 1)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    5 + (seed >> 33) as i64 % (if round % 2 == 0 { 300 } else { 29_000 })
                })
                .collect();
            let tally = of(durations.iter().copied());
            durations.sort_unstable();
            for percent in [50, 95, 99] {
                let rank = (durations.len() * percent).div_ceil(100);
                let (truth, read) = (
                    durations[rank - 1] as f64,
                    tally.percentile_ms(percent as i64).unwrap() as f64,
                );
                assert!(
                    read / truth < 1.67 && truth / read < 1.7,
                    "{percent} %: {read} for {truth}"
                );
            }
        }
    }

    #[test]
    fn a_percentile_is_above_5_s_exactly_if_more_than_its_share_of_answers_was_slow() {
        let slow_ms = SLOW.as_millis() as i64;
        assert_eq!(ENDS_MS[FIRST_SLOW - 1], slow_ms);
        for (fast, slow) in [(19, 1), (18, 2), (95, 5), (94, 6), (0, 1), (1, 0), (39, 2), (37, 2)] {
            let tally = of(std::iter::repeat_n(4_999, fast).chain(std::iter::repeat_n(5_000, slow)));
            let share = slow * 20 > fast + slow;
            assert_eq!(
                tally.percentile_ms(95).unwrap() >= slow_ms,
                share,
                "{slow} of {}",
                fast + slow
            );
        }
    }

    #[test]
    fn without_an_answer_there_is_no_percentile() {
        let mut tally = Tally::default();
        tally.count(false, 0, 30_000);
        assert_eq!(tally.percentile_ms(50), None);
        assert!(of([0]).percentile_ms(99).is_some());
        assert!(of([90_000]).percentile_ms(50).is_some_and(|ms| ms >= 30_000));
    }
}
