//! Serves HTTP/1.1 on a bound port. Limits the number of connections, and enforces a deadline in every state of each.
//!
//! One loop accepts connections. A second one checks all open connections at an interval and aborts the tasks of those
//! that are overdue, so that no connection has a timer of its own. If the limit is reached, or the process has no file
//! descriptor left, the listener closes the connections that have waited longest for their clients. It never closes a
//! connection in favour of another while its request is being handled and its client reads.
//!
//! The listener does not speak HTTP/2. There a client may have any number of requests on one connection, and it decides
//! how much of each response is sent, so neither the limit of connections nor a deadline would hold.
//!
//! Must not know what is served.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::connection::{Connection, Io, State};

/// The largest head of a request, and the size of hyper's read buffer, in bytes. A larger head gets a 431. With 5,000
/// clients that send half a head each, the buffers take 80 MB. The proxy in front lets lines of 8 KiB through.
const LARGEST_HEAD: usize = 16 << 10;
/// How often the connections are checked within the shortest of the deadlines.
const LOOKS: u32 = 30;
/// The longest interval between two checks; the interval for deadlines of half a minute or more. Checking 5,000
/// connections takes a fraction of a millisecond.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// The shortest interval between two checks, for tests with short deadlines.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
/// At the limit, one in this many connections is closed at once, so that a flood of new connections does not cost a
/// search for each of them.
const CLOSED_AT_ONCE: usize = 100;
/// How long to wait after a failed accept. The usual cause is a limit of the system, which does not go away at once.
const PAUSE: Duration = Duration::from_millis(100);
/// How long to wait after a failed accept if connections were closed to remove its cause.
const SHORT_PAUSE: Duration = Duration::from_millis(2);
/// The least time between two log lines about failed accepts.
const QUIET: Duration = Duration::from_secs(10);
/// The errors that say that the process (`EMFILE`) or the system (`ENFILE`) has no file descriptor left.
const NO_DESCRIPTOR: [i32; 2] = [24, 23];

/// How many connections there may be, and how long each client may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections may be open at once.
    pub connections: usize,
    /// The time from the first byte of a request until the first byte goes back.
    pub request: Duration,
    /// The time from the first write that has to wait for the client until the response is written.
    pub response: Duration,
    /// While a response waits for its client: the time from one part that the client takes to the next.
    pub progress: Duration,
    /// The time without a request: from the start of the connection, or from the last response.
    pub silence: Duration,
}

impl Limits {
    /// Returns the interval between two checks of the connections.
    fn look(&self) -> Duration {
        let shortest = self.request.min(self.response).min(self.progress).min(self.silence);
        (shortest / LOOKS).clamp(SHORTEST_LOOK, LONGEST_LOOK)
    }

    /// Returns whether a connection is overdue at `now`, in milliseconds since the listener's start.
    fn is_over(&self, connection: &Connection, now: u64) -> bool {
        let (state, since) = connection.state();
        let over = |since: u64, limit: Duration| {
            let waited = Duration::from_millis(now.saturating_sub(since));
            // Connections read the time of the last check, so `since` may lie up to one interval before the true
            // instant.
            waited > limit + self.look()
        };
        match state {
            State::Silent => over(since, self.silence),
            State::Asking => over(since, self.request),
            State::Unread => over(since, self.response) || over(connection.progress(), self.progress),
        }
    }
}

