//! Makes the load: which messages, which endpoint wants which, and the senders that post them as a careful client does.
//!
//! Each message has an idempotency key and is posted until it is answered with 202, to the other process if one does
//! not answer. Must not know which fault is under way.

use super::api;
use super::ledger::{Shared, lock};
use crate::wire::Connection;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub const APP: &str = "shop";
pub const ENDPOINTS: usize = 4;
/// The event types; a message has one of them by its number.
pub const TYPES: [&str; 3] = ["order.created", "order.paid", "invoice.sent"];
pub const CHANNEL: &str = "eu";
/// The types that the poller keeps.
pub const POLLED: [&str; 2] = [TYPES[0], TYPES[2]];

const SENDERS: u64 = 96;
/// How long a client waits for an answer before it asks another process.
const ANSWER_DEADLINE: Duration = Duration::from_secs(4);
/// How long senders leave a process alone that did not answer, as a load balancer does; then one of them tries it.
const AVOIDED: Duration = Duration::from_secs(1);
/// The pause before a client repeats what was not accepted.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest time for the last messages to be accepted once the load ends.
const LAST_ANSWERS: Duration = Duration::from_secs(90);

fn type_of(number: u32) -> &'static str {
    TYPES[number as usize % TYPES.len()]
}

fn is_on_channel(number: u32) -> bool {
    number.is_multiple_of(4)
}

/// Returns the filter of an endpoint, as fields of the request that creates it. The first one takes every message.
pub fn filter_of(endpoint: usize) -> Value {
    match endpoint {
        0 => serde_json::json!({}),
        1 => serde_json::json!({"eventTypes": [TYPES[1]]}),
        2 => serde_json::json!({"eventTypes": [TYPES[0], TYPES[2]]}),
        _ => serde_json::json!({"channels": [CHANNEL]}),
    }
}

/// Returns whether the endpoint's filter takes the message; it says the same as [`filter_of`].
pub fn is_wanted_by(number: u32, endpoint: usize) -> bool {
    match endpoint {
        0 => true,
        1 => type_of(number) == TYPES[1],
        2 => type_of(number) != TYPES[1],
        _ => is_on_channel(number),
    }
}

pub fn is_polled(number: u32) -> bool {
    POLLED.contains(&type_of(number))
}

/// Returns whether the receiver of this endpoint refuses the message once.
pub fn is_refused_once(number: u32, endpoint: usize) -> bool {
    endpoint == 0 && number % 40 == 7
}

/// Returns the body of the request that posts a message.
fn body_of(number: u32) -> String {
    let channels = if is_on_channel(number) {
        r#","channels":["eu"]"#
    } else {
        ""
    };
    let note = "abcdefghij".repeat(20);
    format!(
        r#"{{"eventType":"{}"{channels},"payload":{{"number":{number},"note":"{note}"}}}}"#,
        type_of(number)
    )
}

/// Returns the number in a payload.
pub fn number_in(payload: &[u8]) -> Option<u32> {
    let parsed: Value = serde_json::from_slice(payload).ok()?;
    parsed["number"].as_u64()?.try_into().ok()
}

/// The senders, which end when this is dropped.
pub struct Load {
    senders: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Posts `rate` messages a second in all to the processes at these addresses. A sender that had to wait does not
    /// make up for it.
    pub fn start(ledger: &Shared, processes: &[SocketAddr], rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let failed_at = Arc::new(Mutex::new(vec![None; processes.len()]));
        let period = Duration::from_secs_f64(SENDERS as f64 / f64::from(rate.max(1)));
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            let lane = Lane {
                ledger: Arc::clone(ledger),
                processes: processes.to_vec(),
                failed_at: Arc::clone(&failed_at),
                connection: None,
            };
            let first = period.mul_f64(sender as f64 / SENDERS as f64);
            senders.spawn(lane.send(Arc::clone(&stop), first, period));
        }
        Self { senders, stop }
    }

    /// Ends the senders, each after its last message was accepted. Returns false if that took too long.
    pub async fn end(mut self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        let ending = async { while self.senders.join_next().await.is_some() {} };
        timeout(LAST_ANSWERS, ending).await.is_ok()
    }
}

/// One sender with its connection.
struct Lane {
    ledger: Shared,
    processes: Vec<SocketAddr>,
    /// When each process last gave no answer. All senders write and read it.
    failed_at: Arc<Mutex<Vec<Option<Instant>>>>,
    /// The open connection and the number of the process that it leads to.
    connection: Option<(usize, Connection)>,
}

impl Lane {
    async fn send(mut self, stop: Arc<AtomicBool>, first: Duration, period: Duration) {
        let mut due = Instant::now() + first;
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep_until(due.into()).await;
            let number = lock(&self.ledger).next();
            self.post(number).await;
            due = Instant::now().max(due + period);
        }
    }

    /// Posts one message until it is accepted.
    async fn post(&mut self, number: u32) {
        let (body, key) = (body_of(number), format!("key-{number}"));
        for attempt in 0.. {
            let process = self.choose(number as usize + attempt);
            let sent = Instant::now();
            match timeout(ANSWER_DEADLINE, self.try_post(process, &key, &body)).await {
                Ok(Ok((202, made))) => {
                    let id = made["id"].as_str().unwrap_or_default();
                    self.failed_at.lock().expect("no sender panics while it writes")[process] = None;
                    return lock(&self.ledger).accept(number, process, id, sent);
                }
                Ok(Ok((503, _))) => lock(&self.ledger).refuse("503"),
                Ok(Ok((status, answer))) => {
                    let mut ledger = lock(&self.ledger);
                    ledger.refuse(&status.to_string());
                    ledger.complain("unexpected answer", format!("message {number}: {status} {answer}"));
                }
                Ok(Err(_)) => self.has_failed(process, "no connection"),
                Err(_) => self.has_failed(process, "no answer"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns the process whose turn it is, or the next one if that one has just failed. If all have, it is tried.
    fn choose(&self, turn: usize) -> usize {
        let count = self.processes.len();
        let mut failed_at = self.failed_at.lock().expect("no sender panics while it writes");
        let is_avoided = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < AVOIDED);
        let mut turns = (0..count).map(|offset| (turn + offset) % count);
        let process = turns
            .find(|process| !is_avoided(failed_at[*process]))
            .unwrap_or(turn % count);
        if failed_at[process].is_some() {
            failed_at[process] = Some(Instant::now());
        }
        process
    }

    fn has_failed(&self, process: usize, how: &str) {
        self.failed_at.lock().expect("no sender panics while it writes")[process] = Some(Instant::now());
        lock(&self.ledger).refuse(how);
    }

    /// Sends the request once. The connection is kept only after a complete answer.
    async fn try_post(&mut self, process: usize, key: &str, body: &str) -> std::io::Result<(u16, Value)> {
        let address = self.processes[process];
        let mut connection = match self.connection.take() {
            Some((at, open)) if at == process => open,
            _ => Connection::open(address).await?,
        };
        let path = format!("/api/v1/app/{APP}/msg");
        let answer = api::exchange(&mut connection, address, "POST", &path, Some(key), body).await?;
        self.connection = Some((process, connection));
        Ok(answer)
    }
}
