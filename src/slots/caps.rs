//! The caps: how many deliveries may be in flight, as configured, and how many of these slots are kept for first
//! attempts.
//!
//! Must not count what is in flight: state.rs does.

/// A quarter of the slots (one in this many) is kept for first attempts, so that retries of broken endpoints do not
/// delay new messages.
const KEPT_FOR_FIRST: usize = 4;

/// The configured caps.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// The most deliveries in flight in this process.
    pub process: usize,
    /// The most deliveries in flight to one endpoint.
    pub endpoint: usize,
}

impl Caps {
    /// Returns how many slots a lane can have.
    pub(super) fn of(&self, lane: Lane) -> usize {
        match lane {
            Lane::First => self.process,
            Lane::Retry => self.process - self.process / KEPT_FOR_FIRST,
        }
    }

    /// Returns how many slots of `lane` are free if `in_flight` are taken, and `retries` of these by retries.
    pub(super) fn free(&self, in_flight: usize, retries: usize, lane: Lane) -> usize {
        let free = self.process.saturating_sub(in_flight);
        match lane {
            Lane::First => free,
            Lane::Retry => free.min(self.of(lane).saturating_sub(retries)),
        }
    }
}

/// One of two kinds of deliveries. Each has a claim and an index of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lane {
    /// First attempts of scheduled deliveries.
    First,
    /// All others: retries, manual deliveries, and parked rows of any kind.
    Retry,
}
