//! Chance for tests that cause faults at moments that nobody chose.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Returns a random number that is smaller than `below`.
pub fn random(below: u64) -> u64 {
    RandomState::new().build_hasher().finish() % below
}
