//! What is known of one endpoint: what it has in flight, its rates, its trouble, and where it stands if rows of it are parked.
//! Must not know other endpoints: the state does.

use std::sync::Arc;
use std::time::Duration;

use super::caps::Caps;
use super::rates::Rates;
use super::trouble::Trouble;
use super::turns::Stand;

#[derive(Default)]
pub(super) struct Load {
    pub in_flight: usize,
    /// `None` until a row of the endpoint was seen.
    pub app: Option<Arc<str>>,
    /// Rows of this endpoint are known to be parked.
    pub parked: bool,
    /// That was noticed after its last turn.
    pub noticed: bool,
    /// It is among those that the sweep comes to.
    pub swept: bool,
    /// Its last turn to have parked rows brought back.
    pub turn: u64,
    pub stand: Option<Stand>,
    /// The endpoint's rate and its application's, as they were last read.
    pub own_rate: Option<u32>,
    pub app_rate: Option<u32>,
    pub trouble: Option<Box<Trouble>>,
}

impl Load {
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0 && !self.parked
    }

    /// Whether neither rates nor a rest hold anything back.
    pub fn is_unpaced(&self) -> bool {
        self.own_rate.is_none() && self.app_rate.is_none() && self.trouble.is_none()
    }

    /// In flight at most, if there are slots enough.
    pub fn limit(&self, caps: &Caps) -> usize {
        self.trouble.as_ref().map_or(caps.endpoint, |trouble| trouble.limit)
    }

    /// The line in which it stands when it stands in one.
    pub fn line(&self) -> Arc<str> {
        self.app.clone().unwrap_or_default()
    }

    pub fn rests_until(&self) -> Duration {
        let trouble = self.trouble.as_ref();
        trouble.map_or(Duration::ZERO, |trouble| trouble.rests_until)
    }

    /// Returns until when the endpoint's own rate or rest, and its application's rate, let it wait.
    pub fn paced_until(&self, endpoint: &str, rates: &Rates) -> (Duration, Duration) {
        let own = self.own_rate.map(|rate| rates.ready_at(endpoint, rate));
        let of_app = self.app.as_ref().zip(self.app_rate);
        let of_app = of_app.map(|(app, rate)| rates.ready_at(app, rate));
        (
            own.unwrap_or_default().max(self.rests_until()),
            of_app.unwrap_or_default(),
        )
    }

    /// Returns where an endpoint with parked rows has to stand.
    pub fn stands(&self, endpoint: &str, caps: &Caps, rates: &Rates, now: Duration) -> Option<Stand> {
        if !self.parked || self.in_flight >= self.limit(caps) {
            return None;
        }
        let (own, of_app) = self.paced_until(endpoint, rates);
        Some(match self.in_flight {
            // Its line waits for the application's rate anyway: it takes a place there if it need not wait longer.
            0 if own > now && own > of_app => Stand::Paced(own),
            0 => Stand::InLine,
            _ if own.max(of_app) > now => Stand::Paced(own.max(of_app)),
            _ => Stand::Busy,
        })
    }
}
