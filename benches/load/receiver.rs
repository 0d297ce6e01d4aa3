//! Receives webhooks on a port of this program, records when each message arrived, and answers 204.
//!
//! It checks that every body is the payload that was sent, byte for byte. Must not verify signatures (the tests do
//! that): it has to cost as little as possible beside the server that is measured.

use crate::generator::{Accepted, Id};
use crate::wire::{Connection, field};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

const ARRIVED: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const POLL: Duration = Duration::from_millis(5);

/// A listening receiver. [`Receiver::collect`] takes out what has arrived.
pub struct Receiver {
    pub address: SocketAddr,
    inbox: Arc<Inbox>,
}

/// The state that a receiver's connections share with [`Receiver::collect`]. Each connection adds arrivals; `collect`
/// takes them all under the same lock.
struct Inbox {
    /// The body that every request must have.
    payload: String,
    /// The response to every request, complete with its head.
    answer: Vec<u8>,
    arrivals: Mutex<Vec<(Id, Instant)>>,
    damaged: AtomicUsize,
}

/// The arrivals of the messages that were accepted.
#[derive(Default)]
pub struct Delivered {
    /// The first arrival of each message.
    pub first: HashMap<Id, Instant>,
    /// The latest of the first arrivals; `None` if nothing arrived.
    pub last: Option<Instant>,
    /// Messages that never arrived.
    pub missing: usize,
    /// Arrivals after a message's first one.
    pub duplicates: usize,
    /// Requests that had no message id, or another body than the payload.
    pub damaged: usize,
}

impl Delivered {
    /// Adds the arrivals of the same messages at another receiver.
    pub fn add(&mut self, other: Self) {
        for (id, instant) in other.first {
            let first = self.first.entry(id).or_insert(instant);
            *first = instant.min(*first);
        }
        self.last = self.last.max(other.last);
        self.missing += other.missing;
        self.duplicates += other.duplicates;
        self.damaged += other.damaged;
    }
}

impl Receiver {
    /// Starts a receiver that answers 204 to every request.
    pub async fn start(host: &str, payload: &str) -> io::Result<Self> {
        Self::start_answering(host, payload, ARRIVED).await
    }

    /// Starts a receiver that sends `answer`, a whole HTTP response, to every request.
    pub async fn start_answering(host: &str, payload: &str, answer: &[u8]) -> io::Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let inbox = Inbox {
            payload: payload.to_owned(),
            answer: answer.to_owned(),
            arrivals: Mutex::default(),
            damaged: AtomicUsize::new(0),
        };
        let inbox = Arc::new(inbox);
        tokio::spawn(listen(listener, Arc::clone(&inbox)));
        Ok(Self { address, inbox })
    }

    /// Waits until every accepted message has arrived, at most until `deadline`, then empties the inbox.
    pub async fn collect(&self, accepted: &[Accepted], deadline: Instant) -> Delivered {
        let mut first: HashMap<Id, Instant> = HashMap::with_capacity(accepted.len());
        let mut duplicates = 0;
        let mut awaited = accepted.iter().peekable();
        loop {
            let arrivals = std::mem::take(&mut *self.inbox.arrivals.lock().unwrap());
            for (id, instant) in arrivals {
                match first.entry(id) {
                    Entry::Occupied(_) => duplicates += 1,
                    Entry::Vacant(place) => _ = place.insert(instant),
                }
            }
            while awaited.next_if(|message| first.contains_key(&message.id)).is_some() {}
            if awaited.peek().is_none() || Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        let last = accepted
            .iter()
            .filter_map(|message| first.get(&message.id))
            .max()
            .copied();
        let missing = accepted
            .iter()
            .filter(|message| !first.contains_key(&message.id))
            .count();
        let damaged = self.inbox.damaged.swap(0, Ordering::Relaxed);
        Delivered {
            first,
            last,
            missing,
            duplicates,
            damaged,
        }
    }
}

async fn listen(listener: TcpListener, inbox: Arc<Inbox>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(take_in(stream, Arc::clone(&inbox)));
    }
}

/// Records and answers the requests of one connection until it ends.
async fn take_in(stream: TcpStream, inbox: Arc<Inbox>) -> io::Result<()> {
    let mut connection = Connection::over(stream);
    while let Some(frame) = connection.receive().await? {
        let now = Instant::now();
        let id = field(connection.head(&frame), b"webhook-id").and_then(Id::from_bytes);
        match id.filter(|_| connection.body(&frame) == inbox.payload.as_bytes()) {
            Some(id) => inbox.arrivals.lock().unwrap().push((id, now)),
            None => _ = inbox.damaged.fetch_add(1, Ordering::Relaxed),
        }
        connection.send(&inbox.answer).await?;
    }
    Ok(())
}

/// Starts a server that answers 202 to everything, to measure what the generator reaches if the server costs nothing.
pub async fn start_empty_server() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(accept_all(stream));
        }
    });
    Ok(address)
}

async fn accept_all(stream: TcpStream) -> io::Result<()> {
    const BODY: &str = r#"{"id":"msg_00000000000000000000000000"}"#;
    let answer = format!("HTTP/1.1 202 Accepted\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    let mut connection = Connection::over(stream);
    while connection.receive().await?.is_some() {
        connection.send(answer.as_bytes()).await?;
    }
    Ok(())
}
