//! The lines in which endpoints with parked rows wait, so that finding the next one costs the same however many wait.
//!
//! An endpoint stands in one place at most. If it has nothing in flight it stands in its application's line: whatever
//! holds back a whole application (its share of the slots, its rate) is then met once, and not once an endpoint. If it
//! has something in flight it is busy; of those there are never more than slots. If it waits for its own rate or rest it
//! is paced. If it has as much in flight as it may, it stands nowhere until one of its slots is free.
//! Must not know caps or rates: the state decides where an endpoint stands.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// A turn, and the endpoint (or, of a line's head, the application).
pub(super) type Place = (u64, Arc<str>);

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stand {
    /// In its application's line: nothing is in flight.
    InLine,
    /// Something is in flight, and there may be more.
    Busy,
    /// Until then it waits for its rate or rest.
    Paced(Duration),
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Waiter {
    Line(Arc<str>),
    Endpoint(Arc<str>),
}

#[derive(Default)]
pub(super) struct Turns {
    /// The last turn that was given.
    pub last: u64,
    /// By application; the empty id is for endpoints whose application is not known yet.
    lines: HashMap<Arc<str>, Line>,
    /// The first turn of each line that does not wait for its application's rate.
    heads: BTreeSet<Place>,
    busy: BTreeSet<Place>,
    paced: BTreeSet<(Duration, Waiter)>,
}

/// Endpoints of one application, by turn.
#[derive(Default)]
struct Line {
    endpoints: BTreeSet<Place>,
    /// Until then it waits for the application's rate.
    paced: Option<Duration>,
}

/// How far a look has come: what it passed over stays where it stands.
#[derive(Default)]
pub(super) struct Passed {
    heads: Option<Place>,
    busy: Option<Place>,
}

/// The endpoint whose turn is next.
pub(super) struct Next {
    pub endpoint: Arc<str>,
    pub stand: Stand,
    place: Place,
}

impl Turns {
    /// Puts an endpoint of `app` with `turn` where it shall stand.
    pub fn enter(&mut self, stand: Stand, app: &Arc<str>, turn: u64, endpoint: Arc<str>) {
        match stand {
            Stand::InLine => self.change(app, |line| {
                line.endpoints.insert((turn, endpoint));
            }),
            Stand::Busy => {
                self.busy.insert((turn, endpoint));
            }
            Stand::Paced(at) => {
                self.paced.insert((at, Waiter::Endpoint(endpoint)));
            }
        }
    }

    /// Takes an endpoint from where it stands.
    pub fn leave(&mut self, stand: Stand, app: &Arc<str>, turn: u64, endpoint: Arc<str>) {
        match stand {
            Stand::InLine => self.change(app, |line| {
                line.endpoints.remove(&(turn, endpoint));
            }),
            Stand::Busy => {
                self.busy.remove(&(turn, endpoint));
            }
            Stand::Paced(at) => {
                self.paced.remove(&(at, Waiter::Endpoint(endpoint)));
            }
        }
    }

    /// Lets the line of `app` wait for the application's rate.
    pub fn pace_line(&mut self, app: &Arc<str>, at: Duration) {
        self.change(app, |line| line.paced = Some(at));
        self.paced.insert((at, Waiter::Line(app.clone())));
    }

    /// Takes out one whose wait is over. A line is back among the others then; an endpoint stands nowhere.
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

    /// Returns when the first of those who wait for a rate or rest may go.
    pub fn paced_until(&self) -> Option<Duration> {
        self.paced.first().map(|(at, _)| *at)
    }

    pub fn has_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Returns the lowest turn that was not passed over; busy ones only if `with_busy`.
    pub fn next(&self, passed: &Passed, with_busy: bool) -> Option<Next> {
        let head = after(&self.heads, passed.heads.as_ref());
        let busy = after(&self.busy, passed.busy.as_ref()).filter(|_| with_busy);
        match (head, busy) {
            (Some(head), Some(busy)) if busy.0 < head.0 => Some(Next::busy(busy)),
            (Some(head), _) => {
                let (_, endpoint) = self.lines.get(&head.1)?.endpoints.first()?;
                Some(Next {
                    endpoint: endpoint.clone(),
                    stand: Stand::InLine,
                    place: head.clone(),
                })
            }
            (None, Some(busy)) => Some(Next::busy(busy)),
            (None, None) => None,
        }
    }

    /// Changes a line, and keeps its place among the heads. A line without endpoints is forgotten.
    fn change(&mut self, app: &Arc<str>, change: impl FnOnce(&mut Line)) {
        let line = self.lines.entry(app.clone()).or_default();
        let before = line.head();
        change(line);
        let after = line.head();
        if before != after {
            if let Some(turn) = before {
                self.heads.remove(&(turn, app.clone()));
            }
            if let Some(turn) = after {
                self.heads.insert((turn, app.clone()));
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
    fn head(&self) -> Option<u64> {
        let (turn, _) = self.endpoints.first()?;
        self.paced.is_none().then_some(*turn)
    }
}

impl Next {
    fn busy(place: &Place) -> Self {
        Self {
            endpoint: place.1.clone(),
            stand: Stand::Busy,
            place: place.clone(),
        }
    }
}

impl Passed {
    /// Leaves out `next`; of a line, the whole of it.
    pub fn over(&mut self, next: Next) {
        match next.stand {
            Stand::Busy => self.busy = Some(next.place),
            _ => self.heads = Some(next.place),
        }
    }
}

fn after<'a>(places: &'a BTreeSet<Place>, passed: Option<&Place>) -> Option<&'a Place> {
    let from = passed.map_or(Bound::Unbounded, Bound::Excluded);
    places.range((from, Bound::Unbounded)).next()
}
