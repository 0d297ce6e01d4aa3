//! The number of a poller, by which the rows of its messages name it: each has it twice, and an id would take four times the
//! bytes.
//!
//! Must not be shown: callers know a poller by its id.

use ring::rand::{SecureRandom, SystemRandom};

/// A number that no other poller has, had or will have. Both databases store it as a 64-bit integer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, sea_orm::DeriveValueType)]
pub struct PollerNumber(pub i64);

impl PollerNumber {
    /// Returns a random number above zero.
    ///
    /// It is not counted: a database that was put back to an earlier state would count to the same number again, and a new
    /// poller would read the rows of a deleted one. Panics if the operating system gives no random bytes.
    pub fn generate() -> Self {
        let mut bytes = [0; 8];
        SystemRandom::new()
            .fill(&mut bytes)
            .expect("the operating system gives random bytes");
        Self((i64::from_le_bytes(bytes) & i64::MAX).max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_are_above_zero_and_none_comes_twice() {
        let numbers: HashSet<_> = (0..10_000).map(|_| PollerNumber::generate()).collect();
        assert_eq!(numbers.len(), 10_000);
        assert!(numbers.iter().all(|number| number.0 > 0));
    }
}
