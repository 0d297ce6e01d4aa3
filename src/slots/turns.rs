//! The lines in which endpoints with parked rows wait for their turn. To find the next one costs about the same however
//! many wait.
//!
//! An endpoint stands in at most one of these places:
//!
//! - In the line of its application, if it has nothing in flight. A delay of the whole application (it has as many
//!   slots as it may, or its rate is used up) is then met once, and not once for each endpoint.
//! - Among the busy endpoints, if it has something in flight. There are never more of these than slots.
//! - Among the paced ones, if it waits for its own rate or rest; if it has something in flight, for its application's
//!   rate too.
//!
//! If an endpoint has as much in flight as it may, it stands nowhere until one of its slots is free.
//!
//! Must not know caps or rates: load.rs decides where an endpoint stands.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use crate::domain::typed_id::{AppId, EndpointId};

/// A position in a line, by the turn: that of an endpoint, or that of a whole line among the heads, which is named by
/// its application.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Place<I> {
    turn: u64,
    id: I,
}

/// The position of an endpoint with parked rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stand {
    /// In the line of its application: nothing is in flight.
    InLine,
    /// Something is in flight, and more may be.
    Busy,
    /// It waits until this instant (by the monotonic clock) for a rate or rest.
    Paced(Duration),
}

/// A line or an endpoint that waits for a rate or rest. A line is named by its application.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Waiter {
    Line(AppId),
    Endpoint(EndpointId),
}

/// All endpoints with parked rows, by where they stand.
// A walk through all parked endpoints took up to 0.8 s for 100,000 of them, under the lock that accepting and sending
// need; a look along the lines takes 0.2 to 1.8 ms. Rejected: one heap by turn, in which 100,000 endpoints behind their
// application's limit would be passed over one by one.
#[derive(Default)]
pub(super) struct Turns {
    /// The number of the last turn that was given.
    pub last: u64,
    /// By application. The empty id stands for the endpoints whose application is not known yet.
    lines: HashMap<AppId, Line>,
    /// The first turn of each line that does not wait for its application's rate.
    heads: BTreeSet<Place<AppId>>,
    busy: BTreeSet<Place<EndpointId>>,
    /// Waits for rates and rests, by the instants at which they end.
    paced: BTreeSet<(Duration, Waiter)>,
}

/// The endpoints of one application with nothing in flight, by turn.
#[derive(Default)]
struct Line {
    endpoints: BTreeSet<Place<EndpointId>>,
    /// Until when the line waits for the application's rate. `None` means that it does not wait.
    paced: Option<Duration>,
}

/// How far one look has come. Lines and endpoints that it passed over stay where they stand.
#[derive(Default)]
pub(super) struct Passed {
    heads: Option<Place<AppId>>,
    busy: Option<Place<EndpointId>>,
}

/// The endpoint that has the next turn.
pub(super) struct Next {
    pub endpoint: EndpointId,
    /// Its position: [`Stand::InLine`] or [`Stand::Busy`].
    pub stand: Stand,
    place: NextPlace,
}

/// The position of the endpoint that has the next turn.
enum NextPlace {
    /// That of its line among the heads.
    Head(Place<AppId>),
    /// Its own among the busy endpoints.
    Busy(Place<EndpointId>),
}

impl Turns {
    /// Puts an endpoint of `app`, with the number of its last turn, where `stand` says.
    pub fn enter(&mut self, stand: Stand, app: &AppId, turn: u64, endpoint: EndpointId) {
        match stand {
            Stand::InLine => self.change(app, |line| {
                line.endpoints.insert(Place { turn, id: endpoint });
            }),
            Stand::Busy => {
                self.busy.insert(Place { turn, id: endpoint });
            }
            Stand::Paced(at) => {
                self.paced.insert((at, Waiter::Endpoint(endpoint)));
            }
        }
    }

