//! Connections to receivers, with deadlines of their own.
//!
//! The attempt's deadline does not reach everywhere: hyper finishes a connect in the background if an idle connection
//! became free before it, and it goes on writing a request that was answered before it was read, or that was given up.
//!
//! The connections also keep what hyper would lose of an answer: the beginning of a head that it refuses, and an answer
//! from a receiver that closed without reading the whole request. Must not judge an answer.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::trace;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of an answer that are kept: its status line, and in most answers the whole head.
const HEARD: usize = 2 * 1024;
/// Bytes of one read at most, as many as hyper's buffer takes at first.
const PIECE: usize = 8 * 1024;

/// Connects, or fails when the deadline is over. The deadline covers the name's lookup, TCP and TLS together.
#[derive(Clone)]
pub struct Connector<C> {
    inner: C,
    deadline: Duration,
}

impl<C> Connector<C> {
    /// Connects through `inner`. A write over its connections waits no longer than `deadline` either.
    pub fn new(inner: C, deadline: Duration) -> Self {
        Self { inner, deadline }
    }
}

impl<C> Service<Uri> for Connector<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
{
    type Response = Bounded<C::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, deadline) = (self.inner.call(uri), self.deadline);
        Box::pin(trace::open(async move {
            let connected = tokio::time::timeout(deadline, connecting).await;
            let inner = connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time"))??;
            trace::note(|steps| steps.ready = Some(Instant::now()));
            Ok(Bounded::new(inner, deadline))
        }))
    }
}

/// The first bytes of the latest answer. The connection writes them. The sender reads them once hyper has reported that
/// it gave the connection up, so that no write can follow; a mutex makes them visible.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// Returns a copy of the bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that fails if a request is not taken within the deadline, even if parts of it are taken in that time.
pub struct Bounded<T> {
    inner: T,
    deadline: Duration,
    /// Ends when the deadline is over. `None` means that no write has had to wait since the last complete flush.
    waits: Option<Pin<Box<Sleep>>>,
    heard: Heard,
    /// The number of bytes in `heard`, known without its lock.
    heard_bytes: usize,
    /// Whether all that was written is flushed: the next write begins another request.
    is_flushed: bool,
    /// Whether the receiver has closed and reads no more: writes are dropped.
    is_deaf: bool,
}

impl<T> Bounded<T> {
    fn new(inner: T, deadline: Duration) -> Self {
        Self {
            inner,
            deadline,
            waits: None,
            heard: Heard::default(),
            heard_bytes: 0,
            is_flushed: false,
            is_deaf: false,
        }
    }

    /// Keeps `bytes` of an answer, as far as they belong to its beginning.
    fn hear(&mut self, bytes: &[u8]) {
        let more = bytes.len().min(HEARD - self.heard_bytes);
        if more > 0 {
            self.heard.lock().extend_from_slice(&bytes[..more]);
            self.heard_bytes += more;
        }
    }

    /// Forgets the last answer if this write begins another request. Other writes forget nothing: an answer may come in
    /// pieces while its request is still being written.
    fn forget_heard(&mut self) {
        if std::mem::take(&mut self.is_flushed) && self.heard_bytes > 0 {
            self.heard.lock().clear();
            self.heard_bytes = 0;
        }
    }

    /// Reports `length` bytes as written if the receiver has closed, because it may have answered first. With the error
    /// hyper would not read that answer; if there is none, the read shows it and ends the connection.
    fn taken(&mut self, written: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(err)) if is_closed(&err) => {
                self.is_deaf = true;
                Poll::Ready(Ok(length))
            }
            written => written,
        }
    }

    /// Returns `written` if it is ready, and an error if the deadline is over. The deadline begins with the first call
    /// that has to wait after a complete flush.
    fn within<R>(&mut self, written: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            return written;
        }
        let deadline = self.deadline;
        let waits = self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
        ready!(waits.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the request was not read in time",
        )))
    }
}

