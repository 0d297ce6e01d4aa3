//! Chance with a seed: the same seed makes the same decisions (SplitMix64), so that a run can be made again.

use std::ops::Range;
use std::time::Duration;

/// A source of random numbers.
pub struct Chance(u64);

impl Chance {
    /// Returns a source for the run `run` of the seed `seed`.
    pub fn new(seed: u64, run: u64) -> Self {
        let mut chance = Self(seed ^ run.wrapping_mul(0xd134_2543_de82_ef95));
        chance.next();
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number that is smaller than `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Returns true once in so many calls, on average.
    pub fn once_in(&mut self, calls: u64) -> bool {
        self.below(calls) == 0
    }

    /// Returns a length of time within the range, in milliseconds.
    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.below(range.end - range.start))
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}
