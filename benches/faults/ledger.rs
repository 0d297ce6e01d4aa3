//! Keeps what the harness knows of each message: when it was accepted, and when and how it arrived at each endpoint.
//!
//! Senders, receivers and the polling consumer write it, each for a moment under one lock; a run reads it. Must not
//! know of processes or faults.

use super::traffic::{ENDPOINTS, is_wanted_by};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// What a receiver did with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Given {
    /// Answered 204.
    Success,
    /// Answered 200, and reset the connection within the body: the sender may take it for a success or not.
    HalfBody,
    /// Reset the connection within the head of the answer.
    HalfHead,
    /// Answered 500.
    Refusal,
}

impl Given {
    /// Returns whether the receiver has taken the message.
    pub fn is_taken(self) -> bool {
        matches!(self, Self::Success | Self::HalfBody)
    }
}

/// One request at a receiver.
#[derive(Clone)]
pub struct Arrival {
    pub endpoint: usize,
    pub at: Instant,
    pub given: Given,
    /// The message's id, as the request named it.
    pub id: String,
}

/// One message, by its number.
#[derive(Clone, Default)]
pub struct Entry {
    /// When the 202 came, and the id that it named.
    pub accepted: Option<(Instant, String)>,
    /// When the last endpoint that wants the message had it.
    pub complete: Option<Instant>,
    pub arrivals: Vec<Arrival>,
}

impl Entry {
    /// Returns how often the endpoint has got this message, by what was answered.
    pub fn count(&self, endpoint: usize, is_counted: impl Fn(Given) -> bool) -> usize {
        let here = self.arrivals.iter().filter(|arrival| arrival.endpoint == endpoint);
        here.filter(|arrival| is_counted(arrival.given)).count()
    }

    fn has_arrived(&self, number: u32) -> bool {
        (0..ENDPOINTS)
            .filter(|endpoint| is_wanted_by(number, *endpoint))
            .all(|endpoint| self.count(endpoint, Given::is_taken) > 0)
    }
}

/// The state of a run.
#[derive(Default)]
pub struct Ledger {
    pub entries: Vec<Entry>,
    /// How many messages were accepted so far.
    pub accepted: usize,
    /// Accepted messages that have not arrived everywhere and are not given up, each with the instant of its acceptance.
    awaited: BTreeMap<u32, Instant>,
    /// When each process first accepted a message that was posted after [`Ledger::mark`], by its number.
    pub first_accepted: HashMap<usize, Instant>,
    marked: Option<Instant>,
    /// Other answers than 202 to a POST, and failures to get one, since the last [`Ledger::take_refusals`].
    refusals: BTreeMap<String, usize>,
    /// The numbers of the messages that the polling consumer has got, in their order.
    pub polled: Vec<u32>,
    /// What disagrees, by the kind of the disagreement.
    complaints: BTreeMap<&'static str, Complaints>,
}

/// Disagreements of one kind.
#[derive(Default)]
struct Complaints {
    count: usize,
    /// The first ones: further ones of a kind tell nothing.
    first: Vec<String>,
}

const COMPLAINTS_KEPT: usize = 4;

/// A ledger that several tasks write.
pub type Shared = Arc<Mutex<Ledger>>;

pub fn lock(ledger: &Shared) -> MutexGuard<'_, Ledger> {
    ledger.lock().expect("no task panics while it writes the ledger")
}

impl Ledger {
    /// Returns the number of the next message.
    pub fn next(&mut self) -> u32 {
        self.entries.push(Entry::default());
        self.entries.len() as u32 - 1
    }

    /// Notes that a process has accepted the message by the answer to a request that was sent at `sent`.
    pub fn accept(&mut self, number: u32, process: usize, id: &str, sent: Instant) {
        let now = Instant::now();
        if self.marked.is_some_and(|marked| sent >= marked) {
            self.first_accepted.entry(process).or_insert(now);
        }
        self.accepted += 1;
        let entry = &mut self.entries[number as usize];
        entry.accepted = Some((now, id.to_owned()));
        if entry.has_arrived(number) {
            entry.complete = Some(now);
        } else {
            self.awaited.insert(number, now);
        }
    }

    pub fn refuse(&mut self, reason: &str) {
        *self.refusals.entry(reason.to_owned()).or_default() += 1;
    }

    pub fn arrive(&mut self, number: u32, arrival: Arrival) {
        let at = arrival.at;
        let Some(entry) = self.entries.get_mut(number as usize) else {
            return self.complain("never posted", format!("message {number} arrived"));
        };
        entry.arrivals.push(arrival);
        if entry.complete.is_none() && entry.accepted.is_some() && entry.has_arrived(number) {
            entry.complete = Some(at);
            self.awaited.remove(&number);
        }
    }

    /// Forgets which processes have accepted messages: the first ones after `now` count again.
    pub fn mark(&mut self, now: Instant) {
        self.marked = Some(now);
        self.first_accepted.clear();
    }

    pub fn take_refusals(&mut self) -> BTreeMap<String, usize> {
        std::mem::take(&mut self.refusals)
    }

    /// Counts the messages that were accepted until `end` and have not arrived everywhere.
    pub fn missing_of(&self, end: Instant) -> usize {
        self.awaited.values().filter(|accepted| **accepted <= end).count()
    }

    /// Stops awaiting the messages that were accepted until `end`: one that takes an hour shall not hold up what follows.
    pub fn give_up(&mut self, end: Instant) {
        self.awaited.retain(|_, accepted| *accepted > end);
    }

    /// Returns when the last of the messages that were accepted until `end` arrived at its last endpoint, and its id.
    pub fn last_arrival_of(&self, end: Instant) -> Option<(Instant, &str)> {
        let complete = self.entries.iter().filter_map(|entry| {
            let (accepted, id) = entry.accepted.as_ref()?;
            (*accepted <= end).then_some((entry.complete?, id.as_str()))
        });
        complete.max()
    }

    /// Notes a disagreement; `kind` says what is wrong with it.
    pub fn complain(&mut self, kind: &'static str, complaint: String) {
        let complaints = self.complaints.entry(kind).or_default();
        complaints.count += 1;
        if complaints.first.len() < COMPLAINTS_KEPT {
            complaints.first.push(complaint);
        }
    }

    /// Returns the disagreements, one a line, and forgets them.
    pub fn take_complaints(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for (kind, Complaints { count, first }) in std::mem::take(&mut self.complaints) {
            lines.extend(first.iter().map(|complaint| format!("{kind}: {complaint}")));
            if count > first.len() {
                lines.push(format!("{kind}: {} more", count - first.len()));
            }
        }
        lines
    }
}
