//! The leases that this process answers for, of each delivery the newest: from the moment it has them until they are
//! settled. Must not query: the settler does. Called by the dispatcher's loops.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::sender::Sent;

/// By delivery id.
#[derive(Default)]
pub(super) struct Held(Mutex<HashMap<String, i64>>);

impl Held {
    fn leases(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers for this lease from now on. False: for its delivery this process answers already, which is being sent or
    /// settled under an earlier lease that has ended meanwhile; the new lease takes that one's place.
    pub fn hold(&self, delivery_id: &str, lease_id: i64) -> bool {
        self.leases().insert(delivery_id.to_owned(), lease_id).is_none()
    }

    /// A row whose lease ended while its outcome waited may have been leased anew by this process: it counts all the same.
    pub fn renew(&self, batch: &mut [Sent]) {
        let leases = self.leases();
        for sent in batch {
            if let Some(lease) = leases.get(sent.delivery_id()) {
                *sent.lease_id_mut() = *lease;
            }
        }
    }

    /// Ends the answering for what has been settled, under the lease that it carries. Where a newer one has come
    /// meanwhile, answers that, which nobody sends: it is to be given back, and is held until then.
    pub fn let_go(&self, settled: &Sent) -> Option<Sent> {
        let mut leases = self.leases();
        let newest = *leases.get(settled.delivery_id())?;
        if newest == settled.lease_id() {
            leases.remove(settled.delivery_id());
            return None;
        }
        Some(Sent::Unsent {
            delivery_id: settled.delivery_id().to_owned(),
            lease_id: newest,
        })
    }

    /// Leaves a delivery to the end of its lease.
    pub fn forget(&self, delivery_id: &str) {
        self.leases().remove(delivery_id);
    }

    pub fn is_empty(&self) -> bool {
        self.leases().is_empty()
    }

    /// All of them, which are held no longer.
    pub fn drain(&self) -> Vec<(String, i64)> {
        self.leases().drain().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsent(lease_id: i64) -> Sent {
        Sent::Unsent {
            delivery_id: "dlv_1".to_owned(),
            lease_id,
        }
    }

    #[test]
    fn a_lease_that_comes_while_an_earlier_one_is_being_settled_is_given_back() {
        let held = Held::default();
        assert!(held.hold("dlv_1", 1));
        let mut batch = [unsent(1)];
        held.renew(&mut batch);
        assert!(!held.hold("dlv_1", 2), "nobody sends it");
        let newer = held.let_go(&batch[0]).expect("it is to be given back");
        assert_eq!(newer.lease_id(), 2);
        assert!(!held.hold("dlv_1", 3), "until then no other is sent");
        let newest = held.let_go(&newer).expect("nor is that one");
        assert_eq!(newest.lease_id(), 3);
        assert!(held.let_go(&newest).is_none());
        assert!(held.is_empty());
    }

    #[test]
    fn an_outcome_that_waited_is_settled_under_the_newest_lease() {
        let held = Held::default();
        held.hold("dlv_1", 1);
        held.hold("dlv_1", 2);
        let mut batch = [unsent(1)];
        held.renew(&mut batch);
        assert_eq!(batch[0].lease_id(), 2);
        assert!(held.let_go(&batch[0]).is_none());
        assert!(held.is_empty());
    }
}
