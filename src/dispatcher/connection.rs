//! Connections to receivers, under deadlines of their own where that of the attempt does not reach: hyper goes on with a
//! connect in the background when an idle connection became free before it, and with writing a request that was answered
//! before it was read, or given up. Called by client.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::time::Sleep;
use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects within the deadline, name, TCP and TLS in all, or not at all.
#[derive(Clone)]
pub struct Connector<C> {
    inner: C,
    deadline: Duration,
}

impl<C> Connector<C> {
    /// No write over a connection of `inner` waits longer than `deadline` either.
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
        Box::pin(async move {
            let connected = tokio::time::timeout(deadline, connecting).await;
            let inner = connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time"))??;
            Ok(Bounded {
                inner,
                deadline,
                waits: None,
            })
        })
    }
}

/// A connection that ends when what is written is not taken in time, however much of it is taken meanwhile.
pub struct Bounded<T> {
    inner: T,
    deadline: Duration,
    /// Until when; none while nothing has had to wait since all was taken.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<T> Bounded<T> {
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

impl<T: Read + Unpin> Read for Bounded<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for Bounded<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.within(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.within(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// Asked for when all has been written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.waits = None;
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
        self.inner.connected()
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(50);

    /// Connects never, or to what takes 16 bytes until they are read.
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
        let Bounded { inner, deadline, waits } = connected.await?;
        let (inner, far) = inner;
        Ok((TokioIo::new(Bounded { inner, deadline, waits }), far))
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
}
