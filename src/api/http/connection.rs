//! One connection of a client: what hyper reads and writes, and for what it waits since when. Must not know HTTP, nor decide how
//! long a client may take (listener does).
//!
//! The connection's own task writes the state, as it reads and writes. The listener reads it from another task, to find what is
//! overdue and what to close in favour of a newcomer. A state that is a moment old does no harm there. The instants are the
//! listener's: it tells them once a look, so that no request asks the system for the time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// What a connection is at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// Nothing has come since the last response, or since the beginning.
    Silent,
    /// A request has begun to come, and nothing has gone back.
    Asking,
    /// The client does not take the response as fast as it is written.
    Unread,
}

/// The bits of a state beside an instant.
const STATE_BITS: u32 = 2;

/// A connection, shared by its task and the listener.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Milliseconds since the listener's start. Written by the listener, read here.
    now: Arc<AtomicU64>,
    /// The state, and the instant at which it began, in one value: a state with another one's instant would be overdue.
    state: AtomicU64,
    /// When the client last took a part of a response that it does not take as a whole.
    progress: AtomicU64,
    /// Whether a request is being handled. Written by the connection's task, read by the listener.
    handling: AtomicBool,
    /// Whether hyper waits to read, or a request to be handled, until the client has taken the response.
    held_back: AtomicBool,
    /// Told when the process stops.
    pub leave: Notify,
}

impl Connection {
    /// Of a client that has just come.
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

    /// Returns when something has come, or an error if nothing can come any more.
    pub async fn heard_from(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Returns when the socket has failed, such as by a reset. hyper sees that only while it reads or writes.
    pub async fn failed(&self) {
        // An error of asking is as good as one of the socket.
        let _ = self.stream.ready(Interest::ERROR).await;
    }

    /// The state, and since when.
    pub fn state(&self) -> (State, u64) {
        let packed = self.state.load(Ordering::Acquire);
        let state = match packed & ((1 << STATE_BITS) - 1) {
            0 => State::Silent,
            1 => State::Asking,
            _ => State::Unread,
        };
        (state, packed >> STATE_BITS)
    }

    /// When the client last took a part of an unread response.
    pub fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Whether it waits for its client, and for nothing of ours.
    pub fn waits_for_client(&self) -> bool {
        !self.handling.load(Ordering::Relaxed) || self.state().0 == State::Unread
    }

    /// Marks that a request is being handled, until the answer is dropped.
    pub fn handle(&self) -> Handling<'_> {
        self.handling.store(true, Ordering::Relaxed);
        Handling(self)
    }

    /// Returns when the client has taken the response before, so that a client that sends requests and reads nothing gets no
    /// more of them handled.
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

    /// Notes that there is nothing left to write.
    fn note_taken(&self, cx: &Context<'_>) {
        if self.state().0 != State::Unread {
            return;
        }
        self.enter(State::Silent);
        if self.held_back.swap(false, Ordering::Relaxed) {
            // What waits for this is in the same task, and was asked before the write in this turn of it.
            cx.waker().wake_by_ref();
        }
    }

    /// Tries `write` as often as the socket says that it can take something.
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

/// A request is being handled as long as this lives.
pub(crate) struct Handling<'a>(&'a Connection);

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        self.0.handling.store(false, Ordering::Relaxed);
    }
}

/// What hyper reads from and writes to.
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

    /// hyper flushes when it has nothing left to write.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.note_taken(cx);
        Poll::Ready(Ok(()))
    }

    /// The end of the connection's task closes the socket, right after this.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if self.0.state().0 == State::Unread {
            // Otherwise the system would keep what it has, some megabytes, and offer it to the client for many minutes more.
            let _ = self.0.stream.set_zero_linger();
        }
    }
}
