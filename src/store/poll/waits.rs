//! The polls of this process that wait for messages, and the pollers that have got some.
//!
//! A poll enters before it reads, so that no message is missed between its reading and its waiting. The intake hints at
//! pollers whose messages it has committed; announcements of other processes do the same. The watch takes the hinted
//! pollers, looks at the database, and wakes the polls that have something to read. All of them share one lock, which is
//! held for moments.
//!
//! A poll that waits holds no connection, no transaction and no turn. Must not query.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::poller_number::PollerNumber;
use crate::error::{Error, Result};

/// Polls that may wait at once. Each has a connection, of which the process takes 5,000: the others stay free for
/// requests that do not wait.
const MOST: usize = 2_500;
/// Polls of one customer that may wait at once. If all are woken together, each has a statement that may wait for its
/// turn: fewer than a customer may have.
const MOST_OF_ONE: usize = 200;

/// How long a poll that was woken in vain rests before it looks again. Without it a filtered poll of a busy poller would
/// look after each commit.
const PAUSE: Duration = Duration::from_millis(100);

/// The polls of a process.
#[derive(Default)]
pub struct Waits {
    state: Mutex<State>,
    /// Notified when a poller is hinted at that polls wait for, and when the first poll enters.
    hinted: Notify,
    /// Notified when there is something to announce.
    announced: Notify,
    /// Cancelled when the process stops: no poll waits any more.
    closed: CancellationToken,
}

#[derive(Default)]
struct State {
    /// The polls by poller. A poller without polls has no entry.
    pollers: HashMap<PollerNumber, Polls>,
    /// How many polls each customer has; only customers with some.
    customers: HashMap<String, usize>,
    count: usize,
    /// The number of the last poll.
    last: u64,
    /// Pollers that have got messages, and of which other processes are not told yet.
    to_announce: HashSet<PollerNumber>,
}

#[derive(Default)]
struct Polls {
    polls: Vec<Poll>,
    /// Whether the poller may have got messages that the watch has not looked for.
    is_hinted: bool,
}

struct Poll {
    number: u64,
    /// The number of a transaction and the message id behind which it waits for messages; `None` while it reads.
    behind: Option<(i64, String)>,
    wake: Arc<Notify>,
}

/// A poll that waits, or is about to. It leaves when this is dropped.
pub struct Waiting {
    waits: Arc<Waits>,
    poller: PollerNumber,
    customer: String,
    number: u64,
    wake: Arc<Notify>,
}

/// A poller that polls wait for, and the smallest place behind which one does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    pub poller: PollerNumber,
    pub behind: (i64, String),
}

impl Waits {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a poll of this poller, by a customer with this name.
    ///
    /// # Errors
    /// `Unavailable` if too many polls wait, of this customer or in all.
    pub fn enter(self: &Arc<Self>, poller: PollerNumber, customer: &str) -> Result<Waiting> {
        let mut state = self.state();
        let own = state.customers.get(customer).copied().unwrap_or_default();
        if state.count >= MOST || own >= MOST_OF_ONE {
            let message = "too many polls are waiting, yours or others'; try again, or without `wait`";
            return Err(Error::unavailable(message));
        }
        if state.count == 0 {
            // The watch rests while no poll waits.
            self.hinted.notify_one();
        }
        state.count += 1;
        state.last += 1;
        *state.customers.entry(customer.to_owned()).or_default() += 1;
        let (number, wake) = (state.last, Arc::new(Notify::new()));
        state.pollers.entry(poller).or_default().polls.push(Poll {
            number,
            behind: None,
            wake: wake.clone(),
        });
        Ok(Waiting {
            waits: self.clone(),
            poller,
            customer: customer.to_owned(),
            number,
            wake,
        })
    }

    /// Returns how many polls wait or are about to.
    pub fn count(&self) -> usize {
        self.state().count
    }

    /// Hints that these pollers have got messages.
    pub fn hint(&self, pollers: impl IntoIterator<Item = PollerNumber>) {
        let mut state = self.state();
        let mut hinted = false;
        for poller in pollers {
            if let Some(polls) = state.pollers.get_mut(&poller) {
                polls.is_hinted = true;
                hinted = true;
            }
        }
        drop(state);
        if hinted {
            self.hinted.notify_one();
        }
    }

