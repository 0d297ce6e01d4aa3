//! A simple model of the product: an application with its endpoints, messages and deliveries, in memory.
//!
//! The model has no SQL, no concurrency and no sockets. It repeats what the documents promise: which endpoints get a
//! message, when an attempt is made again, what a resend or a replay sends, when an endpoint is disabled. Must not ask
//! the product, except for what chance has decided there: the instant of a retry, which jitter moves.

mod settle;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use postrider::domain::timestamp::Timestamp;
use serde_json::Value;

use super::operation::{ENDPOINTS, Filter, Reaction, Replayed, Task};

/// The waits of the retry schedule, in seconds.
pub const SCHEDULE: [u64; 2] = [10, 1_000];
/// How long a delivery is leased in this test: the attempt's timeout and its margin.
pub const LEASE: Duration = Duration::from_secs(32);
/// After so long an endpoint is disabled if a delivery fails for good.
pub const DISABLE_AFTER: Duration = Duration::from_secs(3_600);
/// How long an idempotency key counts as used.
const KEY_KEPT: Duration = Duration::from_secs(12 * 3_600);
/// How long an event id is taken.
const EVENT_ID_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// A larger payload never comes over the fast path.
const LARGE: usize = 64 * 1024;
/// The most replaced secrets that still sign.
const MOST_OLD_SECRETS: usize = 10;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum State {
    Delivered,
    Waiting,
    Failed,
}

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub id: String,
    /// The path of its URL, with a query that each move changes.
    pub path: String,
    /// The value of its custom header.
    pub header: Option<u8>,
    pub filter: Filter,
    pub disabled: Option<&'static str>,
    pub deleted: bool,
    pub failing_since: Option<Timestamp>,
    /// Newest first, each with its end.
    pub secrets: Vec<(String, Option<Timestamp>)>,
    pub reaction: Reaction,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub id: String,
    pub event_type: u8,
    pub channels: u8,
    pub created_at: Timestamp,
    pub payload: Value,
    pub has_content: bool,
}

/// Who has leased a row.
#[derive(Clone, Debug)]
enum Owner {
    Nobody,
    /// This process, over the fast path: it sends to the endpoint as it was when the message was accepted.
    FastPath(Box<Endpoint>),
    /// A process that was killed. The lease ends by itself, unless the row is taken over before.
    Dead,
}

#[derive(Clone, Debug)]
struct Row {
    message: usize,
    endpoint: usize,
    is_manual: bool,
    attempts_made: usize,
    /// When it is due; of a leased row, when its lease ends.
    due_at: Timestamp,
    /// Whether the product has chosen another instant within the jitter's bounds.
    is_jittered: bool,
    /// The wait for which the receiver has asked.
    asked: Duration,
    owner: Owner,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    pub message: usize,
    pub endpoint: usize,
    pub is_manual: bool,
    /// 0 means there was no answer.
    pub status: u16,
    pub at: Timestamp,
}

/// A request as it must arrive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    pub path: String,
    pub message_id: String,
    pub payload: Value,
    pub header: Option<u8>,
    /// The secrets that sign it, newest first.
    pub secrets: Vec<String>,
}

/// What must become of a message that is sent with an idempotency key.
pub enum Repeated {
    First,
    Of(usize),
    Conflict,
}

/// An idempotency key.
struct Key {
    used_at: Timestamp,
    variant: u8,
    message: usize,
}

/// A consumer's places among the poller's messages.
#[derive(Default)]
pub struct Consumer {
    pub confirmed: usize,
    /// Where its last page has ended.
    pub reached: usize,
}

#[derive(Default)]
pub struct Expected {
    pub now: Timestamp,
    /// All that were ever created; a slot names the present one.
    pub endpoints: Vec<Endpoint>,
    pub slots: [Option<usize>; ENDPOINTS],
    pub messages: Vec<Message>,
    /// When each event id was taken.
    event_ids: HashMap<u8, Timestamp>,
    keys: HashMap<u8, Key>,
    poller: Filter,
    /// Messages of the poller, in order.
    polled: Vec<usize>,
    /// How many of them the last poll has left behind.
    pub place: usize,
    pub consumer: Consumer,
    rows: Vec<Row>,
    results: BTreeMap<(usize, usize), State>,
    pub attempts: Vec<Attempt>,
}

impl Message {
    fn passes(&self, filter: Filter) -> bool {
        let has = |wanted: u8, bits: u8| wanted == 0 || wanted & bits != 0;
        has(filter.event_types, 1 << self.event_type) && has(filter.channels, self.channels)
    }
}

