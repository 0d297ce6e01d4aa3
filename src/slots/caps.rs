//! How many deliveries may be in flight, as configured, and how many of these slots are kept for first attempts. Must not
//! count what is in flight: state does.

/// Of four slots, one is kept for first attempts: retries of a broken endpoint cannot hold up a new message.
const KEPT_FOR_FIRST: (usize, usize) = (1, 4);

#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Deliveries in flight in this process.
    pub process: usize,
    /// Deliveries in flight to one endpoint.
    pub endpoint: usize,
}

impl Caps {
    /// The slots of a lane.
    pub(super) fn of(&self, lane: Lane) -> usize {
        let (kept, of) = KEPT_FOR_FIRST;
        match lane {
            Lane::First => self.process,
            Lane::Retry => self.process - self.process * kept / of,
        }
    }

    /// Returns how many slots of `lane` are free if so many are taken, and so many of them by retries.
    pub(super) fn free(&self, in_flight: usize, retries: usize, lane: Lane) -> usize {
        let free = self.process.saturating_sub(in_flight);
        match lane {
            Lane::First => free,
            Lane::Retry => free.min(self.of(lane).saturating_sub(retries)),
        }
    }
}

/// First attempts of scheduled deliveries, or all others: each has a claim and an index of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lane {
    First,
    Retry,
}
