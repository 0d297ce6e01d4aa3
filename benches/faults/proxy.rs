//! A TCP proxy before Postgres that drops, delays and half-closes connections, and loses answers.
//!
//! It reads just enough of the stream to recognize the end of a write: a COMMIT, or a statement with the id of a
//! message, as the client sends it; and the server's message that it is ready and in no transaction (PostgreSQL
//! documentation, "Message Formats").

use crate::Failure;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::Url;

const COMMIT: &[u8] = b"COMMIT\0";
const MESSAGE_ID: &[u8] = b"msg_";
const READY_AND_IDLE: &[u8] = b"Z\0\0\0\x05I";
const LONGEST_WORD: usize = 8;

/// Listens on a loopback port until it is dropped.
pub struct Proxy {
    /// The database's URL through this proxy.
    pub url: String,
    inner: Arc<Inner>,
    accepting: JoinHandle<()>,
}

/// What the harness writes and the connections read. The numbers have no order among each other.
struct Inner {
    target: SocketAddr,
    /// How long each part of the stream waits, in milliseconds.
    delay: AtomicU64,
    /// How long the end of a write waits before it reaches the server, in milliseconds.
    commit_delay: AtomicU64,
    /// How many answers to the end of a write are still to be lost.
    to_lose: AtomicUsize,
    /// The number of cuts. Each connection ends when it changes.
    cuts: watch::Sender<u64>,
    /// The number of half-closes. Each connection is half-closed when it changes.
    halves: watch::Sender<u64>,
    connections: AtomicU64,
}

impl Proxy {
    /// Starts a proxy in front of the server of `url`, which names an address and a port.
    pub async fn to(url: &str) -> Result<Self, Failure> {
        let mut url = Url::parse(url)?;
        let port = url.port().ok_or("the URL has no port")?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        url.set_port(Some(listener.local_addr()?.port()))
            .map_err(|()| "the URL takes no port")?;
        let inner = Arc::new(Inner {
            target: SocketAddr::from(([127, 0, 0, 1], port)),
            delay: AtomicU64::new(0),
            commit_delay: AtomicU64::new(0),
            to_lose: AtomicUsize::new(0),
            cuts: watch::Sender::new(0),
            halves: watch::Sender::new(0),
            connections: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&inner)));
        Ok(Self {
            url: url.to_string(),
            inner,
            accepting,
        })
    }

    /// Delays each part of a request and of an answer.
    pub fn delay(&self, by: Duration) {
        self.inner.delay.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// Delays the end of each write on its way to the server.
    pub fn delay_commits(&self, by: Duration) {
        self.inner.commit_delay.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// Ends all present connections; new ones work.
    pub fn cut(&self) {
        self.inner.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Ends one direction of each present connection: every other one towards the client, the rest towards the server,
    /// whose end the client does not see. They stay like that until the next cut; new connections work.
    pub fn half_close(&self) {
        self.inner.halves.send_modify(|halves| *halves += 1);
    }

    /// Lets the next `count` writes end on the server, loses the answers, and ends their connections. Returns how many
    /// of earlier ones are still to be lost.
    pub fn lose_answers(&self, count: usize) -> usize {
        self.inner.to_lose.swap(count, Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let (mut cuts, inner) = (inner.cuts.subscribe(), Arc::clone(&inner));
        cuts.mark_unchanged();
        tokio::spawn(async move {
            tokio::select! {
                _ = cuts.changed() => {}
                () = pass(client, &inner) => {}
            }
        });
    }
}

/// Passes one connection's data until either side ends it, or until an answer of it is lost.
async fn pass(client: TcpStream, inner: &Inner) {
    let Ok(server) = TcpStream::connect(inner.target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let towards_client = inner.connections.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
    let losing = AtomicBool::new(false);
    let (requests, answers) = (
        Half::new(client_read, server_write, inner, !towards_client),
        Half::new(server_read, client_write, inner, towards_client),
    );
    tokio::select! {
        () = requests.pass_requests(&losing) => {}
        () = answers.pass_answers(&losing, !towards_client) => {}
    }
}

/// One direction of a connection.
struct Half<'a> {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    inner: &'a Inner,
    halves: watch::Receiver<u64>,
    /// Whether a half-close ends this direction.
    ends: bool,
    buffer: Vec<u8>,
    /// The last bytes that have passed, to recognize a word that spans two parts.
    tail: Vec<u8>,
}

impl<'a> Half<'a> {
    fn new(from: OwnedReadHalf, to: OwnedWriteHalf, inner: &'a Inner, ends: bool) -> Self {
        let mut halves = inner.halves.subscribe();
        halves.mark_unchanged();
        Self {
            from,
            to,
            inner,
            halves,
            ends,
            buffer: vec![0; 64 * 1024],
            tail: Vec::new(),
        }
    }

    /// Reads the next part; its length is 0 at the end of the stream. Once this direction was half-closed, nothing
    /// comes any more.
    async fn read(&mut self) -> usize {
        let length = tokio::select! {
            _ = self.halves.changed(), if self.ends => {
                let _ = self.to.shutdown().await;
                std::future::pending().await
            }
            read = self.from.read(&mut self.buffer) => read.unwrap_or(0),
        };
        let delay = self.inner.delay.load(Ordering::SeqCst);
        if delay > 0 && length > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        length
    }

    /// Returns whether one of the words has ended in this part.
    fn has_brought(&mut self, length: usize, words: &[&[u8]]) -> bool {
        self.tail.extend_from_slice(&self.buffer[..length]);
        let found = words
            .iter()
            .any(|word| self.tail.windows(word.len()).any(|window| window == *word));
        let kept = if found {
            0
        } else {
            self.tail.len().min(LONGEST_WORD - 1)
        };
        self.tail.drain(..self.tail.len() - kept);
        found
    }

    async fn pass_requests(mut self, losing: &AtomicBool) {
        loop {
            let length = self.read().await;
            if length == 0 {
                return;
            }
            if self.has_brought(length, &[COMMIT, MESSAGE_ID]) {
                let delay = self.inner.commit_delay.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(delay)).await;
                let one_less = |left: usize| left.checked_sub(1);
                let counted = self
                    .inner
                    .to_lose
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
                losing.fetch_or(counted.is_ok(), Ordering::SeqCst);
            }
            if self.to.write_all(&self.buffer[..length]).await.is_err() {
                return;
            }
        }
    }

    /// Passes answers; `hides_end` says that the client does not see the server's end after a half-close.
    async fn pass_answers(mut self, losing: &AtomicBool, hides_end: bool) {
        loop {
            let length = self.read().await;
            if length == 0 && hides_end && self.halves.has_changed().unwrap_or(false) {
                return std::future::pending().await;
            }
            if length == 0 || (self.has_brought(length, &[READY_AND_IDLE]) && losing.load(Ordering::SeqCst)) {
                return;
            }
            if self.to.write_all(&self.buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}
