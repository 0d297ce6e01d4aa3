//! What this process knows of one endpoint: the deliveries in flight to it, its rates, its trouble, and where it stands
//! if it has parked rows.
//!
//! Must not know other endpoints: state.rs does.

use std::time::Duration;

use super::caps::Caps;
use super::rates::Rates;
use super::trouble::Trouble;
use super::turns::Stand;
use crate::domain::typed_id::{AppId, EndpointId};

/// Until when an endpoint is paced, by the monotonic clock. 0 means that it is not.
pub(super) struct Paced {
    /// By its own rate or rest.
    pub own: Duration,
    /// By its application's rate.
    pub of_app: Duration,
}

/// The state of one endpoint.
#[derive(Default)]
pub(super) struct Load {
    /// The number of deliveries in flight.
    pub in_flight: usize,
    /// The endpoint's application. `None` until a row of the endpoint was seen.
    pub app: Option<AppId>,
    /// Whether the endpoint is known to have parked rows.
    pub parked: bool,
    /// Whether rows were seen to be parked after its last turn.
    pub noticed: bool,
    /// Whether the endpoint is in the list of idle endpoints that the sweep goes through.
    pub swept: bool,
    /// The number of its last turn to have parked rows claimed. The lower it is, the longer the endpoint has waited.
    pub turn: u64,
    /// Its position among the endpoints with parked rows. `None` means nowhere.
    pub stand: Option<Stand>,
    /// The endpoint's own rate per second as it was last read. `None` means no rate.
    pub own_rate: Option<u32>,
    /// The rate of its application, likewise.
    pub app_rate: Option<u32>,
    /// `None` means that the endpoint is not in trouble.
    pub trouble: Option<Box<Trouble>>,
}

impl Load {
    /// Returns whether the endpoint has nothing in flight and no parked rows.
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0 && !self.parked
    }

    /// Returns whether neither a rate nor a rest can delay deliveries. The limit is the configured cap then.
    pub fn is_unpaced(&self) -> bool {
        self.own_rate.is_none() && self.app_rate.is_none() && self.trouble.is_none()
    }

    /// Returns how many deliveries may be in flight to the endpoint if slots are not short: the cap, or what was
    /// learned.
    pub fn limit(&self, caps: &Caps) -> usize {
        self.trouble.as_ref().map_or(caps.endpoint, |trouble| trouble.limit)
    }

    /// Returns the line in which the endpoint stands if it stands in one: its application, or the empty id if that is
    /// not known yet.
    pub fn line(&self) -> AppId {
        self.app.clone().unwrap_or_default()
    }

    /// Returns until when the endpoint rests, by the monotonic clock. 0 means that it does not rest.
    pub fn rests_until(&self) -> Duration {
        let trouble = self.trouble.as_ref();
        trouble.map_or(Duration::ZERO, |trouble| trouble.rests_until)
    }

    /// Returns until when the endpoint waits for its own rate or rest, and until when for its application's rate.
    pub fn paced_until(&self, endpoint: &EndpointId, rates: &Rates) -> Paced {
        let own = self.own_rate.map(|rate| rates.ready_at(endpoint.as_str(), rate));
        let of_app = self.app.as_ref().zip(self.app_rate);
        let of_app = of_app.map(|(app, rate)| rates.ready_at(app.as_str(), rate));
        Paced {
            own: own.unwrap_or_default().max(self.rests_until()),
            of_app: of_app.unwrap_or_default(),
        }
    }

    /// Returns where the endpoint has to stand. `None` means nowhere: it has no parked rows, or as much in flight as it
    /// may.
    pub fn stands(&self, endpoint: &EndpointId, caps: &Caps, rates: &Rates, now: Duration) -> Option<Stand> {
        if !self.parked || self.in_flight >= self.limit(caps) {
            return None;
        }
        let Paced { own, of_app } = self.paced_until(endpoint, rates);
        Some(match self.in_flight {
            // If its application's rate makes it wait at least as long, it stands in the application's line, which
            // waits for that rate as a whole.
            0 if own > now && own > of_app => Stand::Paced(own),
            0 => Stand::InLine,
            _ if own.max(of_app) > now => Stand::Paced(own.max(of_app)),
            _ => Stand::Busy,
        })
    }
}
