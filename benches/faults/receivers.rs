//! Receives the webhooks of all endpoints, each on a port of its own, and notes every request.
//!
//! They answer after some milliseconds, so that there are requests in flight at every moment. While they are dying,
//! they reset each connection in the middle of an answer. Must not judge what arrives.

use super::ledger::{Arrival, Given, Shared, lock};
use super::traffic::{ENDPOINTS, is_refused_once, number_in};
use crate::wire::{Connection, field};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const SUCCESS: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const REFUSAL: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
const HALF_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-le";
const HALF_BODY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthis is not all of";

/// The listening receivers, which end when this is dropped.
pub struct Receivers {
    pub addresses: Vec<SocketAddr>,
    /// Whether answers break off. The run writes it, each connection reads it before it answers.
    dying: Arc<AtomicBool>,
    _listening: JoinSet<()>,
}

impl Receivers {
    pub async fn start(ledger: &Shared) -> io::Result<Self> {
        let dying = Arc::new(AtomicBool::new(false));
        let (mut addresses, mut listening) = (Vec::new(), JoinSet::new());
        for endpoint in 0..ENDPOINTS {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            addresses.push(listener.local_addr()?);
            listening.spawn(listen(listener, endpoint, Arc::clone(ledger), Arc::clone(&dying)));
        }
        Ok(Self {
            addresses,
            dying,
            _listening: listening,
        })
    }

    /// Makes the receivers reset their connections within answers, or makes them answer again.
    pub fn die(&self, dying: bool) {
        self.dying.store(dying, Ordering::SeqCst);
    }
}

async fn listen(listener: TcpListener, endpoint: usize, ledger: Shared, dying: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(take_in(stream, endpoint, Arc::clone(&ledger), Arc::clone(&dying)));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Notes and answers the requests of one connection until it ends.
async fn take_in(stream: TcpStream, endpoint: usize, ledger: Shared, dying: Arc<AtomicBool>) -> io::Result<()> {
    let mut connection = Connection::over(stream);
    while let Some(frame) = connection.receive().await? {
        let at = Instant::now();
        let id = field(connection.head(&frame), b"webhook-id").unwrap_or_default();
        let id = String::from_utf8_lossy(id).into_owned();
        let Some(number) = number_in(connection.body(&frame)) else {
            lock(&ledger).complain("no number", format!("a request at endpoint {endpoint}"));
            continue;
        };
        let given = given_to(number, endpoint, &ledger, dying.load(Ordering::SeqCst));
        let arrival = Arrival {
            endpoint,
            at,
            given,
            id,
        };
        lock(&ledger).arrive(number, arrival);
        tokio::time::sleep(Duration::from_millis(u64::from(1 + number % 9))).await;
        match given {
            Given::Success => connection.send(SUCCESS).await?,
            Given::Refusal => connection.send(REFUSAL).await?,
            Given::HalfHead => return reset_after(connection, HALF_HEAD).await,
            Given::HalfBody => return reset_after(connection, HALF_BODY).await,
        }
    }
    Ok(())
}

fn given_to(number: u32, endpoint: usize, ledger: &Shared, dying: bool) -> Given {
    let ledger = lock(ledger);
    let is_first = ledger
        .entries
        .get(number as usize)
        .is_some_and(|entry| entry.count(endpoint, |_| true) == 0);
    match (dying, number % 2) {
        (true, 0) => Given::HalfHead,
        (true, _) => Given::HalfBody,
        (false, _) if is_first && is_refused_once(number, endpoint) => Given::Refusal,
        (false, _) => Given::Success,
    }
}

/// Sends a part of an answer, and ends the connection with a reset instead of a FIN.
async fn reset_after(connection: Connection, part: &[u8]) -> io::Result<()> {
    connection.send(part).await?;
    // The part shall arrive before the reset, which overtakes what lies in buffers.
    tokio::time::sleep(Duration::from_millis(5)).await;
    connection.reset()
}
