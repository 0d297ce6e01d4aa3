//! Accepts connections: at most so many at once, none held by a request that trickles in or by a response that is not read,
//! small answers without delay, and a pause where accepting fails (poem's own loop would spin at the limit of open files).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use poem::http::uri::Scheme;
use poem::listener::Acceptor;
use poem::web::{LocalAddr, RemoteAddr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// What HTTP/2 begins with (RFC 9113, section 3.4).
const HTTP2: &[u8] = b"PRI * HTTP/2.0";
/// How long to wait after a failed accept: its cause, a limit of the system, does not go at once.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the first byte of a request until something goes back.
    pub request: Duration,
    /// From the first write that has to wait for the client until the response is written.
    pub response: Duration,
}

/// Accepts connections from one bound port.
pub struct CappedAcceptor {
    listener: TcpListener,
    local: LocalAddr,
    room: Arc<Semaphore>,
    patience: Patience,
}

impl CappedAcceptor {
    /// From a bound listener; more than `most` connections at once wait in the system's queue. One that is over its
    /// `patience` is closed.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn new(listener: TcpListener, most: usize, patience: Patience) -> io::Result<Self> {
        let local = LocalAddr(listener.local_addr()?.into());
        let room = Arc::new(Semaphore::new(most));
        Ok(Self {
            listener,
            local,
            room,
            patience,
        })
    }
}

impl Acceptor for CappedAcceptor {
    type Io = Connection;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![self.local.clone()]
    }

    async fn accept(&mut self) -> io::Result<(Connection, LocalAddr, RemoteAddr, Scheme)> {
        let room = self.room.clone().acquire_owned().await.map_err(io::Error::other)?;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    let connection = Connection {
                        stream,
                        heard_since: None,
                        of_preface: Some(0),
                        unread: None,
                        patience: self.patience,
                        _room: room,
                    };
                    return Ok((connection, self.local.clone(), RemoteAddr(peer.into()), Scheme::HTTP));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// A connection and its place among the most that are allowed.
pub struct Connection {
    stream: TcpStream,
    /// Since when bytes have come in without an answer.
    heard_since: Option<Instant>,
    /// How many of the first bytes are those of HTTP/2; `None`: it is another protocol.
    of_preface: Option<usize>,
    /// Until when the response under way must be written; `None` as long as the client keeps up.
    unread: Option<Pin<Box<Sleep>>>,
    patience: Patience,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    /// Returns what a write came to, or an error if the response takes too long. The time runs from the first write that has
    /// to wait until all is written, so a client that takes a byte now and then gains nothing by it.
    fn in_time(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() && self.unread.is_none() {
            return written;
        }
        let patience = self.patience.response;
        let deadline = self
            .unread
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if deadline.as_mut().poll(cx).is_pending() {
            return written;
        }
        // Otherwise the system would keep what it has, some megabytes, and offer it to the client for many minutes more.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Connection {
    /// Whether the bytes that came in so far are the beginning of HTTP/2. There, one connection has any number of requests,
    /// and the client says how much of each response is sent, so no write ever has to wait: neither the limit of
    /// connections nor the deadline of a response would hold.
    fn is_http2(&mut self, heard: &[u8]) -> bool {
        let Some(known) = self.of_preface else { return false };
        let more = heard.len().min(HTTP2.len() - known);
        let same = heard[..more] == HTTP2[known..known + more];
        self.of_preface = same.then_some(known + more);
        self.of_preface == Some(HTTP2.len())
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.is_http2(&buf.filled()[before..]) {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        }
        if buf.filled().len() > before
            && self.heard_since.get_or_insert_with(Instant::now).elapsed() > self.patience.request
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.heard_since = None;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.heard_since = None;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unread = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
