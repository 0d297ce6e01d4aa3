//! One connection of a client: the stream that hyper reads and writes, what the connection waits for, and since when.
//!
//! The connection's own task writes the state while it reads and writes. The listener reads the state from another
//! task, to find connections that are overdue or that may be closed in favour of a new one; a state that is a moment
//! old does no harm there. The time comes from the listener, which stores it at each of its checks, so that no request
//! asks the system for it.
//!
//! Must not know HTTP. Must not decide how long a client may take: the listener does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// The states of a connection: what it does or waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// Nothing has been read since the last write, or since the connection began.
    Silent,
    /// A request has begun to arrive, and nothing has been written since.
    Asking,
    /// A write has to wait: the client does not take the response as fast as it is written.
    Unread,
}

/// How many bits of `Connection.state` are used for the state; the others hold the instant.
const STATE_BITS: u32 = 2;

/// A connection, shared by its own task and the listener.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Milliseconds since the listener's start. Written by the listener at each check, read by the connection's task.
    now: Arc<AtomicU64>,
    /// The state and the instant at which it began. Written by the connection's task, read by the listener. Both are in
    /// one value: a state read together with the instant of an older one could look overdue.
    state: AtomicU64,
    /// The instant at which the client last took bytes of a response, or at which the state became `Unread`, in
    /// milliseconds as `now`. Written by the connection's task before it enters `Unread` and while it is in that state,
    /// read by the listener after it has seen that state.
    progress: AtomicU64,
    /// Whether a request is being handled. Written by the connection's task, read by the listener.
    handling: AtomicBool,
    /// Whether a read by hyper, or the next request, waits until the client has taken the response. Used by the
    /// connection's task alone.
    held_back: AtomicBool,
    /// Notified by the listener when the process stops.
    pub leave: Notify,
}

impl Connection {
    /// Makes the connection of a client that has just connected. `now` is the listener's time in milliseconds.
    pub fn new(stream: TcpStream, now: Arc<AtomicU64>) -> Arc<Self> {
        let connection = Self {
            stream,
            now,
            state: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            handling: AtomicBool::new(false),
            held_back: AtomicBool::new(false),
            leave: Notify::new(),
        };
        connection.enter(State::Silent);
        Arc::new(connection)
    }

    /// Waits until there is something to read.
    ///
    /// # Errors
    /// If the socket cannot become readable any more.
    pub async fn heard_from(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Waits until the socket has failed, for example by a reset. hyper notices that only while it reads or writes.
    pub async fn failed(&self) {
        // If waiting itself fails, the socket is just as unusable.
        let _ = self.stream.ready(Interest::ERROR).await;
    }

    /// Returns the state and the instant at which it began, in milliseconds since the listener's start.
    pub fn state(&self) -> (State, u64) {
        let packed = self.state.load(Ordering::Acquire);
        let state = match packed & ((1 << STATE_BITS) - 1) {
            0 => State::Silent,
            1 => State::Asking,
            _ => State::Unread,
        };
        (state, packed >> STATE_BITS)
    }

    /// Returns the instant at which the client last took bytes of a response, or at which the state became `Unread` if
    /// it took none since; in milliseconds since the listener's start. It is kept up to date only in the state
    /// `Unread`.
    pub fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Returns whether the connection waits for its client, and not for this process.
    pub fn waits_for_client(&self) -> bool {
        !self.handling.load(Ordering::Relaxed) || self.state().0 == State::Unread
    }

    /// Marks that a request is being handled, until the returned guard is dropped.
    pub fn handle(&self) -> Handling<'_> {
        self.handling.store(true, Ordering::Relaxed);
        Handling(self)
    }

    /// Waits until the client has taken the previous response. A client that sends requests and reads nothing thus gets
    /// no further requests handled.
    pub async fn response_taken(&self) {
        std::future::poll_fn(|_| match self.state().0 {
            State::Unread => {
                self.held_back.store(true, Ordering::Relaxed);
                Poll::Pending
            }
            State::Silent | State::Asking => Poll::Ready(()),
        })
        .await;
    }

    /// Sets the state, with the present instant. After `new` only the connection's task calls it; the listener reads
    /// the state. The release pairs with the acquire in `state()`: if the listener sees `Unread`, it also sees the
    /// `progress` that was stored before.
    fn enter(&self, state: State) {
        let now = self.now.load(Ordering::Relaxed);
        self.state.store((now << STATE_BITS) | state as u64, Ordering::Release);
    }

    /// Notes that something was read.
    fn note_read(&self) {
        if self.state().0 == State::Silent {
            self.enter(State::Asking);
        }
    }

    /// Notes that something was written.
    fn note_written(&self) {
        match self.state().0 {
            State::Unread => self.progress.store(self.now.load(Ordering::Relaxed), Ordering::Relaxed),
            State::Silent | State::Asking => self.enter(State::Silent),
        }
    }

    /// Notes that a write has to wait for the client.
    fn note_unread(&self) {
        if self.state().0 != State::Unread {
            self.progress.store(self.now.load(Ordering::Relaxed), Ordering::Relaxed);
            self.enter(State::Unread);
        }
    }

    /// Notes that the client has taken everything there was to write.
    fn note_taken(&self, cx: &Context<'_>) {
        if self.state().0 != State::Unread {
            return;
        }
        self.enter(State::Silent);
        if self.held_back.swap(false, Ordering::Relaxed) {
            // The read or the request that waits returned `Pending` without a waker, earlier in this same poll of the
            // same task. So the task has to be polled again.
            cx.waker().wake_by_ref();
        }
    }

    /// Tries `write` whenever the socket is writable, until it succeeds, fails or has to wait; notes which.
    fn poll_written(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.stream.poll_write_ready(cx)?.is_pending() {
                self.note_unread();
                return Poll::Pending;
            }
            match write(&self.stream) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Ok(length) => {
                    self.note_written();
                    return Poll::Ready(Ok(length));
                }
                Err(err) => return Poll::Ready(Err(err)),
            }
        }
    }
}

/// Marks the connection as handling a request as long as this guard lives.
pub(crate) struct Handling<'a>(&'a Connection);

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        self.0.handling.store(false, Ordering::Relaxed);
    }
}

/// The stream that hyper reads from and writes to.
pub(crate) struct Io(pub Arc<Connection>);

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let connection = &self.0;
        if connection.state().0 == State::Unread {
            connection.held_back.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
        loop {
            ready!(connection.stream.poll_read_ready(cx))?;
            match connection.stream.try_read_buf(buf) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => return Poll::Ready(Err(err)),
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {
                    connection.note_read();
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_written(cx, |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_written(cx, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Notes that all is written: hyper flushes when it has nothing left to write.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.note_taken(cx);
        Poll::Ready(Ok(()))
    }

    /// Does nothing: the connection's task ends right after this, which closes the socket.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if self.0.state().0 == State::Unread {
            // Resets the connection. Otherwise the system would keep the unsent bytes, some megabytes, and offer them
            // to the client for many more minutes.
            let _ = self.0.stream.set_zero_linger();
        }
    }
}