/// Serves `endpoint` until `stop` completes. Then ends idle connections at once and the others after their response,
/// and aborts those that are left when `grace` is over.
///
/// # Errors
/// If the socket's own address cannot be read.
pub async fn serve<E>(
    socket: TcpListener,
    limits: Limits,
    endpoint: E,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> io::Result<()>
where
    E: Endpoint<Output = Response> + 'static,
{
    let connections = Arc::new(Connections::new(limits));
    let listener = Listener {
        local: LocalAddr(socket.local_addr()?.into()),
        socket,
        endpoint: Arc::new(endpoint),
        connections: connections.clone(),
        warned: None,
    };
    tokio::select! {
        () = stop => {}
        () = listener.accept() => {}
        () = connections.watch() => {}
    }
    connections.leave();
    let ended = async {
        tokio::select! {
            () = connections.ended() => {}
            () = connections.watch() => {}
        }
    };
    if tokio::time::timeout(grace, ended).await.is_err() {
        connections.close(|_| true);
    }
    Ok(())
}

/// Accepts connections and starts a task for each.
struct Listener<E> {
    socket: TcpListener,
    local: LocalAddr,
    endpoint: Arc<E>,
    connections: Arc<Connections>,
    /// When a failed accept was last logged; `None` if never.
    warned: Option<Instant>,
}

impl<E: Endpoint<Output = Response> + 'static> Listener<E> {
    /// Accepts connections as long as it is polled; never returns.
    async fn accept(mut self) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    let room = self.connections.room().await;
                    self.start(stream, peer, room);
                }
                Err(err) => self.get_over(&err).await,
            }
        }
    }

    /// Spawns the task that serves a new connection.
    fn start(&self, stream: TcpStream, peer: SocketAddr, room: OwnedSemaphorePermit) {
        // Nagle's algorithm would delay small responses.
        let _ = stream.set_nodelay(true);
        let connection = Connection::new(stream, self.connections.now.clone());
        let addresses = (self.local.clone(), RemoteAddr(peer.into()));
        self.connections.add(connection.clone(), room, |place| {
            converse(self.endpoint.clone(), connection, addresses, place)
        });
    }

    /// Handles a failed accept; returns when it is worth trying again.
    async fn get_over(&mut self, err: &io::Error) {
        if matches!(
            err.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
        ) {
            return;
        }
        if self.warned.is_none_or(|at| at.elapsed() >= QUIET) {
            tracing::warn!(%err, "connections cannot be accepted");
            self.warned = Some(Instant::now());
        }
        let none_left = err.raw_os_error().is_some_and(|code| NO_DESCRIPTOR.contains(&code));
        let pause = match none_left && self.connections.close_longest() {
            true => SHORT_PAUSE,
            false => PAUSE,
        };
        tokio::time::sleep(pause).await;
    }
}

/// The open connections. The accepting loop adds to them, each connection's task removes its own entry, and both loops
/// choose tasks to abort. The mutex in `open` orders all three.
struct Connections {
    limits: Limits,
    started: Instant,
    /// Milliseconds from `started` to the last check. Written by the checking loop, read by the connections' tasks.
    now: Arc<AtomicU64>,
    /// One permit for each connection that may still be opened.
    room: Arc<Semaphore>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// The open connections by their number: they are numbered in the order in which they came.
    connections: HashMap<u64, Known>,
    /// How many connections have come so far; the number of the latest.
    came: u64,
}

struct Known {
    connection: Arc<Connection>,
    /// The handle that aborts the connection's task; `None` until the task is spawned.
    task: Option<AbortHandle>,
}

impl Open {
    /// Adds a connection and returns its number.
    fn enter(&mut self, connection: Arc<Connection>) -> u64 {
        self.came += 1;
        let known = Known { connection, task: None };
        self.connections.insert(self.came, known);
        self.came
    }
}

impl Connections {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            started: Instant::now(),
            now: Arc::default(),
            room: Arc::new(Semaphore::new(limits.connections)),
            open: Mutex::default(),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection and spawns its task. The task owns the [`Place`] and so keeps the connection in the list until
    /// it ends.
    fn add<F>(self: &Arc<Self>, connection: Arc<Connection>, room: OwnedSemaphorePermit, task: impl FnOnce(Place) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let number = self.open().enter(connection);
        let place = Place {
            connections: self.clone(),
            number,
            _room: room,
        };
        let task = tokio::spawn(task(place)).abort_handle();
        // The task may have ended already and removed its entry.
        if let Some(known) = self.open().connections.get_mut(&number) {
            known.task = Some(task);
        }
    }

