//! A corpus of targets in the operator's own network: addresses of every network that is not public, in every spelling
//! and inside of other addresses, and names that lead to them. None may be stored by the API, none may be called if it
//! is stored all the same, and no listener may see a connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use postrider::api::ApiState;
use postrider::domain::target::NOT_CALLED;
use postrider::slots::Caps;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::api::Api;
use crate::harness::{NameServer, Rig, Shape, Zone, read_request, record, rows};

/// First and last addresses of IPv4 networks that are not globally reachable by the IANA special-purpose registry, of
/// multicast and reserved ones, and the addresses of cloud metadata services.
const ADDRESSES: &str = "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 \
    127.0.0.0 127.0.0.1 127.255.255.255 168.63.129.16 169.254.0.0 169.254.169.254 169.254.170.2 169.254.169.123 \
    169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.8 192.0.0.170 192.0.0.171 192.0.0.192 192.0.0.255 \
    192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.255 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 \
    198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255 224.0.0.0 224.0.0.1 239.255.255.255 240.0.0.0 \
    255.255.255.254 255.255.255.255";

/// The same for IPv6, with the cloud metadata addresses of AWS and Google.
const ADDRESSES_V6: &str = ":: ::1 ::2 64:ff9b:1:: 64:ff9b:1:ffff:ffff:ffff:ffff:ffff 100:: 100::ffff:ffff:ffff:ffff \
    100:0:0:1:: 2001:: 2001:0:ffff:ffff:ffff:ffff:ffff:ffff 2001:1::1 2001:1::2 2001:2:: 2001:3:: 2001:4:112:: 2001:10:: \
    2001:20:: 2001:30:: 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff \
    3fff:: 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff 4000:: 5f00:: 5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff fc00:: \
    fd00:ec2::254 fd20:ce::254 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fe80:: fe80::a9fe:a9fe \
    febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff fec0:: ff00:: ff02::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

/// URLs that have no right form: whatever a parser reads as the host, the API refuses them.
const MALFORMED: [&str; 20] = [
    "http://user@127.0.0.1/",
    "http://8.8.8.8@127.0.0.1/",
    "http://8.8.8.8:80@127.0.0.1/",
    "http://@127.0.0.1/",
    "http://127.0.0.1:80:80/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[::1/",
    "http://::1/",
    "http://[127.0.0.1]/",
    "http://127.0.0.1 /",
    "http://127.0.0.1\t/",
    "http://127.0.0.1\n/",
    "http://127.0.0.1\u{a0}/",
    "http://256.0.0.1/",
    "http://0x1ffffffff/",
    "//127.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "ftp://127.0.0.1/",
];

/// URLs whose host is a refused address although they look like another one's.
const CONFUSING: [&str; 8] = [
    "http:127.0.0.1/",
    "http:/127.0.0.1/",
    "http:\\\\127.0.0.1/",
    "http:///127.0.0.1/",
    "HTTP://127.0.0.1/",
    "http://127.0.0.1#@8.8.8.8/",
    "http://127.0.0.1?@8.8.8.8/",
    "http://127.0.0.1\\@8.8.8.8/",
];

pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
pub const PRIVATE: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::LOCALHOST];

/// Returns the digits and dots of an address in characters that a URL parser takes for them.
fn in_other_characters(dotted: &str, zero: char, one: char, dot: char) -> String {
    let other = |letter: char| match letter {
        '.' => dot,
        '0' => zero,
        digit => char::from_u32(u32::from(one) + u32::from(digit) - u32::from('1')).expect("a digit"),
    };
    dotted.chars().map(other).collect()
}