/// Returns whether a write failed because the receiver has closed.
fn is_closed(err: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(err.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

impl<T: Read + Unpin> Read for Bounded<T> {
    /// Reads through a buffer of our own, because hyper's does not show what was read.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [MaybeUninit::uninit(); PIECE];
        let room = buf.remaining().min(PIECE);
        let mut piece = ReadBuf::uninit(&mut bytes[..room]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, piece.unfilled()))?;
        self.hear(piece.filled());
        buf.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> Write for Bounded<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        self.forget_heard();
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        let taken = self.taken(written, buf.len());
        self.within(taken, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if self.is_deaf {
            return Poll::Ready(Ok(length));
        }
        self.forget_heard();
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        let taken = self.taken(written, length);
        self.within(taken, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// Flushes. hyper asks for it when a whole request has been written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match Pin::new(&mut self.inner).poll_flush(cx) {
            // With TLS this may be the first call that fails.
            Poll::Ready(Err(err)) if self.is_deaf || is_closed(&err) => {
                self.is_deaf = true;
                Poll::Ready(Ok(()))
            }
            flushed => flushed,
        };
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.waits = None;
            self.is_flushed = true;
        }
        self.within(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.within(shut, cx)
    }
}

impl<T: Connection> Connection for Bounded<T> {
    fn connected(&self) -> Connected {
        self.inner.connected().extra(self.heard.clone())
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(50);

    /// Connects to a pipe that takes 16 bytes until they are read, or, with `false`, never.
    #[derive(Clone)]
    struct Target(bool);

    impl Service<Uri> for Target {
        type Response = (TokioIo<DuplexStream>, DuplexStream);
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Uri) -> Self::Future {
            match self.0 {
                true => {
                    let (near, far) = duplex(16);
                    Box::pin(async move { Ok((TokioIo::new(near), far)) })
                }
                false => Box::pin(std::future::pending()),
            }
        }
    }

    async fn connect(answers: bool) -> Result<(TokioIo<Bounded<TokioIo<DuplexStream>>>, DuplexStream), BoxError> {
        let connected = Connector::new(Target(answers), DEADLINE).call(Uri::from_static("http://a/"));
        let Bounded { inner, deadline, .. } = connected.await?;
        let (inner, far) = inner;
        Ok((TokioIo::new(Bounded::new(inner, deadline)), far))
    }

    fn is_too_late(err: &(dyn std::error::Error + 'static)) -> bool {
        err.downcast_ref::<io::Error>().map(io::Error::kind) == Some(io::ErrorKind::TimedOut)
    }

    #[tokio::test]
    async fn a_connect_that_takes_too_long_ends_whoever_waits_for_it() {
        let Err(err) = connect(false).await else {
            panic!("it never connects");
        };
        assert!(is_too_late(&*err), "{err}");
    }

    #[tokio::test]
    async fn what_is_not_read_in_time_ends_the_connection() {
        let (mut near, _far) = connect(true).await.unwrap();
        let err = near.write_all(&[0; 17]).await.unwrap_err();
        assert!(is_too_late(&err), "{err}");
    }

    #[tokio::test]
    async fn what_is_read_a_little_at_a_time_must_be_read_in_time_too() {
        let (mut near, mut far) = connect(true).await.unwrap();
        let trickle = tokio::spawn(async move {
            loop {
                far.read_u8().await?;
                tokio::time::sleep(DEADLINE / 10).await;
            }
            #[allow(unreachable_code)]
            Ok::<(), io::Error>(())
        });
        let err = near.write_all(&[0; 1000]).await.unwrap_err();
        assert!(is_too_late(&err), "{err}");
        trickle.abort();
    }

    #[tokio::test]
    async fn a_connection_may_live_as_long_as_all_is_read() {
        let (mut near, mut far) = connect(true).await.unwrap();
        let began = tokio::time::Instant::now();
        let mut read = [0; 32];
        while began.elapsed() < 2 * DEADLINE {
            let (sent, got) = tokio::join!(
                async {
                    near.write_all(&[0; 32]).await?;
                    near.flush().await
                },
                far.read_exact(&mut read)
            );
            sent.unwrap();
            got.unwrap();
        }
    }

    #[tokio::test]
    async fn what_a_receiver_said_before_it_closed_is_read_though_writing_fails() {
        let (mut near, mut far) = connect(true).await.unwrap();
        far.write_all(b"an answer").await.unwrap();
        drop(far);
        near.write_all(&[0; 1000]).await.unwrap();
        near.flush().await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"an answer");
        assert_eq!(near.inner().heard.bytes(), b"an answer");
    }

    #[tokio::test]
    async fn an_early_answer_is_kept_though_more_of_the_request_is_written_between_its_pieces() {
        let (mut near, mut far) = connect(true).await.unwrap();
        for piece in [b"HTTP/1.1 4", b"00 Bad \r\n\n"] {
            near.write_all(b"a part").await.unwrap();
            far.read_exact(&mut [0; 6]).await.unwrap();
            far.write_all(piece).await.unwrap();
            near.read_exact(&mut [0; 10]).await.unwrap();
        }
        assert_eq!(near.inner().heard.bytes(), b"HTTP/1.1 400 Bad \r\n\n");
    }

    #[tokio::test]
    async fn no_more_than_the_beginning_of_the_latest_answer_is_kept() {
        let (mut near, mut far) = connect(true).await.unwrap();
        for letter in [b'a', b'b'] {
            near.write_all(b"a request").await.unwrap();
            near.flush().await.unwrap();
            far.read_exact(&mut [0; 9]).await.unwrap();
            let (answer, mut read) = (vec![letter; 3 * HEARD], vec![0; 3 * HEARD]);
            let (said, read) = tokio::join!(far.write_all(&answer), near.read_exact(&mut read));
            said.unwrap();
            read.unwrap();
            assert_eq!(near.inner().heard.bytes(), vec![letter; HEARD]);
        }
    }
}
