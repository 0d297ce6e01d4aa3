//! A TCP proxy in front of Postgres that stalls and breaks connections on demand. It reads just enough of the stream to
//! recognise a COMMIT and its answer: both end in a text with a zero byte after it (PostgreSQL documentation, "Message
//! Formats").

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::Url;

use super::random::random;
use super::within::{DEADLINE, within};

/// A COMMIT as it passes: from the client as a simple query, from the server as the tag of the completed command.
const COMMIT: &[u8] = b"COMMIT\0";
/// The beginning of a message id, which is a parameter of the statement that stores a batch, and the end of the answer
/// to that statement, which has one row.
const MESSAGE_ID: &[u8] = b"msg_";
const SELECTED: &[u8] = b"SELECT 1\0";

struct Inner {
    /// The server that new connections are passed to.
    target: Mutex<SocketAddr>,
    flow: watch::Sender<Flow>,
    /// The number of cuts. Each connection ends when it changes.
    cuts: watch::Sender<u64>,
    armed: AtomicBool,
    armed_for_batch: AtomicBool,
}

#[derive(Clone, Copy, Default)]
struct Flow {
    stalled: bool,
    /// How long a part of a request waits at most, in microseconds.
    delay: u64,
    /// How often the connections were abandoned. A connection passes data only while this is the number of its start.
    since: u64,
}

/// Listens on a loopback port until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    inner: Arc<Inner>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy in front of the server of `url`.
    pub async fn to(url: &str) -> Self {
        let target = address_of(url).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let inner = Arc::new(Inner {
            target: Mutex::new(target),
            flow: watch::Sender::default(),
            cuts: watch::Sender::new(0),
            armed: AtomicBool::new(false),
            armed_for_batch: AtomicBool::new(false),
        });
        let accepting = tokio::spawn(accept(listener, inner.clone()));
        Self {
            address,
            inner,
            accepting,
        }
    }

    /// Returns the URL `direct`, changed to go through this proxy.
    pub fn url(&self, direct: &str) -> String {
        let mut url = Url::parse(direct).expect("a database URL");
        url.set_host(Some(&self.address.ip().to_string()))
            .expect("an address is a host");
        url.set_port(Some(self.address.port()))
            .expect("a database URL takes a port");
        url.to_string()
    }

    /// Passes new connections to the server of `url`, as when an address moves to another server.
    pub async fn lead_to(&self, url: &str) {
        let target = address_of(url).await;
        *self.inner.target.lock().expect("no panic under this lock") = target;
    }

    /// Stops all data in both directions; no connection ends.
    pub fn stall(&self) {
        self.inner.flow.send_modify(|flow| flow.stalled = true);
    }

    /// Lets the data that has waited pass, and all that follows.
    pub fn resume(&self) {
        self.inner.flow.send_modify(|flow| flow.stalled = false);
    }

    /// Holds each part of a request back for up to so many microseconds, at random.
    pub fn delay(&self, micros: u64) {
        self.inner.flow.send_modify(|flow| flow.delay = micros);
    }

    /// Stops all data on the present connections without ending them; new ones work. This is how it looks when a host
    /// vanishes and another one takes over its address.
    pub fn abandon(&self) {
        self.inner.flow.send_modify(|flow| flow.since += 1);
    }

    /// Ends all present connections; new ones work.
    pub fn cut(&self) {
        self.inner.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets the next COMMIT reach the server, then drops its answer and ends the connection.
    pub fn lose_next_commit(&self) {
        self.inner.armed.store(true, Ordering::SeqCst);
    }

    /// Lets the next batch of messages that is a single statement commit, then drops its answer and ends the
    /// connection.
    pub fn lose_next_batch(&self) {
        self.inner.armed_for_batch.store(true, Ordering::SeqCst);
    }

    /// Waits until [`Proxy::lose_next_batch`] has dropped an answer.
    pub async fn batch_lost(&self) {
        let armed = &self.inner.armed_for_batch;
        within(DEADLINE, "a batch's answer was lost", async || {
            (!armed.load(Ordering::SeqCst)).then_some(())
        })
        .await;
    }

    /// Waits until [`Proxy::lose_next_commit`] has recognised a COMMIT, whose answer will be dropped.
    pub async fn commit_lost(&self) {
        let armed = &self.inner.armed;
        within(DEADLINE, "a COMMIT passed", async || {
            (!armed.load(Ordering::SeqCst)).then_some(())
        })
        .await;
    }
}

/// Resolves the host of a database URL.
async fn address_of(url: &str) -> SocketAddr {
    let url = Url::parse(url).expect("a database URL");
    let target = format!(
        "{}:{}",
        url.host_str().unwrap_or("127.0.0.1"),
        url.port().unwrap_or(5432)
    );
    let target = tokio::net::lookup_host(target)
        .await
        .ok()
        .and_then(|mut found| found.next());
    target.expect("the database's host has an address")
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    while let Ok((client, _)) = listener.accept().await {
        let mut cuts = inner.cuts.subscribe();
        cuts.mark_unchanged();
        let inner = inner.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = cuts.changed() => {}
                () = pass(client, &inner) => {}
            }
        });
    }
}

/// Passes one connection's data until either side ends it, or until its COMMIT's answer is dropped.
async fn pass(client: TcpStream, inner: &Inner) {
    let target = *inner.target.lock().expect("no panic under this lock");
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let born = inner.flow.borrow().since;
    let (losing, storing) = (AtomicBool::new(false), AtomicBool::new(false));
    tokio::select! {
        () = requests(client_read, server_write, inner, born, &losing, &storing) => {}
        () = answers(server_read, client_write, inner, born, &losing, &storing) => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    inner: &Inner,
    born: u64,
    losing: &AtomicBool,
    storing: &AtomicBool,
) {
    let mut seen = Tail::default();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let part = &buffer[..length];
        flowing(inner, born).await;
        let delay = inner.flow.borrow().delay;
        if delay > 0 {
            tokio::time::sleep(Duration::from_micros(random(delay))).await;
        }
        if seen.completes_commit(part) && inner.armed.swap(false, Ordering::SeqCst) {
            losing.store(true, Ordering::SeqCst);
        }
        if part.windows(MESSAGE_ID.len()).any(|window| window == MESSAGE_ID) {
            storing.store(true, Ordering::SeqCst);
        }
        if to.write_all(part).await.is_err() {
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    inner: &Inner,
    born: u64,
    losing: &AtomicBool,
    storing: &AtomicBool,
) {
    let mut seen = Tail::default();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let part = &buffer[..length];
        flowing(inner, born).await;
        let stored = storing.load(Ordering::SeqCst) && part.windows(SELECTED.len()).any(|window| window == SELECTED);
        if stored && inner.armed_for_batch.swap(false, Ordering::SeqCst) {
            return;
        }
        let committed = seen.completes_commit(part);
        if losing.load(Ordering::SeqCst) {
            if committed {
                return;
            }
        } else if to.write_all(part).await.is_err() {
            return;
        }
    }
}

/// Waits until this connection may pass data; an abandoned connection waits forever.
async fn flowing(inner: &Inner, born: u64) {
    let passes = |flow: &Flow| !flow.stalled && flow.since == born;
    let _ = inner.flow.subscribe().wait_for(passes).await;
}

/// The last bytes that have passed, to recognise a COMMIT that spans two reads.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn completes_commit(&mut self, part: &[u8]) -> bool {
        self.0.extend_from_slice(part);
        let found = self.0.windows(COMMIT.len()).any(|window| window == COMMIT);
        let keep = self.0.len().min(COMMIT.len() - 1);
        self.0.drain(..self.0.len() - keep);
        found
    }
}