impl State {
    /// Returns how the API numbers it.
    fn number(self) -> u8 {
        match self {
            Self::Delivered => 0,
            Self::Failed => 2,
            Self::Waiting => 3,
        }
    }
}

impl Replayed {
    fn filter(self) -> Filter {
        Filter {
            event_types: self.event_types,
            channels: self.channel.map_or(0, |channel| 1 << channel),
        }
    }
}

impl Endpoint {
    /// Returns the part of its path that no move changes.
    pub fn route(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    fn takes(&self) -> bool {
        !self.deleted && self.disabled.is_none()
    }

    fn signs_at(&self, at: Timestamp) -> Vec<String> {
        let valid = self.secrets.iter().filter(|(_, end)| end.is_none_or(|end| end > at));
        valid.map(|(secret, _)| secret.clone()).collect()
    }
}

impl Expected {
    pub fn new(now: Timestamp, poller: Filter) -> Self {
        Self {
            now,
            poller,
            ..Self::default()
        }
    }

    pub fn present(&mut self, slot: usize) -> Option<&mut Endpoint> {
        self.slots[slot].map(|index| &mut self.endpoints[index])
    }

    pub fn create(&mut self, slot: usize, endpoint: Endpoint) {
        self.slots[slot] = Some(self.endpoints.len());
        self.endpoints.push(endpoint);
    }

    pub fn delete(&mut self, slot: usize) {
        if let Some(index) = self.slots[slot].take() {
            self.endpoints[index].deleted = true;
        }
    }

    /// Gives the endpoint another URL: from then on it does not count as failing.
    pub fn relocate(&mut self, slot: usize, path: String) {
        if let Some(endpoint) = self.present(slot) {
            (endpoint.path, endpoint.failing_since) = (path, None);
        }
    }

    /// Deletes the application: its deliveries are not sent any more.
    pub fn abandon(&mut self) {
        for slot in 0..ENDPOINTS {
            self.delete(slot);
        }
    }

    /// Returns the poller's messages from a place on that a filter lets through, up to `limit`.
    pub fn page(&self, place: usize, wanted: Filter, limit: usize) -> Vec<&Message> {
        let messages = self.polled.iter().skip(place).map(|number| &self.messages[*number]);
        messages.filter(|message| message.passes(wanted)).take(limit).collect()
    }

    /// Returns whether the secret may be replaced, and replaces it.
    pub fn rotate(&mut self, slot: usize, secret: String, grace: Duration) -> bool {
        let (now, end) = (self.now, self.now.plus(grace));
        let Some(endpoint) = self.present(slot) else {
            return false;
        };
        let mut list = vec![(secret, None)];
        let old = endpoint.secrets.iter().cloned();
        list.extend(
            old.map(|(secret, until)| (secret, Some(until.unwrap_or(end))))
                .filter(|(_, until)| *until > Some(now)),
        );
        let fits = list.len() <= 1 + MOST_OLD_SECRETS;
        if fits {
            endpoint.secrets = list;
        }
        fits
    }

    pub fn disable(&mut self, slot: usize, disabled: bool) {
        let Some(endpoint) = self.present(slot) else { return };
        match (disabled, endpoint.disabled) {
            (true, None) => endpoint.disabled = Some("manual"),
            (false, Some(_)) => (endpoint.disabled, endpoint.failing_since) = (None, None),
            _ => {}
        }
    }

    pub fn repeats(&self, key: u8, variant: u8) -> Repeated {
        let used = self.keys.get(&key);
        match used.filter(|used| used.used_at.plus(KEY_KEPT) > self.now) {
            None => Repeated::First,
            // A payload that was removed counts as the same one.
            Some(used) if used.variant == variant || !self.messages[used.message].has_content => {
                Repeated::Of(used.message)
            }
            Some(_) => Repeated::Conflict,
        }
    }

    /// Takes an event id, and returns whether it was free.
    pub fn take_event_id(&mut self, number: u8) -> bool {
        let taken = self.event_ids.get(&number);
        let is_free = taken.is_none_or(|at| at.plus(EVENT_ID_KEPT) <= self.now);
        if is_free {
            self.event_ids.insert(number, self.now);
        }
        is_free
    }

    pub fn remember(&mut self, key: u8, variant: u8) {
        let used = Key {
            used_at: self.now,
            variant,
            message: self.messages.len() - 1,
        };
        self.keys.insert(key, used);
    }

