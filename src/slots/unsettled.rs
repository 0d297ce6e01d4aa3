//! Counts the outcomes that this process has not settled yet, with their bytes: in all, and for each application.
//!
//! A slot is free as soon as an exchange ends, so without a limit outcomes would fill the memory while the database
//! cannot store them. If there are too many, nothing more is sent: deliveries stay in the database. An application may
//! have no more of them than it leaves free.
//!
//! Must not lock or wait: mod.rs does.

use std::cell::Cell;
use std::collections::HashMap;

use super::caps::Caps;
use crate::domain::typed_id::AppId;

/// How many outcomes may wait in any case: as many as come in about a third of a second, at the fastest that one
/// process has delivered.
const FEWEST: usize = 4_096;
/// How many outcomes may wait for each slot. In the worst case one application has all slots, and all of them end after
/// it has reached its limit, which is half of the outcomes: then a quarter is left to others.
const FOR_EACH_SLOT: usize = 4;
/// How many bytes may wait for each outcome that may wait: 48 MiB in all with the usual 1,024 slots. The text of one
/// answer has up to 20 kB.
const BYTES_EACH: usize = 12 * 1024;
/// The bytes of an outcome apart from its texts: ids, and entries in maps and queues.
const OVERHEAD: usize = 1_024;

/// The outcomes that are not settled yet.
#[derive(Default)]
pub(super) struct Unsettled {
    all: Amount,
    applications: HashMap<AppId, Application>,
}

/// A number of outcomes, and their bytes together.
#[derive(Clone, Copy, Default)]
struct Amount {
    outcomes: usize,
    bytes: usize,
}

#[derive(Default)]
struct Application {
    amount: Amount,
    /// Whether a delivery went without a slot because the application has as much as it may. Set by a check that only
    /// reads otherwise, hence the `Cell`.
    held_back: Cell<bool>,
}

impl Amount {
    /// Returns the limit for all applications together.
    fn most(caps: &Caps) -> Self {
        let outcomes = FEWEST.max(caps.process * FOR_EACH_SLOT);
        Self {
            outcomes,
            bytes: outcomes * BYTES_EACH,
        }
    }

    /// Returns whether there are as many outcomes as in `most`, or as many bytes.
    fn reaches(self, most: Self) -> bool {
        self.outcomes >= most.outcomes || self.bytes >= most.bytes
    }

    fn less(self, other: Self) -> Self {
        Self {
            outcomes: self.outcomes.saturating_sub(other.outcomes),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl Unsettled {
    /// Counts an outcome of `app` whose texts have this many `bytes`.
    pub fn add(&mut self, app: &AppId, bytes: usize) {
        let application = self.applications.entry(app.clone()).or_default();
        for amount in [&mut self.all, &mut application.amount] {
            amount.outcomes += 1;
            amount.bytes += bytes + OVERHEAD;
        }
    }

    /// Stops counting an outcome, because it is settled. Returns whether deliveries may have waited for that.
    pub fn remove(&mut self, app: &AppId, bytes: usize, caps: &Caps) -> bool {
        let was_full = self.is_full(caps);
        let Some(application) = self.applications.get_mut(app) else {
            return was_full;
        };
        for amount in [&mut self.all, &mut application.amount] {
            amount.outcomes -= 1;
            amount.bytes -= bytes + OVERHEAD;
        }
        let was_held_back = application.held_back.take();
        if application.amount.outcomes == 0 {
            self.applications.remove(app);
        }
        was_full || was_held_back
    }

    /// Returns whether nothing more may be sent to any endpoint.
    pub fn is_full(&self, caps: &Caps) -> bool {
        self.all.reaches(Amount::most(caps))
    }

    /// Returns whether `app` has at least as much as it leaves free. Nothing more is sent for it then, and other
    /// applications find as much. If so, notes that the application was held back.
    pub fn has_its_share(&self, app: &AppId, caps: &Caps) -> bool {
        let most = Amount::most(caps);
        let free = most.less(self.all);
        // If all applications together have less than is free, each of them has. This saves a lookup in the usual case.
        if !self.all.reaches(free) {
            return false;
        }
        let Some(application) = self.applications.get(app) else {
            return false;
        };
        let has = application.amount.reaches(free);
        if has {
            application.held_back.set(true);
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps {
        process: 64,
        endpoint: 16,
    };

    /// Adds outcomes of `app` until it has as many as it may. Returns how many.
    fn fill(unsettled: &mut Unsettled, app: &AppId, bytes: usize) -> usize {
        let mut count = 0;
        while !unsettled.is_full(&CAPS) && !unsettled.has_its_share(app, &CAPS) {
            unsettled.add(app, bytes);
            count += 1;
        }
        count
    }

    #[test]
    fn an_application_has_no_more_outcomes_than_it_leaves_free() {
        let mut unsettled = Unsettled::default();
        for (app, share) in [("a", 2_048), ("b", 1_024), ("c", 512)] {
            assert_eq!(fill(&mut unsettled, &app.into(), 0), share, "{app}");
        }
        assert!(!unsettled.is_full(&CAPS));
        assert!(unsettled.remove(&"a".into(), 0, &CAPS), "it was held back");
        assert!(!unsettled.remove(&"a".into(), 0, &CAPS), "nothing has asked since then");
    }

    #[test]
    fn bytes_count_as_outcomes_do() {
        let mut unsettled = Unsettled::default();
        let count = fill(&mut unsettled, &"a".into(), 20_000);
        assert!((1_100..1_300).contains(&count), "{count}");
        assert!(fill(&mut unsettled, &"b".into(), 0) > 1_000, "others have room");
    }

    #[test]
    fn whatever_was_in_flight_when_the_cap_was_reached_still_counts_and_its_end_is_told_once() {
        let (mut unsettled, app) = (Unsettled::default(), "a".into());
        for _ in 0..4_100 {
            unsettled.add(&app, 0);
        }
        assert!(unsettled.is_full(&CAPS));
        for _ in 0..5 {
            assert!(unsettled.remove(&app, 0, &CAPS), "it was full");
        }
        assert!(!unsettled.is_full(&CAPS));
        assert!(!unsettled.remove(&app, 0, &CAPS));
    }
}
