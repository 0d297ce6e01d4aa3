//! Receivers that attack the sender, beside a healthy one of another customer: what is sent to the healthy one arrives,
//! and neither slots nor memory grow beyond their bounds.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpMaxSeg;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::crash::TOKEN;
use crate::harness::{Caller, DEADLINE, Program, Receiver, Serving, read_request, record, within};
use crate::metrics::value;

/// What a hostile receiver does with each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    EndlessHead,
    EndlessLine,
    DrippedHead,
    EndlessContinues,
    DrippedBody,
    EndlessBody,
    EndlessChunkSize,
    ResetInHead,
    ResetInBody,
    /// It accepts and neither reads nor writes.
    Nothing,
    /// It speaks HTTP where TLS is expected.
    NoTls,
    /// It sends the head of a TLS record and drips the rest.
    DrippedTls,
    EndlessTls,
    /// It takes nothing of the request, so that sending it stands still.
    TakesNothing,
    /// It takes one byte of the request each second.
    TakesBytes,
}

const ATTACKS: [Attack; 15] = [
    Attack::EndlessHead,
    Attack::EndlessLine,
    Attack::DrippedHead,
    Attack::EndlessContinues,
    Attack::DrippedBody,
    Attack::EndlessBody,
    Attack::EndlessChunkSize,
    Attack::ResetInHead,
    Attack::ResetInBody,
    Attack::Nothing,
    Attack::NoTls,
    Attack::DrippedTls,
    Attack::EndlessTls,
    Attack::TakesNothing,
    Attack::TakesBytes,
];
/// Messages to each hostile endpoint.
const HOSTILE: usize = 20;
/// The length of their payloads' texts: more than the system takes for a receiver with the smallest window, 35 kB.
const HOSTILE_TEXT: usize = 64_000;
/// Messages to the healthy one.
const HEALTHY: usize = 100;
const HEALTHY_TEXT: usize = 1_000;
const SLOTS: usize = 48;
const SLOTS_OF_ENDPOINT: usize = 8;
/// The most memory in kilobytes by which the process may grow. A connection that kept all that it is sent would take
/// more at once.
const GROWTH: u64 = 96 * 1024;
/// Seconds.
const ATTEMPT_TIMEOUT: u64 = 3;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

impl Attack {
    fn scheme(self) -> &'static str {
        match self {
            Self::NoTls | Self::DrippedTls | Self::EndlessTls => "https",
            _ => "http",
        }
    }

    /// Whether it keeps the request from arriving.
    fn withholds(self) -> bool {
        matches!(self, Self::TakesNothing | Self::TakesBytes)
    }

    /// Listens on a loopback port; with the smallest window and segments if the request shall not arrive.
    fn listen(self) -> std::io::Result<TcpListener> {
        let socket = TcpSocket::new_v4()?;
        if self.withholds() {
            socket.set_recv_buffer_size(1)?;
            setsockopt(&socket, TcpMaxSeg, &536)?;
        }
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        socket.listen(1_024)
    }

    async fn on(self, mut stream: TcpStream) -> std::io::Result<()> {
        match self {
            Self::Nothing => std::future::pending().await,
            Self::NoTls => return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
            Self::DrippedTls => return drip(&mut stream, b"\x16\x03\x03\x40\x00", b"\x02").await,
            Self::EndlessTls => return repeat(&mut stream, b"\x17\x03\x03\x40\x00", &[0; 16_384]).await,
            _ => drop(read_request(&mut stream).await?),
        }
        let chunked = [OK, b"transfer-encoding: chunked\r\n\r\n"].concat();
        match self {
            Self::EndlessHead => repeat(&mut stream, OK, b"x-more: and more\r\n").await,
            Self::EndlessLine => repeat(&mut stream, &[OK, b"x-more: "].concat(), &[b'a'; 4_096]).await,
            Self::DrippedHead => drip(&mut stream, OK, b"x").await,
            Self::EndlessContinues => repeat(&mut stream, b"", b"HTTP/1.1 100 Continue\r\n\r\n").await,
            Self::DrippedBody => drip(&mut stream, &chunked, b"1\r\nx\r\n").await,
            Self::EndlessBody => repeat(&mut stream, &[OK, b"\r\n"].concat(), &[b'a'; 65_536]).await,
            Self::EndlessChunkSize => repeat(&mut stream, &chunked, b"0").await,
            Self::ResetInHead => reset(&mut stream, b"HTTP/1.1 200 OK\r\nx-").await,
            Self::ResetInBody => reset(&mut stream, &[&chunked[..], b"4\r\nha"].concat()).await,
            _ => Ok(()),
        }
    }
}