/// Returns an IPv4 address as hosts of URLs: each spelling that URL parsers read, and IPv6 addresses that carry it.
fn spellings(ip: Ipv4Addr) -> Vec<String> {
    let ([a, b, c, d], number) = (ip.octets(), u32::from(ip));
    let (rest, half, dotted) = (number & 0xff_ffff, number & 0xffff, ip.to_string());
    let [high, low] = [number >> 16, half];
    let encoded: String = dotted.bytes().map(|byte| format!("%{byte:02x}")).collect();
    vec![
        dotted.clone(),
        number.to_string(),
        format!("{number:#x}"),
        format!("0X{number:08X}"),
        format!("0{number:o}"),
        format!("000{number:o}"),
        format!("{a}.{rest}"),
        format!("{a}.{b}.{half}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a:#x}.{b}.0{c:o}.{d}"),
        format!("0000{a:o}.{b}.{c}.{d}"),
        format!("{dotted}."),
        encoded,
        in_other_characters(&dotted, '０', '１', '．'),
        in_other_characters(&dotted, '⓪', '①', '。'),
        in_other_characters(&dotted, '𝟎', '𝟏', '｡'),
        format!("[::ffff:{ip}]"),
        format!("[::ffff:{high:x}:{low:x}]"),
        format!("[0:0:0:0:0:FFFF:{high:X}:{low:X}]"),
        format!("[::{ip}]"),
        format!("[::ffff:0:{ip}]"),
        format!("[64:ff9b::{ip}]"),
        format!("[64:ff9b:1::{ip}]"),
        format!("[2002:{high:x}:{low:x}::1]"),
        format!("[2001:0:{high:x}:{low:x}::]"),
        format!("[2001:0:808:808:0:ffff:{:x}:{:x}]", high ^ 0xffff, low ^ 0xffff),
        format!("[2a00:1450:4001::5efe:{ip}]"),
        format!("[2a00:1450:4001::200:5efe:{ip}]"),
        format!("[fe80::5efe:{ip}]"),
    ]
}

fn spellings_v6(ip: Ipv6Addr) -> Vec<String> {
    let segments = ip.segments();
    let [long, short] = [
        segments.map(|part| format!("{part:04x}")).join(":"),
        segments.map(|part| format!("{part:X}")).join(":"),
    ];
    vec![format!("[{ip}]"), format!("[{long}]"), format!("[{short}]")]
}

/// Returns all literal hosts of the corpus.
pub fn literals() -> Vec<String> {
    let four = ADDRESSES
        .split_whitespace()
        .flat_map(|ip| spellings(ip.parse().unwrap()));
    let six = ADDRESSES_V6
        .split_whitespace()
        .flat_map(|ip| spellings_v6(ip.parse().unwrap()));
    four.chain(six).collect()
}

/// Counts connections at one port, by the address to which each was made.
pub struct Listener {
    pub port: u16,
    connections: Arc<Mutex<Vec<IpAddr>>>,
}