    /// Takes an endpoint from where it stands. The arguments must be those of [`Turns::enter`].
    pub fn leave(&mut self, stand: Stand, app: &AppId, turn: u64, endpoint: EndpointId) {
        match stand {
            Stand::InLine => self.change(app, |line| {
                line.endpoints.remove(&Place { turn, id: endpoint });
            }),
            Stand::Busy => {
                self.busy.remove(&Place { turn, id: endpoint });
            }
            Stand::Paced(at) => {
                self.paced.remove(&(at, Waiter::Endpoint(endpoint)));
            }
        }
    }

    /// Makes the line of `app` wait for the application's rate until `at`.
    pub fn pace_line(&mut self, app: &AppId, at: Duration) {
        self.change(app, |line| line.paced = Some(at));
        self.paced.insert((at, Waiter::Line(app.clone())));
    }

    /// Removes a wait that is over at `now`, if there is one. A line is then back among the others; an endpoint stands
    /// nowhere, and the caller puts it where it has to stand.
    pub fn pop_due(&mut self, now: Duration) -> Option<Waiter> {
        if self.paced_until()? > now {
            return None;
        }
        let (_, waiter) = self.paced.pop_first()?;
        if let Waiter::Line(app) = &waiter {
            self.change(app, |line| line.paced = None);
        }
        Some(waiter)
    }

    /// Returns the instant at which the first wait for a rate or rest ends. `None` means that nothing waits for one.
    pub fn paced_until(&self) -> Option<Duration> {
        self.paced.first().map(|(at, _)| *at)
    }

    /// Returns whether an endpoint stands among the busy ones.
    pub fn has_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Returns the endpoint with the lowest turn that was not passed over. Busy endpoints are left out unless
    /// `with_busy`.
    pub fn next(&self, passed: &Passed, with_busy: bool) -> Option<Next> {
        let head = after(&self.heads, passed.heads.as_ref());
        let busy = after(&self.busy, passed.busy.as_ref()).filter(|_| with_busy);
        match (head, busy) {
            (Some(head), Some(busy)) if busy.turn < head.turn => Some(Next::busy(busy)),
            (Some(head), _) => {
                let first = self.lines.get(&head.id)?.endpoints.first()?;
                Some(Next {
                    endpoint: first.id.clone(),
                    stand: Stand::InLine,
                    place: NextPlace::Head(head.clone()),
                })
            }
            (None, Some(busy)) => Some(Next::busy(busy)),
            (None, None) => None,
        }
    }

    /// Changes the line of `app` and keeps its entry in `heads` up to date. Removes a line without endpoints.
    fn change(&mut self, app: &AppId, change: impl FnOnce(&mut Line)) {
        let line = self.lines.entry(app.clone()).or_default();
        let before = line.head();
        change(line);
        let after = line.head();
        if before != after {
            if let Some(turn) = before {
                self.heads.remove(&Place { turn, id: app.clone() });
            }
            if let Some(turn) = after {
                self.heads.insert(Place { turn, id: app.clone() });
            }
        }
        if line.endpoints.is_empty() {
            if let Some(at) = line.paced {
                self.paced.remove(&(at, Waiter::Line(app.clone())));
            }
            self.lines.remove(app);
        }
    }
}

impl Line {
    /// Returns the turn of the first endpoint. `None` if the line is empty or waits for the application's rate.
    fn head(&self) -> Option<u64> {
        let first = self.endpoints.first()?;
        self.paced.is_none().then_some(first.turn)
    }
}

impl Next {
    fn busy(place: &Place<EndpointId>) -> Self {
        Self {
            endpoint: place.id.clone(),
            stand: Stand::Busy,
            place: NextPlace::Busy(place.clone()),
        }
    }
}

impl Passed {
    /// Passes over `next`. If it stands in a line, passes over the whole line.
    pub fn over(&mut self, next: Next) {
        match next.place {
            NextPlace::Busy(place) => self.busy = Some(place),
            NextPlace::Head(place) => self.heads = Some(place),
        }
    }
}

/// Returns the first place after `passed`.
fn after<'a, I: Ord>(places: &'a BTreeSet<Place<I>>, passed: Option<&Place<I>>) -> Option<&'a Place<I>> {
    let from = passed.map_or(Bound::Unbounded, Bound::Excluded);
    places.range((from, Bound::Unbounded)).next()
}