/// Sends `head`, and then `part` until the other side ends the connection.
async fn repeat(stream: &mut TcpStream, head: &[u8], part: &[u8]) -> std::io::Result<()> {
    stream.write_all(head).await?;
    loop {
        stream.write_all(part).await?;
    }
}

/// As [`repeat`], ten times a second.
async fn drip(stream: &mut TcpStream, head: &[u8], part: &[u8]) -> std::io::Result<()> {
    stream.write_all(head).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(part).await?;
    }
}

async fn reset(stream: &mut TcpStream, head: &[u8]) -> std::io::Result<()> {
    stream.write_all(head).await?;
    stream.set_zero_linger()
}

/// Attacks a connection. Notes the length of a request that was withheld and has ended.
async fn meet(attack: Attack, stream: TcpStream, withheld: Arc<Mutex<Vec<usize>>>) {
    if !attack.withholds() {
        let _ = attack.on(stream).await;
        return;
    }
    let length = take_slowly(stream, usize::from(attack == Attack::TakesBytes)).await;
    withheld.lock().expect("no panic under this lock").push(length);
}

/// Takes `each` bytes a second from the beginning of a request, for longer than an attempt may take even on a busy
/// machine, and then all that still comes. Returns the number of bytes.
async fn take_slowly(mut stream: TcpStream, each: usize) -> usize {
    // A connection may be made for one attempt and used by a later one.
    let _ = stream.readable().await;
    let begun = Instant::now();
    let mut taken = Vec::new();
    while begun.elapsed() < Duration::from_secs(2 * ATTEMPT_TIMEOUT) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut some = vec![0; each];
        if stream.read_exact(&mut some).await.is_err() {
            return taken.len();
        }
        taken.extend(some);
    }
    // A reset is an end too.
    let _ = stream.read_to_end(&mut taken).await;
    taken.len()
}

/// A hostile receiver.
struct Hostile {
    url: String,
    connections: Arc<AtomicUsize>,
    /// The lengths of the requests that were withheld and have ended.
    withheld: Arc<Mutex<Vec<usize>>>,
}

impl Hostile {
    fn start(attack: Attack) -> Self {
        let listener = attack.listen().expect("a loopback port is free");
        let hostile = Self {
            url: format!("{}://{}/", attack.scheme(), listener.local_addr().expect("an address")),
            connections: Arc::default(),
            withheld: Arc::default(),
        };
        let (counted, withheld) = (hostile.connections.clone(), hostile.withheld.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(meet(attack, stream, withheld.clone()));
            }
        });
        hostile
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn withheld(&self) -> Vec<usize> {
        self.withheld.lock().expect("no panic under this lock").clone()
    }
}

/// Returns a figure of the process's memory, in kilobytes.
fn memory(serving: &Serving, figure: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.pid())).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(figure));
    let text = line.and_then(|line| line.split_whitespace().next());
    text.and_then(|text| text.parse().ok()).expect("a number")
}

/// Sends a message with a text of this length.
async fn send(caller: &Caller, server: &str, app: &str, number: usize, length: usize) {
    let message = json!({"eventType": "t", "payload": {"number": number, "text": "x".repeat(length)}});
    let (path, key) = (format!("/app/{app}/msg"), format!("{app} {number}"));
    let (status, body) = caller.post(server, &path, &key, &message).await.expect("a response");
    assert_eq!(status, 202, "{body}");
}

