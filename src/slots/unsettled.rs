//! Counts what this process has sent and not yet settled, in all and by application, in outcomes and in bytes. While there
//! is too much of it nothing more is sent: the database is the overflow. Must not lock or wait: the slots does.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use super::caps::Caps;

/// Outcomes that may wait in any case: about a third of a second at the fastest that one process has delivered.
const FEWEST: usize = 4_096;
/// Outcomes that may wait, for each slot. All slots may belong to one application and be answered after it has reached its
/// share, which is half: a quarter is left to others then.
const FOR_EACH_SLOT: usize = 4;
/// Bytes for each outcome that may wait, 48 MiB in all with the usual 1,024 slots. An answer has up to 20 kB.
const BYTES_EACH: usize = 12 * 1024;
/// Bytes of an outcome beside its texts: ids, and its entries in maps and queues.
const OVERHEAD: usize = 1_024;

#[derive(Default)]
pub(super) struct Unsettled {
    all: Amount,
    applications: HashMap<Arc<str>, Application>,
}

#[derive(Clone, Copy, Default)]
struct Amount {
    outcomes: usize,
    bytes: usize,
}

#[derive(Default)]
struct Application {
    amount: Amount,
    /// Deliveries of it went without a slot because it has its share.
    held_back: Cell<bool>,
}

impl Amount {
    fn most(caps: &Caps) -> Self {
        let outcomes = FEWEST.max(caps.process * FOR_EACH_SLOT);
        Self {
            outcomes,
            bytes: outcomes * BYTES_EACH,
        }
    }

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
    /// Counts an outcome with texts of so many bytes.
    pub fn add(&mut self, app: &Arc<str>, bytes: usize) {
        let application = self.applications.entry(app.clone()).or_default();
        for amount in [&mut self.all, &mut application.amount] {
            amount.outcomes += 1;
            amount.bytes += bytes + OVERHEAD;
        }
    }

    /// Ends the counting of an outcome. Returns whether deliveries may have waited for that.
    pub fn remove(&mut self, app: &str, bytes: usize, caps: &Caps) -> bool {
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

    /// Whether nothing more may be sent, to whatever endpoint.
    pub fn is_full(&self, caps: &Caps) -> bool {
        self.all.reaches(Amount::most(caps))
    }

    /// Whether `app` has as much as it leaves free: nothing more is sent for it then, and others have room.
    pub fn has_its_share(&self, app: &str, caps: &Caps) -> bool {
        let most = Amount::most(caps);
        let free = most.less(self.all);
        // No application has more than there is in all.
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

    /// Adds outcomes of `app` until it has its share; returns how many.
    fn fill(unsettled: &mut Unsettled, app: &Arc<str>, bytes: usize) -> usize {
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
        assert!(unsettled.remove("a", 0, &CAPS), "it was held back");
        assert!(!unsettled.remove("a", 0, &CAPS), "nothing has asked since then");
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
