//! `app healthcheck`: asks the server on this machine whether it lives, for containers that have no shell and no curl.
//!
//! Must not open the database or read any setting but the listening address.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::{Error, Result};

const DEADLINE: Duration = Duration::from_secs(3);

/// Asks the server that listens at `listen` whether it lives; over loopback if it listens on all addresses.
///
/// It does not ask for the database: a process that is ended because its database is away comes back to the same
/// database, and has lost what it had in flight.
///
/// # Errors
/// `Unavailable` if the server does not respond within 3 s, or not with a success.
pub fn run(listen: SocketAddr) -> Result<()> {
    let mut address = listen;
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let status =
        ask(address).map_err(|err| Error::unavailable(format!("no healthy answer from {address}")).because(err))?;
    if status.starts_with("HTTP/1.1 2") {
        Ok(())
    } else {
        Err(Error::unavailable(format!("{address} is not healthy: {status}")))
    }
}

/// Requests `/livez` and returns the status line of the response.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    write!(
        stream,
        "GET /livez HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut start = [0; 256];
    let mut filled = 0;
    while filled < start.len() && !start[..filled].contains(&b'\n') {
        match stream.read(&mut start[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    let text = String::from_utf8_lossy(&start[..filled]);
    Ok(text.lines().next().unwrap_or_default().trim_end().to_owned())
}
