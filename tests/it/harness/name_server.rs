//! A name server on loopback that answers by fixed zones, or not at all.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The server's answer for a name and for all names that end in it.
#[derive(Clone, Copy, Debug)]
pub enum Zone {
    /// This address, with a time to live in seconds.
    Address(Ipv4Addr, u32),
    /// This address, for a minute; questions for other kinds of addresses get no answer.
    OnlyIpv4(Ipv4Addr),
    /// The name does not exist (NXDOMAIN).
    Missing,
    /// The server fails (SERVFAIL).
    Fails,
    /// No answer at all.
    Silent,
}

/// Listens on a loopback port until it is dropped.
pub struct NameServer {
    address: SocketAddr,
    /// The number of questions for IPv4 addresses, by name.
    asked: Arc<Mutex<HashMap<String, usize>>>,
    answering: JoinHandle<()>,
}

impl NameServer {
    /// Starts a server that answers by the first zone that a name ends in; all other names do not exist.
    pub async fn start(zones: impl IntoIterator<Item = (&'static str, Zone)>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = socket.local_addr().expect("a socket has an address");
        let asked = Arc::<Mutex<HashMap<String, usize>>>::default();
        let (zones, counts) = (zones.into_iter().collect::<Vec<_>>(), asked.clone());
        let answering = tokio::spawn(async move {
            let mut datagram = [0; 1024];
            while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
                let question = Question::read(&datagram[..length]);
                if question.wants_ipv4 {
                    let mut counts = counts.lock().expect("no panic under this lock");
                    *counts.entry(question.name.clone()).or_default() += 1;
                }
                let zone = zones.iter().find(|(zone, _)| question.name.ends_with(zone));
                if let Some(answer) = question.answer(zone.map_or(Zone::Missing, |(_, zone)| *zone)) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self {
            address,
            asked,
            answering,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how often the server was asked for the IPv4 addresses of `name`.
    pub fn asked(&self, name: &str) -> usize {
        let asked = self.asked.lock().expect("no panic under this lock");
        asked.get(name).copied().unwrap_or_default()
    }

    /// Returns for how many names the server was asked for IPv4 addresses.
    pub fn names(&self) -> usize {
        self.asked.lock().expect("no panic under this lock").len()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

/// One question (RFC 1035, section 4).
struct Question {
    id: [u8; 2],
    /// The question section, as received.
    bytes: Vec<u8>,
    name: String,
    wants_ipv4: bool,
}

impl Question {
    fn read(datagram: &[u8]) -> Self {
        let mut labels = Vec::new();
        let mut at = 12;
        while datagram[at] > 0 {
            let end = at + 1 + usize::from(datagram[at]);
            labels.push(String::from_utf8_lossy(&datagram[at + 1..end]).to_ascii_lowercase());
            at = end;
        }
        let end = at + 5;
        Self {
            id: [datagram[0], datagram[1]],
            bytes: datagram[12..end].to_vec(),
            name: labels.join("."),
            wants_ipv4: datagram[at + 1..at + 3] == [0, 1],
        }
    }

    fn answer(&self, zone: Zone) -> Option<Vec<u8>> {
        let (code, address) = match zone {
            Zone::Silent => return None,
            Zone::OnlyIpv4(_) if !self.wants_ipv4 => return None,
            Zone::OnlyIpv4(address) => (0, Some((address, 60))),
            Zone::Address(address, ttl) => (0, self.wants_ipv4.then_some((address, ttl))),
            Zone::Fails => (2, None),
            Zone::Missing => (3, None),
        };
        let count = u8::from(address.is_some());
        let mut answer = self.id.to_vec();
        answer.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
        answer.extend(&self.bytes);
        if let Some((address, ttl)) = address {
            // The question's name by pointer, type A, class IN.
            answer.extend([0xc0, 12, 0, 1, 0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend([0, 4]);
            answer.extend(address.octets());
        }
        Some(answer)
    }
}
