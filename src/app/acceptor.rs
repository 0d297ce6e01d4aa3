//! Takes connections for poem's server, with two things that its own listener lacks: it does not spin when the process
//! has no file descriptors left, and it does not hold small answers back. Called by app.

use std::io;
use std::time::Duration;

use poem::Addr;
use poem::http::uri::Scheme;
use poem::listener::Acceptor;
use poem::web::{LocalAddr, RemoteAddr};
use tokio::net::{TcpListener, TcpStream};

/// After a failed accept: long enough not to burn a core, short enough that nobody notices.
const PAUSE: Duration = Duration::from_millis(50);

pub struct Connections {
    listener: TcpListener,
    local: LocalAddr,
}

impl Connections {
    /// # Errors
    /// When the socket has no address, that is, was not bound.
    pub fn on(listener: TcpListener) -> io::Result<Self> {
        let local = LocalAddr(Addr::SocketAddr(listener.local_addr()?));
        Ok(Self { listener, local })
    }
}

impl Acceptor for Connections {
    type Io = TcpStream;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![self.local.clone()]
    }

    async fn accept(&mut self) -> io::Result<(TcpStream, LocalAddr, RemoteAddr, Scheme)> {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok((
                        stream,
                        self.local.clone(),
                        RemoteAddr(Addr::SocketAddr(peer)),
                        Scheme::HTTP,
                    ));
                }
                Err(err) => {
                    tracing::warn!(%err, "cannot take a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
