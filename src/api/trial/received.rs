//! Keeps the requests that the trial receiver got, within a number, a size and a time. All of them are in memory.
//!
//! Must not read requests: `http/trial.rs` does.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::target::TargetPolicy;
use crate::domain::timestamp::Timestamp;

/// The most requests that are kept, and the most bytes of all of them: what a person looks at, not a log.
const MOST: usize = 100;
const MOST_BYTES: usize = 1_000_000;
/// How long a request is kept.
const KEPT: Duration = Duration::from_hours(1);
/// The most bytes of one body: one request does not drive out all others.
pub(crate) const MOST_BODY: usize = 64 << 10;
/// The most requests whose bodies are read at once: 1 MB, whoever sends.
const AT_ONCE: usize = 16;

/// A request that was received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Counts the requests of this process.
    pub number: u64,
    /// The text in the address, which tells senders apart.
    pub random: String,
    pub at: Timestamp,
    pub method: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Received {
    fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.body.len() + self.random.len() + headers.sum::<usize>()
    }
}

/// The requests that were received, oldest first.
pub struct Trial {
    /// Written by each request to `/trial/`, read by the API. Locked for some microseconds, and never while waiting.
    kept: Mutex<Kept>,
    turns: Arc<Semaphore>,
}

#[derive(Default)]
struct Kept {
    requests: VecDeque<Received>,
    bytes: usize,
    last: u64,
}

impl Trial {
    /// Returns the receiver, if webhooks may go to the machine of this process: elsewhere no customer should find an open
    /// door there.
    pub fn allowed_by(targets: &TargetPolicy) -> Option<Arc<Self>> {
        let own = Self {
            kept: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        };
        targets.allows(Ipv4Addr::LOCALHOST.into()).then(|| Arc::new(own))
    }

    /// Returns the permit to read a body; `None` means that too many are being read.
    pub(crate) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turns.clone().try_acquire_owned().ok()
    }

    /// Keeps a request, and drops the oldest ones for which there is no room. Sets its number.
    pub(crate) fn keep(&self, mut received: Received) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget(received.at);
        kept.last += 1;
        received.number = kept.last;
        kept.bytes += received.bytes();
        kept.requests.push_back(received);
        while kept.requests.len() > MOST || kept.bytes > MOST_BYTES {
            kept.drop_oldest();
        }
    }

    /// Returns the requests to this address, newest first.
    pub(crate) fn list(&self, random: &str, now: Timestamp) -> Vec<Received> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget(now);
        let found = kept.requests.iter().rev().filter(|known| known.random == random);
        found.cloned().collect()
    }
}

impl Kept {
    fn forget(&mut self, now: Timestamp) {
        while self.requests.front().is_some_and(|oldest| oldest.at.plus(KEPT) <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.requests.pop_front() {
            self.bytes -= oldest.bytes();
        }
    }
}

/// Returns whether a text can stand in the address of the receiver.
pub(crate) fn is_random(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (16..=64).contains(&text.len()) && text.bytes().all(plain)
}
