//! Frames HTTP/1.1 for both ends of the load tool: one connection, one growing buffer, one frame at a time.
//!
//! A full HTTP library would need more processor time than the measured server leaves. Chunked bodies are refused. Must
//! not know routes, ids or payloads.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use tokio::net::TcpStream;

const FIRST_BUFFER: usize = 8 * 1024;
const LARGEST_FRAME: usize = 4 * 1024 * 1024;

/// A keep-alive connection that is read frame by frame.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// The position of the latest request or response in its connection's buffer, valid until the next one is read.
pub struct Frame {
    head: Range<usize>,
    body: Range<usize>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(TcpStream::connect(address).await?))
    }

    pub fn over(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            buffer: vec![0; FIRST_BUFFER],
            start: 0,
            end: 0,
        }
    }

    /// Ends the connection with a reset instead of a FIN.
    pub fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    pub async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the next complete frame; `None` means that the peer closed the connection between two frames.
    pub async fn receive(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((head, whole)) = split(&self.buffer[self.start..self.end])? {
                let body = self.start + head..self.start + whole;
                let frame = Frame {
                    head: self.start..body.start,
                    body,
                };
                self.start = frame.body.end;
                return Ok(Some(frame));
            }
            self.make_room()?;
            self.stream.readable().await?;
            match self.stream.try_read(&mut self.buffer[self.end..]) {
                Ok(0) if self.start == self.end => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub fn head(&self, frame: &Frame) -> &[u8] {
        &self.buffer[frame.head.clone()]
    }

    pub fn body(&self, frame: &Frame) -> &[u8] {
        &self.buffer[frame.body.clone()]
    }

    /// Moves the unread bytes to the start of the buffer, and doubles the buffer if it is full.
    fn make_room(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end < self.buffer.len() {
            return Ok(());
        }
        if self.buffer.len() >= LARGEST_FRAME {
            return Err(io::Error::other("a frame larger than 4 MB"));
        }
        self.buffer.resize(self.buffer.len() * 2, 0);
        Ok(())
    }
}

/// Returns the length of the head and of the whole frame; `None` if the frame is not complete yet.
fn split(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = end + 4;
    if field(&bytes[..head], b"transfer-encoding").is_some() {
        return Err(io::Error::other("a chunked body, which this tool does not read"));
    }
    let length = match field(&bytes[..head], b"content-length") {
        None => 0,
        Some(text) => number(text).ok_or_else(|| io::Error::other("content-length is not a number"))?,
    };
    Ok((bytes.len() >= head + length).then_some((head, head + length)))
}

/// Returns the value of a header; the case of `name` does not matter.
pub fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let named = line.get(..name.len())?.eq_ignore_ascii_case(name) && line.get(name.len()) == Some(&b':');
        named.then(|| line[name.len() + 1..].trim_ascii())
    })
}

/// Returns the status code of a response's head.
pub fn status(head: &[u8]) -> io::Result<u16> {
    let code = head
        .get(9..12)
        .and_then(number)
        .ok_or_else(|| io::Error::other("not an HTTP/1.1 answer"))?;
    u16::try_from(code).map_err(io::Error::other)
}

/// Returns the position of the first `wanted` in `bytes`.
pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
