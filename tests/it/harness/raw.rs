//! A receiver below the level of HTTP: it sends exactly the bytes that it is given and then ends its connections in
//! the given way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The end of a connection, after the receiver has sent its answer.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    Close,
    Reset,
    /// Sends nothing more and keeps the connection open.
    Hold,
}

/// Listens on a loopback port until it is dropped. Reads one request from each connection and sends the same answer to
/// each.
pub struct RawReceiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
    accepting: JoinHandle<()>,
}

impl RawReceiver {
    pub async fn saying(answer: impl Into<Vec<u8>>, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let requests = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (kept, answer) = (requests.clone(), Arc::new(answer.into()));
        let accepting = tokio::spawn(async move {
            // Dropped with this task, which ends the connections too.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answer) = (kept.clone(), answer.clone());
                connections.spawn(async move {
                    let _ = serve(stream, &kept, &answer, then).await;
                });
            }
        });
        Self {
            address,
            requests,
            accepting,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Returns the requests received so far, byte for byte.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        self.requests.lock().expect("no panic under this lock").clone()
    }
}

impl Drop for RawReceiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Vec<u8>>>, answer: &[u8], then: Then) -> std::io::Result<()> {
    let request = read_request(&mut stream).await?;
    kept.lock().expect("no panic under this lock").push(request);
    stream.write_all(answer).await?;
    match then {
        Then::Close => {}
        Then::Reset => stream.set_zero_linger()?,
        Then::Hold => std::future::pending().await,
    }
    Ok(())
}

/// Reads one request, head and body. Returns early if the connection ends, with the bytes received so far, or if the
/// first byte cannot begin an HTTP request.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece).await? {
            0 => return Ok(request),
            length => request.extend_from_slice(&piece[..length]),
        }
        if !request[0].is_ascii_uppercase() || is_whole(&request) {
            return Ok(request);
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
    request.len() >= end + 4 + length
}