    /// Hints at all pollers that polls wait for.
    pub fn hint_all(&self) {
        for polls in self.state().pollers.values_mut() {
            polls.is_hinted = true;
        }
        self.hinted.notify_one();
    }

    /// Waits for a hint. Returns at once if there was one since the last wait.
    pub async fn hinted(&self) {
        self.hinted.notified().await;
    }

    /// Returns the pollers that polls wait for: all, or those that were hinted at. Their hints are taken.
    pub fn take(&self, all: bool) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for (poller, polls) in &mut self.state().pollers {
            if !all && !polls.is_hinted {
                continue;
            }
            // A poll that still reads has seen the message already, or looks for it once it waits.
            let behind = polls.polls.iter().filter_map(|poll| poll.behind.as_ref()).min();
            if let Some(behind) = behind {
                wanted.push(Wanted {
                    poller: *poller,
                    behind: behind.clone(),
                });
                polls.is_hinted = polls.polls.iter().any(|poll| poll.behind.is_none());
            }
        }
        wanted
    }

    /// Keeps these pollers hinted at: their messages cannot be read yet.
    pub fn hold(&self, pollers: impl IntoIterator<Item = PollerNumber>) {
        let mut state = self.state();
        for poller in pollers {
            if let Some(polls) = state.pollers.get_mut(&poller) {
                polls.is_hinted = true;
            }
        }
    }

    /// Wakes all polls of these pollers.
    pub fn wake(&self, pollers: impl IntoIterator<Item = PollerNumber>) {
        let state = self.state();
        for poller in pollers {
            let polls = state.pollers.get(&poller);
            for poll in polls.into_iter().flat_map(|polls| &polls.polls) {
                poll.wake.notify_one();
            }
        }
    }

    /// Notes that these pollers have got messages, of which other processes are to be told.
    pub fn announce(&self, pollers: impl IntoIterator<Item = PollerNumber>) {
        self.state().to_announce.extend(pollers);
        self.announced.notify_one();
    }

    /// Waits until there is something to announce, and takes it.
    pub async fn announced(&self) -> HashSet<PollerNumber> {
        loop {
            let pollers = std::mem::take(&mut self.state().to_announce);
            if !pollers.is_empty() {
                return pollers;
            }
            self.announced.notified().await;
        }
    }

    /// Ends all waits, and lets no poll wait any more.
    pub fn close(&self) {
        self.closed.cancel();
    }
}

impl Waiting {
    /// Waits until there may be messages behind a place, or until `end` by the monotonic clock. Returns false if there is
    /// no use in another look: the time is over, or the process stops.
    pub async fn wait(&mut self, clock: &Clock, behind: (i64, String), end: Duration) -> bool {
        if self.waits.closed.is_cancelled() || clock.monotonic() >= end {
            return false;
        }
        let is_hinted = self.set(Some(behind));
        if is_hinted {
            self.waits.hinted.notify_one();
        }
        let woken = tokio::select! {
            () = self.wake.notified() => true,
            () = clock.sleep_until(end) => false,
            () = self.waits.closed.cancelled() => false,
        };
        self.set(None);
        woken
    }

    /// Rests for [`PAUSE`], whatever is committed meanwhile, at most until `end`. Returns false as [`Self::wait`] does.
    pub async fn pause(&self, clock: &Clock, end: Duration) -> bool {
        let over = clock.monotonic() + PAUSE;
        tokio::select! {
            () = clock.sleep_until(over.min(end)) => over < end,
            () = self.waits.closed.cancelled() => false,
        }
    }

    /// Sets behind what the poll waits. Returns whether its poller is hinted at.
    fn set(&self, behind: Option<(i64, String)>) -> bool {
        let mut state = self.waits.state();
        let Some(polls) = state.pollers.get_mut(&self.poller) else {
            return false;
        };
        if let Some(poll) = polls.polls.iter_mut().find(|poll| poll.number == self.number) {
            poll.behind = behind;
        }
        polls.is_hinted
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.waits.state();
        state.count -= 1;
        if let Some(own) = state.customers.get_mut(&self.customer) {
            *own -= 1;
            if *own == 0 {
                state.customers.remove(&self.customer);
            }
        }
        if let Some(polls) = state.pollers.get_mut(&self.poller) {
            polls.polls.retain(|poll| poll.number != self.number);
            if polls.polls.is_empty() {
                state.pollers.remove(&self.poller);
            }
        }
    }
}
