//! A name server on loopback that answers by fixed zones, or not at all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
    /// This address of IPv6 and none of IPv4, with a time to live of 0.
    Ipv6(Ipv6Addr),
    /// All of these addresses, with a time to live of 0.
    All(&'static [Ipv4Addr]),
    /// These addresses in turns, one for each question for IPv4, with a time to live of 0.
    Turns(&'static [Ipv4Addr]),
    /// The address that the name's first label spells: `10-1-2-3`.
    Spelled,
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
                let mut turn = 0;
                if question.wants_ipv4 {
                    let mut counts = counts.lock().expect("no panic under this lock");
                    let count = counts.entry(question.name.clone()).or_default();
                    turn = *count;
                    *count += 1;
                }
                let zone = zones.iter().find(|(zone, _)| question.name.ends_with(zone));
                if let Some(answer) = question.answer(zone.map_or(Zone::Missing, |(_, zone)| *zone), turn) {
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
    wants_ipv6: bool,
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
            wants_ipv6: datagram[at + 1..at + 3] == [0, 28],
        }
    }

    /// Answers by a zone; `turn` is how often the name was asked for before.
    fn answer(&self, zone: Zone, turn: usize) -> Option<Vec<u8>> {
        let (code, addresses, ttl) = match zone {
            Zone::Silent => return None,
            Zone::OnlyIpv4(_) if !self.wants_ipv4 => return None,
            Zone::OnlyIpv4(address) => (0, vec![address.into()], 60_u32),
            Zone::Address(address, ttl) => (0, vec![address.into()], ttl),
            Zone::Ipv6(address) => (0, vec![IpAddr::V6(address)], 0),
            Zone::All(addresses) => (0, addresses.iter().copied().map(IpAddr::V4).collect(), 0),
            Zone::Turns(addresses) => (0, vec![addresses[turn % addresses.len()].into()], 0),
            Zone::Spelled => (0, self.spelled().into_iter().collect(), 0),
            Zone::Fails => (2, Vec::new(), 0),
            Zone::Missing => (3, Vec::new(), 0),
        };
        let addresses = addresses.iter().filter(|address| match address {
            IpAddr::V4(_) => self.wants_ipv4,
            IpAddr::V6(_) => self.wants_ipv6,
        });
        let count = u8::try_from(addresses.clone().count()).expect("a few addresses");
        let mut answer = self.id.to_vec();
        answer.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
        answer.extend(&self.bytes);
        for address in addresses {
            // The question's name by pointer, type A or AAAA, class IN.
            let (kind, octets) = match address {
                IpAddr::V4(ip) => (1, ip.octets().to_vec()),
                IpAddr::V6(ip) => (28, ip.octets().to_vec()),
            };
            answer.extend([0xc0, 12, 0, kind, 0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend([0, u8::try_from(octets.len()).expect("4 or 16")]);
            answer.extend(octets);
        }
        Some(answer)
    }

    fn spelled(&self) -> Option<IpAddr> {
        let label = self.name.split('.').next()?;
        label.replace('-', ".").parse().ok().map(IpAddr::V4)
    }
}