    /// Waits until one more connection may be opened, and returns the permit for it. At the limit it closes connections
    /// that wait for their clients.
    async fn room(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(room) = self.room.clone().try_acquire_owned() {
                return room;
            }
            self.close_longest();
            // If no connection waited for its client just now, one may do so after another interval.
            let room = self.room.clone().acquire_owned();
            if let Ok(Ok(room)) = tokio::time::timeout(self.limits.look(), room).await {
                return room;
            }
        }
    }

    /// Checks all connections at an interval and closes those that are overdue, as long as it is polled; never returns.
    async fn watch(&self) {
        let mut looks = tokio::time::interval(self.limits.look());
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let now = self.started.elapsed().as_millis() as u64;
            self.now.store(now, Ordering::Relaxed);
            self.close(|connection| self.limits.is_over(connection, now));
        }
    }

    /// Closes the connections that `which` chooses, by aborting their tasks.
    fn close(&self, which: impl Fn(&Connection) -> bool) {
        let open = self.open();
        let chosen = open.connections.values().filter(|known| which(&known.connection));
        let tasks: Vec<_> = chosen.filter_map(|known| known.task.clone()).collect();
        // An aborted task removes its own entry, and needs the lock for it.
        drop(open);
        tasks.iter().for_each(AbortHandle::abort);
    }

    /// Closes the connections that have waited longest for their clients. Returns false if none waits for its client.
    fn close_longest(&self) -> bool {
        let open = self.open();
        let all = open.connections.iter();
        let waiting = all.filter(|(_, known)| known.connection.waits_for_client());
        // Of two connections that have waited equally long, the older one is closed first.
        let waiting = waiting.map(|(number, known)| (known.connection.state().1, *number, known.task.as_ref()));
        let mut waiting: Vec<_> = waiting.collect();
        let most = (self.limits.connections / CLOSED_AT_ONCE).max(1).min(waiting.len());
        if most == 0 {
            return false;
        }
        waiting.select_nth_unstable_by_key(most - 1, |(since, number, _)| (*since, *number));
        let tasks: Vec<_> = waiting[..most]
            .iter()
            .filter_map(|(_, _, task)| task.cloned())
            .collect();
        drop(open);
        tasks.iter().for_each(AbortHandle::abort);
        true
    }

    /// Asks all connections to end after the response in progress.
    fn leave(&self) {
        for known in self.open().connections.values() {
            known.connection.leave.notify_one();
        }
    }

    /// Waits until no connection is open.
    async fn ended(&self) {
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        let _ = self.room.acquire_many(all).await;
    }
}

/// Keeps a connection among the open ones, and holds its permit, until this is dropped.
struct Place {
    connections: Arc<Connections>,
    number: u64,
    _room: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().connections.remove(&self.number);
    }
}

/// Serves one connection until its client or the process ends it, or it fails.
async fn converse<E>(endpoint: Arc<E>, connection: Arc<Connection>, addresses: (LocalAddr, RemoteAddr), _place: Place)
where
    E: Endpoint<Output = Response> + 'static,
{
    // hyper and its buffers are created once something arrives, so a client that sends nothing costs no buffers.
    tokio::select! {
        heard = connection.heard_from() => if heard.is_err() { return },
        () = connection.leave.notified() => return,
    }
    let asked = connection.clone();
    // Boxed, so that the task of a connection without a request does not contain a request's future.
    let service =
        service_fn(move |request| Box::pin(answer(endpoint.clone(), asked.clone(), addresses.clone(), request)));
    let io = TokioIo::new(Io(connection.clone()));
    let mut http = pin!(
        http1::Builder::new()
            .max_buf_size(LARGEST_HEAD)
            .serve_connection(io, service)
    );
    tokio::select! {
        _ = &mut http => return,
        () = connection.failed() => return,
        () = connection.leave.notified() => http.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = &mut http => {}
        () = connection.failed() => {}
    }
}

/// Handles one request, once the client has taken the response before it.
async fn answer<E: Endpoint<Output = Response>>(
    endpoint: Arc<E>,
    connection: Arc<Connection>,
    (local, remote): (LocalAddr, RemoteAddr),
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<BoxBody<Bytes, io::Error>>, Infallible> {
    connection.response_taken().await;
    let _handling = connection.handle();
    let request = Request::from((request, local, remote, Scheme::HTTP));
    Ok((*endpoint).get_response(request).await.into())
}
