//! Accepting connections: at most so many at once, none held by a request that trickles in, small answers without delay,
//! and a pause where accepting fails (poem's own loop would spin at the limit of open files). Called by app and by tests
//! that need real sockets.

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

/// How long to wait after a failed accept: its cause, a limit of the system, does not go at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections from one bound port.
pub struct CappedAcceptor {
    listener: TcpListener,
    local: LocalAddr,
    room: Arc<Semaphore>,
    patience: Duration,
}

impl CappedAcceptor {
    /// From a bound listener; more than `most` connections at once wait in the system's queue. One on which bytes arrive
    /// for longer than `patience` without a byte going back is closed.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn new(listener: TcpListener, most: usize, patience: Duration) -> io::Result<Self> {
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
    patience: Duration,
    _room: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before && self.heard_since.get_or_insert_with(Instant::now).elapsed() > self.patience {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.heard_since = None;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.heard_since = None;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
