//! Remembers the leases that this process is responsible for: of each delivery the newest one, from the moment the
//! process has it until its outcome is settled or the lease is given back.
//!
//! The claimer and the fast path add leases, sends note that the outcome is known, the extension moves the end of
//! leases, and the settler takes over newer leases and removes what it has settled. A mutex orders them.
//!
//! Must not query: the settler does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::done::Done;
use crate::domain::typed_id::DeliveryId;
use crate::slots::Unsettled;
use crate::store::queue::{Lease, LeaseKey};

/// The held leases by delivery id.
#[derive(Default)]
pub(super) struct Held(Mutex<HashMap<DeliveryId, Holding>>);

/// A held lease.
struct Holding {
    lease_id: i64,
    /// When the lease ends, by the clock's monotonic time.
    ends_at: Duration,
    /// Counts the outcome as unsettled. `None` means that the outcome is not known yet.
    unsettled: Option<Unsettled>,
}

impl Holding {
    fn key(&self, delivery_id: DeliveryId) -> LeaseKey {
        LeaseKey {
            delivery_id,
            lease_id: self.lease_id,
        }
    }
}

impl Held {
    fn leases(&self) -> MutexGuard<'_, HashMap<DeliveryId, Holding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes this process responsible for the lease. Returns false if it already was, under an older lease that is
    /// still being sent or settled; the new lease then replaces the old one and must not be sent.
    pub fn hold(&self, lease: &Lease) -> bool {
        self.hold_until(&lease.delivery_id, lease.lease_id, lease.ends_at)
    }

    fn hold_until(&self, delivery_id: &DeliveryId, lease_id: i64, ends_at: Duration) -> bool {
        let mut leases = self.leases();
        if let Some(holding) = leases.get_mut(delivery_id) {
            (holding.lease_id, holding.ends_at) = (lease_id, ends_at);
            return false;
        }
        let holding = Holding {
            lease_id,
            ends_at,
            unsettled: None,
        };
        leases.insert(delivery_id.clone(), holding);
        true
    }

    /// Notes that the outcome is known. It counts as unsettled as long as its delivery is held.
    pub fn set_unsettled(&self, delivery_id: &DeliveryId, unsettled: Unsettled) {
        if let Some(holding) = self.leases().get_mut(delivery_id) {
            holding.unsettled = Some(unsettled);
        }
    }

    /// Gives each outcome the newest lease of its delivery. If a lease ended while its outcome waited, this process may
    /// have leased the row again; without the new lease a failure would not move the schedule.
    pub fn renew(&self, batch: &mut [Done]) {
        let leases = self.leases();
        for sent in batch {
            if let Some(holding) = leases.get(sent.delivery_id()) {
                *sent.lease_id_mut() = holding.lease_id;
            }
        }
    }

    /// Returns the leases that end before `at` and whose outcomes wait to be settled.
    pub fn list_unsettled(&self, at: Duration) -> Vec<LeaseKey> {
        let leases = self.leases();
        let ending = leases
            .iter()
            .filter(|(_, holding)| holding.unsettled.is_some() && holding.ends_at < at);
        ending.map(|(id, holding)| holding.key(id.clone())).collect()
    }

    /// Notes the new end of these deliveries' leases.
    pub fn set_end(&self, delivery_ids: &[DeliveryId], ends_at: Duration) {
        let mut leases = self.leases();
        for id in delivery_ids {
            if let Some(holding) = leases.get_mut(id) {
                holding.ends_at = ends_at;
            }
        }
    }

    /// Ends the responsibility for a delivery that was settled under the lease that `settled` carries. If a newer lease
    /// has come since, returns it: it was never sent, so the caller must give it back, and it is held until then.
    pub fn let_go(&self, settled: &Done) -> Option<Done> {
        let mut leases = self.leases();
        let newest = leases.get(settled.delivery_id())?.lease_id;
        if newest == settled.lease_id() {
            let ended = leases.remove(settled.delivery_id());
            // Dropping `ended` takes the lock of the slots, to count the outcome out: not while this one is held.
            drop(leases);
            drop(ended);
            return None;
        }
        Some(Done::Returned {
            delivery_id: settled.delivery_id().clone(),
            app_id: settled.app_id().clone(),
            lease_id: newest,
        })
    }

    /// Ends the responsibility for a delivery without settling it: its row is due when the lease ends.
    pub fn forget(&self, delivery_id: &DeliveryId) {
        let forgotten = self.leases().remove(delivery_id);
        drop(forgotten);
    }

    pub fn is_empty(&self) -> bool {
        self.leases().is_empty()
    }

    /// Removes the leases whose outcome is not known yet, and returns them.
    pub fn take_unanswered(&self) -> Vec<LeaseKey> {
        let mut leases = self.leases();
        let unanswered = leases.extract_if(|_, holding| holding.unsettled.is_none());
        unanswered.map(|(id, holding)| holding.key(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returned(lease_id: i64) -> Done {
        Done::Returned {
            delivery_id: "dlv_1".into(),
            app_id: "app_1".into(),
            lease_id,
        }
    }

    fn hold(held: &Held, lease_id: i64) -> bool {
        held.hold_until(&"dlv_1".into(), lease_id, Duration::from_secs(60))
    }

    #[test]
    fn a_lease_that_comes_while_an_earlier_one_is_being_settled_is_given_back() {
        let held = Held::default();
        assert!(hold(&held, 1));
        let mut batch = [returned(1)];
        held.renew(&mut batch);
        assert!(!hold(&held, 2), "the new lease must not be sent");
        let newer = held.let_go(&batch[0]).expect("it is to be given back");
        assert_eq!(newer.lease_id(), 2);
        assert!(!hold(&held, 3), "until then no other lease is sent");
        let newest = held.let_go(&newer).expect("nor is that one");
        assert_eq!(newest.lease_id(), 3);
        assert!(held.let_go(&newest).is_none());
        assert!(held.is_empty());
    }

    #[test]
    fn an_outcome_that_waited_is_settled_under_the_newest_lease() {
        let held = Held::default();
        hold(&held, 1);
        hold(&held, 2);
        let mut batch = [returned(1)];
        held.renew(&mut batch);
        assert_eq!(batch[0].lease_id(), 2);
        assert!(held.let_go(&batch[0]).is_none());
        assert!(held.is_empty());
    }
}