    /// Accepts a message. Its deliveries are leased at once, unless it is large: then they are due.
    pub fn accept(&mut self, message: Message) {
        let number = self.messages.len();
        let is_large = message.payload.to_string().len() > LARGE;
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if endpoint.takes() && message.passes(endpoint.filter) {
                let (owner, lease) = match is_large {
                    true => (Owner::Nobody, Duration::ZERO),
                    false => (Owner::FastPath(Box::new(endpoint.clone())), LEASE),
                };
                self.rows.push(Row {
                    message: number,
                    endpoint: index,
                    is_manual: false,
                    attempts_made: 0,
                    due_at: self.now.plus(lease),
                    is_jittered: false,
                    asked: Duration::ZERO,
                    owner,
                });
            }
        }
        if message.passes(self.poller) {
            self.polled.push(number);
        }
        self.messages.push(message);
    }

    pub fn resend(&mut self, message: usize, slot: usize) {
        if let Some(endpoint) = self.slots[slot].filter(|index| self.endpoints[*index].takes()) {
            self.queue_manual(message, endpoint);
        }
    }

    fn queue_manual(&mut self, message: usize, endpoint: usize) {
        self.rows.push(Row {
            message,
            endpoint,
            is_manual: true,
            attempts_made: 0,
            due_at: self.now,
            is_jittered: false,
            asked: Duration::ZERO,
            owner: Owner::Nobody,
        });
    }

    /// Queues what a task sends again. Its window is all that was before this instant.
    pub fn start(&mut self, task: Task, slot: usize) {
        let Some(endpoint) = self.slots[slot].filter(|index| self.endpoints[*index].takes()) else {
            return;
        };
        let tried = |message: usize| {
            let at_endpoint = self.attempts.iter().filter(move |attempt| attempt.endpoint == endpoint);
            at_endpoint.filter(move |attempt| attempt.message == message)
        };
        let wanted = |message: &usize| {
            let (number, message) = (*message, &self.messages[*message]);
            let result = self.results.get(&(number, endpoint));
            let is_queued = self
                .rows
                .iter()
                .any(|row| (row.message, row.endpoint) == (number, endpoint));
            let is_before = message.created_at < self.now;
            message.has_content
                && match task {
                    Task::Recover => {
                        result != Some(&State::Delivered) && tried(number).any(|attempt| attempt.at < self.now)
                    }
                    Task::ReplayMissing => {
                        is_before
                            && message.passes(self.endpoints[endpoint].filter)
                            && result.is_none_or(|state| *state == State::Failed)
                            && tried(number).next().is_none()
                            && !is_queued
                    }
                    Task::BulkReplay(replayed) => {
                        is_before
                            && message.passes(replayed.filter())
                            && result.is_some_and(|state| replayed.state.is_none_or(|wanted| wanted == state.number()))
                            && tried(number).any(|attempt| {
                                let class = attempt.status / 100 * 100;
                                replayed.class.is_none_or(|wanted| wanted == class)
                            })
                    }
                }
        };
        let found: Vec<_> = (0..self.messages.len()).filter(wanted).collect();
        for message in found {
            self.queue_manual(message, endpoint);
        }
    }

    /// Ends the process. With `sending` it had sent all that was due: returns these requests, which have arrived and
    /// will never be settled.
    pub fn kill(&mut self, sending: bool) -> Vec<Request> {
        let (mut requests, now) = (Vec::new(), self.now);
        if sending {
            let (taken, kept) = self.take_due();
            requests = taken.iter().filter_map(|row| self.request(row)).collect();
            self.rows = kept;
            self.rows.extend(taken.into_iter().map(|mut row| {
                if matches!(row.owner, Owner::Nobody | Owner::Dead) {
                    row.due_at = now.plus(LEASE);
                }
                row.owner = Owner::Dead;
                row
            }));
        }
        for row in &mut self.rows {
            if matches!(row.owner, Owner::FastPath(_)) {
                row.owner = Owner::Dead;
            }
        }
        requests
    }

    /// Makes the rows of dead processes due, and returns how many there were.
    pub fn take_over(&mut self) -> u64 {
        let (mut freed, now) = (0, self.now);
        for row in &mut self.rows {
            if matches!(row.owner, Owner::Dead) {
                (row.owner, row.due_at) = (Owner::Nobody, now);
                freed += 1;
            }
        }
        freed
    }

    pub fn has_dead(&self) -> bool {
        self.rows.iter().any(|row| matches!(row.owner, Owner::Dead))
    }

    /// Returns how many requests the next step sends.
    pub fn due(&self) -> usize {
        let due = self.rows.iter().filter(|row| self.is_due(row));
        due.filter(|row| self.request(row).is_some()).count()
    }