impl Listener {
    /// Listens at `address`, and gives each request this answer.
    async fn at(address: SocketAddr, answer: String) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        Self::of(listener, answer)
    }

    /// As [`Listener::at`], on a socket that is bound already.
    pub fn of(listener: TcpListener, answer: String) -> Self {
        let (port, connections) = (
            listener.local_addr().unwrap().port(),
            Arc::<Mutex<Vec<IpAddr>>>::default(),
        );
        let noted = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let address = stream.local_addr().expect("an address").ip().to_canonical();
                noted.lock().expect("no panic under this lock").push(address);
                let answer = answer.clone();
                tokio::spawn(async move {
                    let _ = read_request(&mut stream).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { port, connections }
    }

    fn count(&self) -> usize {
        self.connections.lock().expect("no panic under this lock").len()
    }

    /// Returns the addresses of the connections so far, and forgets them.
    pub fn take(&self) -> Vec<IpAddr> {
        std::mem::take(&mut self.connections.lock().expect("no panic under this lock"))
    }
}

/// Returns the texts of all attempts that had no answer, with the endpoint's URL.
pub async fn refusals(rig: &Rig) -> Vec<(String, String)> {
    let found = rows(&rig.db, "select url, response from attempt where response_status = 0").await;
    let text = |row: &sea_orm::QueryResult, name: &str| row.try_get("", name).unwrap();
    found
        .iter()
        .map(|row| (text(row, "url"), text(row, "response")))
        .collect()
}

both!(
    no_spelling_of_an_address_that_is_not_public_is_accepted_as_a_target,
    async |db| {
        let shape = Shape {
            targets: "",
            ..Shape::default()
        };
        let api = Api::shaped(db, shape, ApiState::BODY_DEADLINE).await;
        let app = api.application("a").await;
        let path = format!("/app/{app}/endpoint");
        let made = api
            .post(&path, json!({"url": "http://public.example/", "uid": "e"}))
            .await;
        made.expect(201);
        let hosts = literals();
        let urls = hosts.iter().map(|host| format!("http://{host}/"));
        let urls: Vec<_> = urls
            .chain(MALFORMED.iter().chain(&CONFUSING).map(|url| (*url).to_owned()))
            .collect();
        for url in &urls {
            let refused = api.post(&path, json!({"url": url})).await;
            assert_eq!(refused.status, 422, "{url}: {}", refused.text);
            refused.breaks_rule_at("body.url");
        }
        // Each way of writing a URL goes through the same check, so some stand for all.
        for url in urls.iter().step_by(50) {
            let patched = api.patch(&format!("{path}/e"), json!({"url": url})).await;
            patched.breaks_rule_at("body.url");
            api.put(&format!("{path}/e"), json!({"url": url}))
                .await
                .breaks_rule_at("body.url");
        }
        assert_eq!(api.rig.count("endpoint").await, 1);
        let counts = json!({"cases": urls.len(), "refused": urls.len(), "database": format!("{:?}", db.kind())});
        record("ssrf: created", &counts);
    }
);

both!(no_stored_target_that_is_not_public_is_called, async |db| {
    let name_server = NameServer::start([
        ("ip.test", Zone::Spelled),
        ("metadata.google.internal", Zone::Address(METADATA, 60)),
        ("instance-data.ec2.internal", Zone::Address(METADATA, 60)),
        ("mixed.test", Zone::All(&PRIVATE)),
    ])
    .await;
    let shape = Shape {
        targets: "",
        name_server: Some(name_server.address()),
        caps: Caps {
            process: 4_096,
            endpoint: 16,
        },
        ..Shape::default()
    };
    let mut rig = Rig::shaped(db, shape).await;
    // On Linux this one socket takes connections to every address of the machine, of both kinds.
    let listener = Listener::at((Ipv6Addr::UNSPECIFIED, 0).into(), String::new()).await;
    let names = ADDRESSES
        .split_whitespace()
        .map(|ip| format!("{}.ip.test", ip.replace('.', "-")));
    let more = [
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "metadata.google.internal",
        "instance-data.ec2.internal",
        "mixed.test",
    ];
    let hosts: Vec<_> = literals()
        .into_iter()
        .chain(names)
        .chain(more.map(str::to_owned))
        .collect();
    let app = rig.application("a").await;
    for (number, host) in hosts.iter().enumerate() {
        let url = format!("http://{host}:{}/", listener.port);
        rig.endpoint(&app, &number.to_string(), &url).await;
    }
    rig.accept(&app, "{}").await;
    rig.drain().await;
    let refused = refusals(&rig).await;
    assert_eq!(refused.len(), hosts.len(), "each has one attempt without an answer");
    for (url, text) in &refused {
        assert!(
            text == NOT_CALLED || text.starts_with("the endpoint's url cannot be called"),
            "{url}: {text}"
        );
    }
    assert_eq!(listener.count(), 0, "connections");
    let counts = json!({"cases": hosts.len(), "refused": refused.len(), "connections": listener.count(),
        "database": format!("{:?}", db.kind())});
    record("ssrf: sent", &counts);
});

const ALLOWED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const FORBIDDEN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

both!(
    a_name_leads_only_to_its_allowed_addresses_and_an_answer_leads_nowhere,
    async |db| {
        let name_server = NameServer::start([
            ("first.test", Zone::All(&[FORBIDDEN, ALLOWED])),
            ("last.test", Zone::All(&[ALLOWED, FORBIDDEN])),
            ("turns.test", Zone::Turns(&[ALLOWED, FORBIDDEN])),
            ("late.test", Zone::Turns(&[FORBIDDEN, ALLOWED])),
        ])
        .await;
        // One address of the loopback network stands for the public internet, the others for the operator's network.
        let shape = Shape {
            targets: "127.0.0.2/32",
            name_server: Some(name_server.address()),
            schedule: "",
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let forbidden = Listener::at((FORBIDDEN, 0).into(), String::new()).await;
        let port = forbidden.port;
        let elsewhere = format!(
            "HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:{port}/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let allowed = Listener::at((ALLOWED, port).into(), elsewhere).await;
        let app = rig.application("a").await;
        for (number, name) in ["first", "last", "turns", "late"].iter().enumerate() {
            let url = format!("http://{name}.test:{port}/");
            rig.endpoint(&app, &number.to_string(), &url).await;
        }
        const MESSAGES: usize = 10;
        for _ in 0..MESSAGES {
            rig.accept(&app, "{}").await;
            rig.drain().await;
        }
        assert_eq!(forbidden.count(), 0, "connections");
        let answered = rig.count("attempt where response_status = 307").await;
        assert_eq!(
            answered,
            allowed.count() as i64,
            "each connection had one answer, which was not followed"
        );
        assert!(allowed.count() > 2 * MESSAGES, "{} connections", allowed.count());
        let attempts = rig.count("attempt").await;
        assert_eq!(attempts, 4 * MESSAGES as i64);
        for (url, text) in refusals(&rig).await {
            assert_eq!(text, NOT_CALLED, "{url}");
        }
        let counts =
            json!({"cases": attempts, "connections": forbidden.count(), "database": format!("{:?}", db.kind())});
        record("ssrf: names that change", &counts);
    }
);
