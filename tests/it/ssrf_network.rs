//! The corpus of targets in a network of its own, in which every address of IPv4 and IPv6 leads to the same listener: a
//! private address really answers there, as it would in the operator's network, and so does a public one.
//!
//! Needs root, for a network namespace; `.ci/run network` runs it. On SQLite alone, because a Postgres server would be
//! outside of that network.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use postrider::domain::target::NOT_CALLED;
use postrider::slots::Caps;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{NameServer, Rig, Shape, TestDatabase, Zone, on_sqlite, record};
use crate::ssrf::{Listener, METADATA, PRIVATE, literals, refusals};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const PUBLIC_V6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 0x1111);
/// Every address.
const ALL: &str = "0.0.0.0/0,::/0";
/// Messages to each endpoint: for a name that takes turns, each of its addresses comes first and last.
const MESSAGES: usize = 4;
const NAMES: [(&str, Zone); 10] = [
    ("public.test", Zone::Address(PUBLIC, 60)),
    ("public6.test", Zone::Ipv6(PUBLIC_V6)),
    ("private.test", Zone::All(&PRIVATE)),
    ("metadata.google.internal", Zone::Address(METADATA, 0)),
    ("mixed.test", Zone::All(&[PRIVATE[0], PUBLIC, METADATA])),
    ("turns.test", Zone::Turns(&[PUBLIC, METADATA])),
    ("late.test", Zone::Turns(&[METADATA, PUBLIC])),
    ("loopback6.test", Zone::Ipv6(Ipv6Addr::LOCALHOST)),
    (
        "nat64.test",
        Zone::Ipv6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    ),
    ("mapped.test", Zone::Ipv6(PRIVATE[0].to_ipv6_mapped())),
];

/// Runs `test` on a thread that has a network of its own, which leads every address to this machine.
///
/// # Panics
/// If the user is not root.
fn in_own_network(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root makes a network namespace");
        for command in [
            "link set lo up",
            "route add local 0.0.0.0/0 dev lo",
            "-6 route add local ::/0 dev lo",
        ] {
            let done = Command::new("ip").args(command.split(' ')).status();
            assert!(done.expect("ip (iproute2) runs").success(), "ip {command}");
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Sends to all hosts on a policy, and returns the rig after all attempts.
async fn send_to_all(db: &TestDatabase, hosts: &[String], port: u16, targets: &'static str) -> Rig {
    let name_server = NameServer::start(NAMES).await;
    let shape = Shape {
        targets,
        name_server: Some(name_server.address()),
        schedule: "",
        caps: Caps {
            process: 4_096,
            endpoint: 16,
        },
        ..Shape::default()
    };
    let mut rig = Rig::shaped(db, shape).await;
    let app = rig.application("a").await;
    for (number, host) in hosts.iter().enumerate() {
        let url = format!("http://{host}:{port}/");
        rig.endpoint(&app, &number.to_string(), &url).await;
    }
    for _ in 0..MESSAGES {
        rig.accept(&app, "{}").await;
        rig.drain().await;
    }
    rig
}

/// Returns the addresses among the hosts to which this machine's own connections lead.
async fn reachable(hosts: &[String], listener: &Listener) -> BTreeSet<IpAddr> {
    for host in hosts {
        let url = url::Url::parse(&format!("http://{host}/")).expect("a url");
        let address = match url.host() {
            Some(url::Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(url::Host::Ipv6(ip)) => IpAddr::V6(ip),
            _ => continue,
        };
        let _ = TcpStream::connect((address, listener.port)).await;
    }
    listener.take().into_iter().collect()
}

/// Starts a listener at every address, which leads each request on to the metadata service.
async fn listen() -> Listener {
    let socket = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))
        .await
        .expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    let head = "HTTP/1.1 307 Elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n";
    Listener::of(socket, format!("{head}location: http://{METADATA}:{port}/\r\n\r\n"))
}

fn hosts() -> Vec<String> {
    let names = NAMES.map(|(name, _)| name.to_owned());
    literals().into_iter().chain(names).collect()
}

async fn only_public_addresses_are_reached(db: &TestDatabase) {
    let (listener, hosts) = (listen().await, hosts());
    let rig = send_to_all(db, &hosts, listener.port, "").await;
    let connections = listener.take();
    let public = [IpAddr::from(PUBLIC), IpAddr::from(PUBLIC_V6)];
    let inside: Vec<_> = connections.iter().filter(|ip| !public.contains(ip)).collect();
    assert_eq!(inside, Vec::<&IpAddr>::new(), "connections");
    for ip in public {
        let reached = connections.iter().filter(|connection| **connection == ip).count();
        assert!(reached >= MESSAGES, "{reached} connections to {ip}");
    }
    let refused = refusals(&rig).await;
    for (url, text) in &refused {
        let known = text == NOT_CALLED || text.starts_with("the endpoint's url cannot be called");
        assert!(known, "{url}: {text}");
    }
    let attempts = hosts.len() * MESSAGES;
    assert_eq!(
        refused.len() + connections.len(),
        attempts,
        "each attempt was refused, or made one connection"
    );
    let counts = json!({"cases": attempts, "refused": refused.len(), "connections": inside.len(),
        "to public addresses": connections.len(), "database": format!("{:?}", db.kind())});
    record("ssrf: in a network of its own", &counts);
}

async fn all_addresses_are_reached(db: &TestDatabase) {
    let (listener, hosts) = (listen().await, hosts());
    let answering = reachable(&hosts, &listener).await;
    for ip in "127.0.0.1 10.0.0.0 169.254.169.254 192.168.0.0 ::1 fc00:: fd00:ec2::254 64:ff9b::a9fe:a9fe".split(' ') {
        assert!(answering.contains(&ip.parse().unwrap()), "{ip} answers in this network");
    }
    send_to_all(db, &hosts, listener.port, ALL).await;
    let reached: BTreeSet<IpAddr> = listener.take().into_iter().collect();
    let missing: Vec<_> = answering.difference(&reached).collect();
    assert_eq!(missing, Vec::<&IpAddr>::new(), "addresses that answer and are allowed");
    let counts = json!({"cases": hosts.len(), "addresses that answer": answering.len(), "reached": answering.len(),
        "database": format!("{:?}", db.kind())});
    record("ssrf: in a network of its own, all allowed", &counts);
}

#[test]
#[ignore = "needs root: .ci/run network"]
fn no_address_that_is_not_public_is_reached_although_it_answers() {
    in_own_network(|| on_sqlite(async |db| only_public_addresses_are_reached(db).await));
}

#[test]
#[ignore = "needs root: .ci/run network"]
fn the_same_addresses_are_reached_if_they_are_allowed() {
    in_own_network(|| on_sqlite(async |db| all_addresses_are_reached(db).await));
}