both!(
    hostile_receivers_neither_stop_a_healthy_one_nor_fill_the_memory,
    async |db| {
        let metrics = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let metrics = metrics.expect("a free port").to_string();
        let serving = Program::on(db.url())
            .env("POSTRIDER_ADMIN_TOKEN", TOKEN)
            .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
            .env("POSTRIDER_ATTEMPT_TIMEOUT", &ATTEMPT_TIMEOUT.to_string())
            .env("POSTRIDER_CONCURRENCY", &SLOTS.to_string())
            .env("POSTRIDER_ENDPOINT_CONCURRENCY", &SLOTS_OF_ENDPOINT.to_string())
            .env("POSTRIDER_METRICS_LISTEN", &metrics)
            .serve()
            .await;
        let (caller, server) = (Caller::new(TOKEN), serving.url());
        for app in ["hostile", "healthy"] {
            caller.make(&server, "/app", json!({"name": app, "uid": app})).await;
        }
        let healthy = Receiver::start().await;
        caller
            .make(&server, "/app/healthy/endpoint", json!({"url": healthy.url()}))
            .await;
        send(&caller, &server, "healthy", HEALTHY, HEALTHY_TEXT).await;
        healthy.wait_for(1).await;
        let before = memory(&serving, "VmRSS:");

        let receivers = ATTACKS.map(Hostile::start);
        for receiver in &receivers {
            caller
                .make(&server, "/app/hostile/endpoint", json!({"url": receiver.url}))
                .await;
        }
        for number in 0..HOSTILE {
            send(&caller, &server, "hostile", number, HOSTILE_TEXT).await;
        }
        let mut most = 0.0_f64;
        for number in 0..HEALTHY {
            send(&caller, &server, "healthy", number, HEALTHY_TEXT).await;
            let page = caller.text(&format!("http://{metrics}/metrics")).await;
            most = most.max(value(&page, "postrider_deliveries_in_flight"));
        }
        healthy.wait_for(1 + HEALTHY).await;
        within(DEADLINE, "each attack was met", async || {
            receivers
                .iter()
                .all(|receiver| receiver.connections() > 0)
                .then_some(())
        })
        .await;
        let withholding = || receivers.iter().zip(ATTACKS).filter(|(_, attack)| attack.withholds());
        within(DEADLINE, "requests that were not taken have ended", async || {
            withholding()
                .all(|(receiver, _)| !receiver.withheld().is_empty())
                .then_some(())
        })
        .await;
        for (receiver, attack) in withholding() {
            let whole = receiver.withheld().iter().any(|length| *length > HOSTILE_TEXT);
            assert!(
                !whole,
                "{attack:?}: sending stands still, so no request is whole: {:?}",
                receiver.withheld()
            );
        }
        let answered = within(DEADLINE, "the attempts of all attacks have ended", async || {
            let page = caller.get(&server, "/app/hostile/delivery?limit=250").await;
            let rows = page["data"].as_array()?.clone();
            let mut tried: Vec<_> = rows.iter().filter(|row| row["attempts"] != 0).collect();
            tried.sort_by_key(|row| row["endpointId"].as_str().map(str::to_owned));
            tried.dedup_by_key(|row| row["endpointId"].as_str().map(str::to_owned));
            (tried.len() == ATTACKS.len()).then_some(tried.len())
        })
        .await;
        let growth = memory(&serving, "VmHWM:").saturating_sub(before);
        println!("{most} deliveries in flight at most, {growth} kB more memory at most");
        assert_eq!(
            healthy.count(),
            1 + HEALTHY,
            "each message arrives at the healthy receiver once"
        );
        assert!(most <= SLOTS as f64, "{most} deliveries in flight");
        assert!(growth <= GROWTH, "the process grew by {growth} kB");
        let counts = json!({
            "attacks": answered, "connections": receivers.iter().map(Hostile::connections).sum::<usize>(),
            "healthy sent": HEALTHY, "healthy arrived": healthy.count() - 1, "in flight at most": most,
            "kB more memory": growth, "database": format!("{:?}", db.kind()),
        });
        record("hostile receivers", &counts);
    }
);
