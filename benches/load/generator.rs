//! Generates the load: sends one prepared `POST …/msg` over many keep-alive connections, and records the responses.
//!
//! Must not judge the responses: refusals are counted by their text, and the caller reports them.

use crate::wire::{Connection, find, status};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
const OPEN_LOOP_CONNECTIONS: u32 = 32;
/// The timer is no more precise than this: only a request that is later than that was late because of the server.
const TIMER_GRAIN: Duration = Duration::from_millis(2);

/// A message id as it came over the wire, zero-padded. It is `Copy`, so that a million of them stay cheap.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id([u8; 40]);

impl Id {
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        let mut id = [0; 40];
        id.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self(id))
    }
}

/// The prepared request and the address that it goes to.
pub struct Shot {
    address: SocketAddr,
    before_key: Vec<u8>,
    after_key: Vec<u8>,
    with_key: bool,
}

impl Shot {
    /// Prepares the request. `with_key` gives every request a new idempotency key, as the SDKs do.
    pub fn new(address: SocketAddr, token: &str, path: &str, body: &str, with_key: bool) -> Self {
        let before_key = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        Self {
            address,
            before_key: before_key.into(),
            after_key: format!("\r\n{body}").into(),
            with_key,
        }
    }

    /// Returns the bytes of one request; connection and sequence make its idempotency key unique.
    fn request(&self, connection: u32, sequence: u32) -> Vec<u8> {
        let mut request = self.before_key.clone();
        if self.with_key {
            let process = std::process::id();
            request.extend(format!("idempotency-key: auto_{process}-{connection}-{sequence}\r\n").bytes());
        }
        request.extend(&self.after_key);
        request
    }
}

/// A message that the server accepted with 202.
pub struct Accepted {
    pub id: Id,
    pub sent: Instant,
    /// When the response arrived.
    pub answered: Instant,
}

/// The responses of one run of the load.
#[derive(Default)]
pub struct Volley {
    pub accepted: Vec<Accepted>,
    /// The number of requests that were not accepted, by the response or failure that came instead of a 202.
    pub refused: BTreeMap<String, usize>,
    /// How long each of those requests took.
    pub refused_after: Vec<Duration>,
}

impl Volley {
    fn refuse(&mut self, reason: String) {
        *self.refused.entry(reason).or_default() += 1;
    }

    fn refuse_after(&mut self, reason: String, sent: Instant) {
        self.refuse(reason);
        self.refused_after.push(sent.elapsed());
    }

    pub fn merge(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.refused_after.extend(other.refused_after);
        for (reason, count) in other.refused {
            *self.refused.entry(reason).or_default() += count;
        }
    }
}

/// Sends for `length`; each connection sends its next request when the response to the last one has arrived.
pub async fn closed_loop(shot: &Arc<Shot>, connections: u32, length: Duration) -> Volley {
    let until = Instant::now() + length;
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let shot = Arc::clone(shot);
        tasks.spawn(async move {
            let mut lane = Lane::new(shot, number);
            while Instant::now() < until && lane.fire(Instant::now()).await {}
            lane.volley
        });
    }
    gather(tasks).await
}

/// Sends `rate` requests per second at fixed instants for `length`, whether or not earlier ones have a response.
///
/// The time of a request that leaves late, because its connection still waited for a response, counts from its planned
/// instant: otherwise a slow server would slow the load and hide how long requests wait.
pub async fn open_loop(shot: &Arc<Shot>, rate: u32, length: Duration) -> Volley {
    let start = Instant::now();
    let total = (length.as_secs_f64() * f64::from(rate)) as u32;
    let mut tasks = JoinSet::new();
    for number in 0..OPEN_LOOP_CONNECTIONS {
        let shot = Arc::clone(shot);
        tasks.spawn(async move {
            let mut lane = Lane::new(shot, number);
            for turn in (number..total).step_by(OPEN_LOOP_CONNECTIONS as usize) {
                let due = start + Duration::from_secs_f64(f64::from(turn) / f64::from(rate));
                tokio::time::sleep_until(due.into()).await;
                let late = due.elapsed() > TIMER_GRAIN;
                if !lane.fire(if late { due } else { Instant::now() }).await {
                    break;
                }
            }
            lane.volley
        });
    }
    gather(tasks).await
}

async fn gather(mut tasks: JoinSet<Volley>) -> Volley {
    let mut volley = Volley::default();
    while let Some(lane) = tasks.join_next().await {
        match lane {
            Ok(part) => volley.merge(part),
            Err(error) => volley.refuse(format!("a connection's task ended: {error}")),
        }
    }
    volley
}

/// The requests and responses of one connection.
struct Lane {
    shot: Arc<Shot>,
    number: u32,
    sequence: u32,
    connection: Option<Connection>,
    volley: Volley,
}

impl Lane {
    fn new(shot: Arc<Shot>, number: u32) -> Self {
        Self {
            shot,
            number,
            sequence: 0,
            connection: None,
            volley: Volley::default(),
        }
    }

    /// Sends one request and records its outcome. Returns false if no connection can be opened, which ends the lane.
    async fn fire(&mut self, sent: Instant) -> bool {
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => match Connection::open(self.shot.address).await {
                Ok(open) => open,
                Err(error) => {
                    self.volley.refuse(format!("no connection: {error}"));
                    return false;
                }
            },
        };
        self.sequence += 1;
        let request = self.shot.request(self.number, self.sequence);
        match timeout(ANSWER_DEADLINE, exchange(&mut connection, &request)).await {
            Ok(Ok(Ok(id))) => self.volley.accepted.push(Accepted {
                id,
                sent,
                answered: Instant::now(),
            }),
            Ok(Ok(Err(refusal))) => self.volley.refuse_after(refusal, sent),
            Ok(Err(broken)) => {
                self.volley.refuse_after(format!("connection broken: {broken}"), sent);
                return true;
            }
            Err(_) => {
                let reason = format!("no answer within {} s", ANSWER_DEADLINE.as_secs());
                self.volley.refuse_after(reason, sent);
                return true;
            }
        }
        self.connection = Some(connection);
        true
    }
}

/// Sends a request and returns the message id of a 202, or in one line the response that came instead.
async fn exchange(connection: &mut Connection, request: &[u8]) -> io::Result<Result<Id, String>> {
    connection.send(request).await?;
    let frame = connection.receive().await?.ok_or(io::ErrorKind::ConnectionReset)?;
    let (status, body) = (status(connection.head(&frame))?, connection.body(&frame));
    if status != 202 {
        return Ok(Err(format!(
            "{status} {}",
            String::from_utf8_lossy(&body[..body.len().min(200)])
        )));
    }
    Ok(message_id(body).ok_or_else(|| "a 202 without a message id".to_owned()))
}

fn message_id(body: &[u8]) -> Option<Id> {
    const KEY: &[u8] = b"\"id\":\"";
    let text = &body[find(body, KEY)? + KEY.len()..];
    let end = text.iter().position(|byte| *byte == b'"')?;
    text.starts_with(b"msg_").then(|| Id::from_bytes(&text[..end]))?
}