    fn is_due(&self, row: &Row) -> bool {
        matches!(row.owner, Owner::FastPath(_)) || row.due_at <= self.now
    }

    fn take_due(&mut self) -> (Vec<Row>, Vec<Row>) {
        let rows = std::mem::take(&mut self.rows);
        rows.into_iter().partition(|row| self.is_due(row))
    }

    /// Returns the endpoint that a row is sent to, as it is then; `None` means that nothing is sent.
    fn target<'a>(&'a self, row: &'a Row) -> Option<&'a Endpoint> {
        match &row.owner {
            Owner::FastPath(endpoint) => Some(endpoint),
            _ => {
                let delivered = self.results.get(&(row.message, row.endpoint)) == Some(&State::Delivered);
                let endpoint = &self.endpoints[row.endpoint];
                let is_sent = endpoint.takes() && self.messages[row.message].has_content;
                (is_sent && (row.is_manual || !delivered)).then_some(endpoint)
            }
        }
    }

    fn request(&self, row: &Row) -> Option<Request> {
        let endpoint = self.target(row)?;
        Some(Request {
            path: endpoint.path.clone(),
            message_id: self.messages[row.message].id.clone(),
            payload: self.messages[row.message].payload.clone(),
            header: endpoint.header,
            secrets: endpoint.signs_at(self.now),
        })
    }

    /// Takes over the instants that the product has chosen for retries: each must be within a fifth of its wait.
    /// `chosen` returns the instant of the scheduled row of a message at an endpoint.
    pub fn follow_jitter(&mut self, chosen: impl Fn(&str, &str) -> Option<Timestamp>) {
        for row in self.rows.iter_mut().filter(|row| row.is_jittered) {
            let (message, endpoint) = (&self.messages[row.message].id, &self.endpoints[row.endpoint].id);
            let at = chosen(message, endpoint).unwrap_or_else(|| panic!("no retry of {message} at {endpoint}"));
            let wait = Duration::from_secs(SCHEDULE[row.attempts_made - 1]);
            let asked = row.due_at.minus(wait).plus(row.asked);
            let (least, most) = (row.due_at.minus(wait / 5), row.due_at.plus(wait / 5));
            let (least, most) = (least.max(asked), most.max(asked));
            assert!(
                least <= at && at <= most,
                "a retry is due at {at}, not from {least} to {most}"
            );
            (row.due_at, row.is_jittered) = (at, false);
        }
    }

    /// Returns all deliveries as the API lists them: message, endpoint, state and number of attempts.
    pub fn deliveries(&self) -> Vec<(String, String, &'static str, usize)> {
        let mut keys: BTreeSet<_> = self.results.keys().copied().collect();
        keys.extend(self.rows.iter().map(|row| (row.message, row.endpoint)));
        let listed = keys.into_iter().map(|key @ (message, endpoint)| {
            let rows = || self.rows.iter().filter(|row| (row.message, row.endpoint) == key);
            let is_leased = |row: &Row| !matches!(row.owner, Owner::Nobody) && row.due_at > self.now;
            let state = match self.results.get(&key) {
                Some(State::Delivered) => "delivered",
                _ if rows().any(is_leased) => "sending",
                _ if rows().next().is_some() => "waiting",
                Some(State::Waiting) => "waiting",
                Some(State::Failed) | None => "failed",
            };
            let attempts = self.attempts.iter();
            let attempts = attempts
                .filter(|attempt| (attempt.message, attempt.endpoint) == key)
                .count();
            (
                self.messages[message].id.clone(),
                self.endpoints[endpoint].id.clone(),
                state,
                attempts,
            )
        });
        let mut listed: Vec<_> = listed.collect();
        listed.sort();
        listed
    }

    /// Returns the results: message, endpoint, and state as it is stored.
    pub fn results(&self) -> Vec<(String, String, i16)> {
        let results = self.results.iter().map(|((message, endpoint), state)| {
            let (message, endpoint) = (&self.messages[*message].id, &self.endpoints[*endpoint].id);
            (message.clone(), endpoint.clone(), *state as i16)
        });
        let mut results: Vec<_> = results.collect();
        results.sort();
        results
    }

    /// Returns the queue's rows: message, endpoint, whether it is manual, and attempts made.
    pub fn rows(&self) -> Vec<(String, String, bool, usize)> {
        let rows = self.rows.iter().map(|row| {
            let (message, endpoint) = (&self.messages[row.message].id, &self.endpoints[row.endpoint].id);
            (message.clone(), endpoint.clone(), row.is_manual, row.attempts_made)
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort();
        rows
    }
}
