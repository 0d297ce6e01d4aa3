//! How a lease was dealt with, on its way from the sender to the settler. Must not decide what follows.

use crate::domain::typed_id::{AppId, DeliveryId};
use crate::slots::Unsettled;
use crate::store::queue::{AttemptRow, Lease, Settlement};
use crate::telemetry::log_fields::{DeliveryIds, LogFields};

/// How a lease was dealt with.
#[derive(Clone, Debug)]
pub(super) enum Done {
    /// An attempt was made, or will never be, because the target or the payload is gone or another delivery row has
    /// delivered the message. The settler records it.
    Attempted(Box<Settlement>),
    /// No attempt is counted. The settler gives the lease back: its row is due again.
    Returned {
        delivery_id: DeliveryId,
        app_id: AppId,
        lease_id: i64,
    },
}

impl Done {
    pub fn delivery_id(&self) -> &DeliveryId {
        match self {
            Done::Attempted(settlement) => &settlement.delivery_id,
            Done::Returned { delivery_id, .. } => delivery_id,
        }
    }

    pub fn app_id(&self) -> &AppId {
        match self {
            Done::Attempted(settlement) => &settlement.app_id,
            Done::Returned { app_id, .. } => app_id,
        }
    }

    /// Returns the key under which outcomes are settled in the order in which they came: the endpoint's id. A returned
    /// lease needs no order, and has its delivery's id.
    pub fn order_key(&self) -> &str {
        match self {
            Done::Attempted(settlement) => settlement.endpoint_id.as_str(),
            Done::Returned { delivery_id, .. } => delivery_id.as_str(),
        }
    }

    /// Returns the fields of log lines about the delivery.
    pub fn log_fields(&self) -> LogFields {
        match self {
            Done::Attempted(settlement) => settlement.log_fields(),
            Done::Returned {
                delivery_id, app_id, ..
            } => LogFields::of_delivery(&DeliveryIds {
                app_id,
                endpoint_id: None,
                message_id: None,
                delivery_id,
            }),
        }
    }

    /// Returns how many bytes the texts have that are kept of the answer.
    pub fn bytes(&self) -> usize {
        match self {
            Done::Attempted(settlement) => settlement.attempt.as_ref().map_or(0, AttemptRow::answer_bytes),
            Done::Returned { .. } => 0,
        }
    }

    /// Returns the id of the lease under which it is settled.
    pub fn lease_id(&self) -> i64 {
        match self {
            Done::Attempted(settlement) => settlement.lease_id,
            Done::Returned { lease_id, .. } => *lease_id,
        }
    }

    pub fn lease_id_mut(&mut self) -> &mut i64 {
        match self {
            Done::Attempted(settlement) => &mut settlement.lease_id,
            Done::Returned { lease_id, .. } => lease_id,
        }
    }
}

/// Gives a lease back unsent, and frees its slot. The second value counts it as unsettled until it is dropped.
pub(super) fn returned(lease: Lease) -> (Done, Unsettled) {
    let sent = Done::Returned {
        app_id: lease.app_id().clone(),
        delivery_id: lease.delivery_id,
        lease_id: lease.lease_id,
    };
    (sent, lease.slot.settles(None, 0))
}
