//! Decides for each new delivery whether its row is leased to this process, parked or due.
//!
//! Takes slots, and makes the leases of the fast path. Must not query the database, and must not hand leases to the
//! sender: the batch does, once they are durable.

use std::cell::LazyCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::apps::Endpoint;
use super::plan::Plan;
use crate::clock::Clock;
use crate::domain::delivery::Trigger;
use crate::domain::timestamp::Timestamp;
use crate::domain::typed_id::{AppId, DeliveryId, EndpointId, MessageId};
use crate::slots::{Admission, Slots};
use crate::store::queue::{Content, LARGE_BODY, Lease};

/// A row of `delivery` that is to be inserted.
pub(super) struct DeliveryRow {
    pub id: DeliveryId,
    pub app_id: AppId,
    pub message_id: MessageId,
    pub endpoint_id: EndpointId,
    /// When the row is due or its lease ends; `None` means it is parked.
    pub due_at: Option<Timestamp>,
    /// `None` means the row is not leased.
    pub lease: Option<RowLease>,
}

/// The lease of a row that is to be inserted.
pub(super) struct RowLease {
    owner: Arc<str>,
    lease_id: i64,
}

impl DeliveryRow {
    pub fn owner(&self) -> Option<&str> {
        self.lease.as_ref().map(|lease| &*lease.owner)
    }

    pub fn lease_id(&self) -> Option<i64> {
        self.lease.as_ref().map(|lease| lease.lease_id)
    }
}

/// The deliveries of a batch, and what is to be done once they are durable.
#[derive(Default)]
pub(super) struct Placed {
    /// The rows to insert.
    pub rows: Vec<DeliveryRow>,
    /// The leases to hand to the sender.
    pub leases: Vec<Lease>,
    /// The endpoints of parked rows.
    pub parked: HashSet<EndpointId>,
    /// Whether some rows are due, so that a claimer has to be woken.
    pub due: bool,
}

/// The terms of the deliveries in one try of a batch.
pub(super) struct Terms {
    /// The instant of the try, which is the due time of rows that are not leased or parked.
    pub now: Timestamp,
    /// When the try began, by [`Clock::monotonic`].
    pub began: Duration,
    /// The lease id of all leases of the try. Each try has another one.
    pub lease_id: i64,
    /// How long a lease lasts.
    pub lasts: Duration,
}

/// Places the deliveries of `plans`. A delivery with a large body, or to an endpoint with large custom headers, is due,
/// and so is each one while this process must not lease. [`Slots::admit`] decides on all others.
pub(super) fn place(clock: &Clock, slots: &Arc<Slots>, terms: &Terms, plans: &[&Plan]) -> Placed {
    let owner = slots.owner();
    let mut placed = Placed::default();
    for plan in plans {
        let message = &plan.member.message;
        // Copied for the first lease of the message. If it has none, the copy would be for nothing.
        let body = LazyCell::new(|| Bytes::copy_from_slice(message.body.as_bytes()));
        let content_type = LazyCell::new(|| message.content_type.as_deref().map(Arc::<str>::from));
        for endpoint in &plan.endpoints {
            let mut row = DeliveryRow {
                id: clock.new_typed_id_at(terms.now),
                app_id: plan.app.id.clone(),
                message_id: plan.member.id.clone(),
                endpoint_id: endpoint.id.clone(),
                due_at: Some(terms.now),
                lease: None,
            };
            let admission = match &owner {
                Some(_) if message.body.len() <= LARGE_BODY => admit(slots, endpoint),
                _ => Admission::Due,
            };
            match (admission, &owner) {
                (Admission::Leased(slot), Some(owner)) => {
                    row.due_at = Some(terms.now.plus(terms.lasts));
                    row.lease = Some(RowLease {
                        owner: owner.clone(),
                        lease_id: terms.lease_id,
                    });
                    placed.leases.push(Lease {
                        delivery_id: row.id.clone(),
                        message_id: row.message_id.clone(),
                        trigger: Trigger::Scheduled,
                        attempts_made: 0,
                        lease_id: terms.lease_id,
                        ends_at: terms.began + terms.lasts,
                        target: endpoint.target.clone(),
                        content: Content::Body(Bytes::clone(&body)),
                        content_type: (*content_type).clone(),
                        delivered_already: false,
                        slot,
                    });
                }
                (Admission::Parked, _) => {
                    row.due_at = None;
                    placed.parked.insert(endpoint.id.clone());
                }
                _ => placed.due = true,
            }
            placed.rows.push(row);
        }
    }
    placed
}

/// Requests a slot for a delivery to this endpoint.
fn admit(slots: &Arc<Slots>, endpoint: &Endpoint) -> Admission {
    match &endpoint.target {
        Some(target) => slots.admit(&target.endpoint_id, &target.app_id, &target.throttle),
        None => Admission::Due,
    }
}
