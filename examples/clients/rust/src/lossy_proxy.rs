//! A TCP proxy that loses the first response: the server has done its work, but the client never hears of it.

use std::io::{Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

pub const BROKEN_CONNECTION: &[u8] = b"";
pub const BAD_GATEWAY: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n";

pub struct LossyProxy {
    pub url: String,
    keys: Arc<Mutex<Vec<String>>>,
}

impl LossyProxy {
    /// Starts the proxy. The client gets `instead` in place of the first response.
    pub fn start(server_url: &str, instead: &'static [u8]) -> Result<Self> {
        let server = server_url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let keys = Arc::<Mutex<Vec<String>>>::default();
        let seen = keys.clone();
        thread::spawn(move || {
            let mut instead = Some(instead);
            for client in listener.incoming() {
                // A client may open a connection and send no request on it: that is no failure of this program.
                let _ = client.and_then(|client| exchange(client, &server, &mut instead, &seen));
            }
        });
        Ok(Self { url, keys })
    }

    /// Returns the idempotency key of each request.
    pub fn keys(&self) -> Vec<String> {
        self.keys.lock().expect("no thread panics with it").clone()
    }
}

/// Passes on one request and its response. The first response is read to its end before it is lost.
fn exchange(
    mut client: TcpStream,
    server: &str,
    instead: &mut Option<&'static [u8]>,
    keys: &Mutex<Vec<String>>,
) -> Result<()> {
    let request = read_message(&mut client)?;
    let key = header(&request, "idempotency-key").unwrap_or_default();
    keys.lock().expect("no thread panics with it").push(key);
    let mut server = TcpStream::connect(server)?;
    server.write_all(&request)?;
    let answer = read_message(&mut server)?;
    client.write_all(instead.take().unwrap_or(&answer))
}

/// Reads one HTTP message whose body, if any, has a content-length.
fn read_message(connection: &mut TcpStream) -> Result<Vec<u8>> {
    let (mut read, mut part) = (Vec::new(), [0; 65536]);
    let mut length = None;
    while length.is_none_or(|length| read.len() < length) {
        let count = connection.read(&mut part)?;
        if count == 0 {
            return Err(Error::other("ended within a message"));
        }
        read.extend_from_slice(&part[..count]);
        if let Some(head) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = header(&read, "content-length").and_then(|text| text.parse::<usize>().ok());
            length = Some(head + 4 + body.unwrap_or(0));
        }
    }
    Ok(read)
}

fn header(message: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let head = text.split("\r\n\r\n").next()?;
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
}
