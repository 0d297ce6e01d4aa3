//! Serves HTTP/1.1 on a bound port: at most so many connections at once, each with deadlines that hold whatever state it is in.
//!
//! One loop accepts, and looks at all connections every so often. It ends those that are overdue by ending their tasks, so no
//! connection has a timer of its own. When there is no room for a newcomer, or no descriptor, it closes those that have
//! waited longest for their clients; a connection whose request is being handled is never closed for another.
//!
//! HTTP/2 is not spoken: there, a client has any number of requests on one connection and says how much of each response is
//! sent, so neither the limit of connections nor a deadline would hold. Must not know what is served.

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

/// Bytes of a request's head, and of what hyper reads at once: with 5,000 clients that send half a head each, 80 MB. The proxy
/// in front passes 8 KiB a line. A larger head is answered with 431.
const LARGEST_HEAD: usize = 16 << 10;
/// Deadlines are looked at so many times within the shortest of them.
const LOOKS: u32 = 30;
/// With deadlines of half a minute; a look at 5,000 connections takes a fraction of a millisecond.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
/// At the limit so great a part of all connections is closed at once: a flood of newcomers is to cost a search now and then,
/// not one each.
const CLOSED_AT_ONCE: usize = 100;
/// How long to wait after a failed accept: its cause, a limit of the system, does not go at once.
const PAUSE: Duration = Duration::from_millis(100);
/// The same, when connections were closed to remove the cause.
const SHORT_PAUSE: Duration = Duration::from_millis(2);
/// Failures to accept are logged no more often.
const QUIET: Duration = Duration::from_secs(10);
/// The process, or the system, has no descriptor left (`EMFILE`, `ENFILE`).
const NO_DESCRIPTOR: [i32; 2] = [24, 23];

/// How many connections there may be, and how long each client may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// From the first byte of a request until something goes back.
    pub request: Duration,
    /// From the first write that has to wait for the client until the response is written.
    pub response: Duration,
    /// From one part that the client takes of such a response to the next.
    pub progress: Duration,
    /// Without a request.
    pub silence: Duration,
}

impl Limits {
    /// How often to look at the connections.
    fn look(&self) -> Duration {
        let shortest = self.request.min(self.response).min(self.progress).min(self.silence);
        (shortest / LOOKS).clamp(SHORTEST_LOOK, LONGEST_LOOK)
    }

    /// Whether a connection has waited too long at `now`, in milliseconds. An instant is up to a look older than it says.
    fn is_over(&self, connection: &Connection, now: u64) -> bool {
        let (state, since) = connection.state();
        let over = |since: u64, limit: Duration| {
            let waited = Duration::from_millis(now.saturating_sub(since));
            waited > limit + self.look()
        };
        match state {
            State::Silent => over(since, self.silence),
            State::Asking => over(since, self.request),
            State::Unread => over(since, self.response) || over(connection.progress(), self.progress),
        }
    }
}

/// Serves `endpoint` until `stop`; then ends the connections that are idle at once, and all others within `grace`.
///
/// # Errors
/// When the socket has no address.
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

/// What accepts connections.
struct Listener<E> {
    socket: TcpListener,
    local: LocalAddr,
    endpoint: Arc<E>,
    connections: Arc<Connections>,
    /// When a failure was last logged.
    warned: Option<Instant>,
}

impl<E: Endpoint<Output = Response> + 'static> Listener<E> {
    /// Accepts connections as long as it is polled.
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

    fn start(&self, stream: TcpStream, peer: SocketAddr, room: OwnedSemaphorePermit) {
        // Small responses go out without delay.
        let _ = stream.set_nodelay(true);
        let connection = Connection::new(stream, self.connections.now.clone());
        let addresses = (self.local.clone(), RemoteAddr(peer.into()));
        self.connections.add(connection.clone(), room, |place| {
            converse(self.endpoint.clone(), connection, addresses, place)
        });
    }

    /// Returns when it is worth while to accept again.
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

/// The connections that are open.
struct Connections {
    limits: Limits,
    started: Instant,
    /// Milliseconds since `started`, as of the last look.
    now: Arc<AtomicU64>,
    room: Arc<Semaphore>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// By the order in which they came.
    connections: HashMap<u64, Known>,
    came: u64,
}

struct Known {
    connection: Arc<Connection>,
    /// `None` until it is spawned.
    task: Option<AbortHandle>,
}

impl Open {
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

    /// Adds a connection and spawns its task, which keeps its place until it ends.
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
        // It may have ended, and removed itself.
        if let Some(known) = self.open().connections.get_mut(&number) {
            known.task = Some(task);
        }
    }

    /// Waits until there is room for one more connection, and makes room where a connection waits for its client.
    async fn room(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(room) = self.room.clone().try_acquire_owned() {
                return room;
            }
            self.close_longest();
            // Where all were being answered, some may wait for their clients by then.
            let room = self.room.clone().acquire_owned();
            if let Ok(Ok(room)) = tokio::time::timeout(self.limits.look(), room).await {
                return room;
            }
        }
    }

    /// Looks at all connections every so often, as long as it is polled.
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

    /// Closes the connections that `which` says, by ending their tasks.
    fn close(&self, which: impl Fn(&Connection) -> bool) {
        let open = self.open();
        let chosen = open.connections.values().filter(|known| which(&known.connection));
        let tasks: Vec<_> = chosen.filter_map(|known| known.task.clone()).collect();
        // A task that ends removes itself.
        drop(open);
        tasks.iter().for_each(AbortHandle::abort);
    }

    /// Closes those that have waited longest for their clients; returns false if none waits.
    fn close_longest(&self) -> bool {
        let open = self.open();
        let all = open.connections.iter();
        let waiting = all.filter(|(_, known)| known.connection.waits_for_client());
        // Of two that have waited as long, the one that came first.
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

    /// Tells all connections to end once they have answered.
    fn leave(&self) {
        for known in self.open().connections.values() {
            known.connection.leave.notify_one();
        }
    }

    /// Returns when no connection is left.
    async fn ended(&self) {
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        let _ = self.room.acquire_many(all).await;
    }
}

/// A connection's place among those that are open, until this is dropped.
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

/// Serves one connection to its end.
async fn converse<E>(endpoint: Arc<E>, connection: Arc<Connection>, addresses: (LocalAddr, RemoteAddr), _place: Place)
where
    E: Endpoint<Output = Response> + 'static,
{
    // Clients that say nothing cost no buffers.
    tokio::select! {
        heard = connection.heard_from() => if heard.is_err() { return },
        () = connection.leave.notified() => return,
    }
    let asked = connection.clone();
    // On the heap, so that a connection without a request has nothing of its future.
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
