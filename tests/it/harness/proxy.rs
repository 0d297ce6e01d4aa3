//! A TCP proxy in front of Postgres that breaks connections on demand. It reads just enough of what passes to know a
//! COMMIT and its answer: both end in a text with a zero byte after it (PostgreSQL documentation, "Message Formats").

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::Url;

use super::within::{DEADLINE, within};

/// Client to server as a simple query; server to client as the tag of the completed command.
const COMMIT: &[u8] = b"COMMIT\0";
/// What binds the statement that stores a batch of messages, and how its answer, one row, ends.
const MESSAGE_ID: &[u8] = b"msg_";
const SELECTED: &[u8] = b"SELECT 1\0";

struct Inner {
    /// Where new connections lead.
    target: Mutex<SocketAddr>,
    flow: watch::Sender<Flow>,
    /// Counts the cuts: a connection ends when it moves.
    cuts: watch::Sender<u64>,
    armed: AtomicBool,
    armed_for_batch: AtomicBool,
}

#[derive(Clone, Copy, Default)]
struct Flow {
    stalled: bool,
    /// How often connections were abandoned: one from before the last time is.
    since: u64,
}

/// Listens on a loopback port until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    inner: Arc<Inner>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// In front of the server of `url`.
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

    /// The same database, reached through this proxy.
    pub fn url(&self, direct: &str) -> String {
        let mut url = Url::parse(direct).expect("a database URL");
        url.set_host(Some(&self.address.ip().to_string()))
            .expect("an address is a host");
        url.set_port(Some(self.address.port()))
            .expect("a database URL takes a port");
        url.to_string()
    }

    /// New connections lead to the server of `url`, as when an address moves to another server.
    pub async fn lead_to(&self, url: &str) {
        let target = address_of(url).await;
        *self.inner.target.lock().expect("no panic under this lock") = target;
    }

    /// Nothing passes any more, in either direction, and no connection ends.
    pub fn stall(&self) {
        self.inner.flow.send_modify(|flow| flow.stalled = true);
    }

    /// What has waited passes, and all that follows.
    pub fn resume(&self) {
        self.inner.flow.send_modify(|flow| flow.stalled = false);
    }

    /// Nothing passes any more on the connections of this moment, and none of them ends; new ones are let through. So it is
    /// when a host vanishes and another takes its address.
    pub fn abandon(&self) {
        self.inner.flow.send_modify(|flow| flow.since += 1);
    }

    /// Ends all connections of this moment; new ones are let through.
    pub fn cut(&self) {
        self.inner.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The next COMMIT reaches the server and commits; its answer is lost and the connection ends.
    pub fn lose_next_commit(&self) {
        self.inner.armed.store(true, Ordering::SeqCst);
    }

    /// The next batch of messages that is one statement commits; its answer is lost and the connection ends.
    pub fn lose_next_batch(&self) {
        self.inner.armed_for_batch.store(true, Ordering::SeqCst);
    }

    /// Waits until the answer that [`Proxy::lose_next_batch`] announced has been lost.
    pub async fn batch_lost(&self) {
        let armed = &self.inner.armed_for_batch;
        within(DEADLINE, "a batch's answer was lost", async || {
            (!armed.load(Ordering::SeqCst)).then_some(())
        })
        .await;
    }

    /// Waits until the COMMIT that [`Proxy::lose_next_commit`] announced has been lost.
    pub async fn commit_lost(&self) {
        let armed = &self.inner.armed;
        within(DEADLINE, "a COMMIT was lost", async || {
            (!armed.load(Ordering::SeqCst)).then_some(())
        })
        .await;
    }
}

/// The address of a database URL's host.
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

/// One connection; ends when either side ends, or when it has lost its COMMIT.
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

/// Waits until this connection may pass something; one that is abandoned waits for ever.
async fn flowing(inner: &Inner, born: u64) {
    let passes = |flow: &Flow| !flow.stalled && flow.since == born;
    let _ = inner.flow.subscribe().wait_for(passes).await;
}

/// The end of what has passed, for a COMMIT that two reads cut in two.
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
