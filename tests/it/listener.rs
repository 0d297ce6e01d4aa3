//! The listener of the API: how many connections there are, and how long a client may hold one without sending or
//! reading.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use poem::endpoint::make;
use poem::{Endpoint, EndpointExt, Request, Response};
use postrider::api::http::listener::{self, Limits};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, LIMITS, listen};
use crate::harness::{DEADLINE, within};

const PING: &[u8] = b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n";
const SHORT: Duration = Duration::from_millis(300);

/// A response that is larger than the system's buffers.
const LARGE: usize = 16 << 20;

/// Responds to `/ping` at once, to `/body` when the body has arrived, to `/large` with a large body, and to all other
/// paths never.
async fn answer(request: Request) -> String {
    match request.uri().path() {
        "/ping" => "pong".to_owned(),
        "/body" => format!("{:?}", request.into_body().into_vec().await.map(|body| body.len())),
        "/large" => "x".repeat(LARGE),
        _ => std::future::pending().await,
    }
}

fn endpoint() -> impl Endpoint<Output = Response> {
    make(answer).map_to_response()
}

async fn serve(limits: Limits) -> SocketAddr {
    listen(limits, endpoint()).await
}

/// Limits with short deadlines.
const IMPATIENT: Limits = Limits {
    connections: 100,
    request: SHORT,
    response: SHORT,
    progress: SHORT,
    silence: SHORT,
};

/// Connects a client with a small buffer.
async fn client(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.connect(address).await.unwrap()
}

async fn saying(address: SocketAddr, words: &[u8]) -> TcpStream {
    let mut client = client(address).await;
    client.write_all(words).await.unwrap();
    client
}

/// Reads until the server ends the connection, and returns the bytes.
async fn heard_to_the_end(client: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let reading = tokio::time::timeout(DEADLINE, client.read_to_end(&mut heard));
    // A reset is an end too.
    let _ = reading.await.expect("the connection ends");
    heard
}

/// Connects a new client and returns it once its request has a response.
async fn answered(address: SocketAddr) -> TcpStream {
    let mut newcomer = saying(address, PING).await;
    let mut first = [0; 12];
    let reading = tokio::time::timeout(DEADLINE, newcomer.read_exact(&mut first));
    reading.await.expect("a response in time").expect("a response");
    assert_eq!(&first, b"HTTP/1.1 200");
    newcomer
}

/// Connects a client whose request is being handled: the handler waits for the two bytes of the body.
async fn handled(address: SocketAddr) -> TcpStream {
    let head = b"POST /body HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let (mut client, mut first) = (saying(address, head).await, [0; 25]);
    let reading = tokio::time::timeout(DEADLINE, client.read_exact(&mut first));
    reading.await.expect("a word in time").expect("a word");
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    client
}

/// Sends the body for a client that [`handled`] returned, and returns the response.
async fn finished(mut client: TcpStream) -> String {
    client.write_all(b"{}").await.unwrap();
    let (mut heard, mut piece) = (Vec::new(), [0; 1024]);
    while !heard.ends_with(b"Ok(2)") {
        let reading = tokio::time::timeout(DEADLINE, client.read(&mut piece)).await;
        match reading.expect("a response in time").expect("a response") {
            0 => break,
            length => heard.extend_from_slice(&piece[..length]),
        }
    }
    String::from_utf8(heard).unwrap()
}

#[tokio::test]
async fn a_client_that_leaves_a_request_unfinished_is_cut_off() {
    let address = serve(IMPATIENT).await;
    let begun = Instant::now();
    for words in [
        &b""[..],
        b"G",
        b"GET /ping HTTP/1.1\r\nhost: x\r\n",
        b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf",
        b"POST /body HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
        b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let mut client = saying(address, words).await;
        let heard = heard_to_the_end(&mut client).await;
        assert!(heard.is_empty(), "{}", String::from_utf8_lossy(&heard));
    }
    assert!(begun.elapsed() >= 6 * SHORT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_drips_its_request_is_cut_off_as_soon_as_one_that_is_silent() {
    let patient = Limits {
        request: SHORT,
        ..LIMITS
    };
    let address = serve(patient).await;
    for (head, drop) in [
        ("GET /ping HTTP/1.1\r\nx: ", "y"),
        ("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n", "y"),
        (
            "POST /body HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
            "1\r\ny\r\n",
        ),
    ] {
        let begun = Instant::now();
        let mut client = saying(address, head.as_bytes()).await;
        within(DEADLINE, "the connection is cut off", async || {
            client.write_all(drop.as_bytes()).await.is_err().then_some(())
        })
        .await;
        assert!(begun.elapsed() > SHORT, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_client_that_is_silent_after_its_response_is_cut_off_and_one_that_comes_back_is_not() {
    let limits = Limits {
        silence: SHORT,
        ..LIMITS
    };
    let address = serve(limits).await;
    let (begun, mut answer) = (Instant::now(), [0; 1024]);
    let mut busy = saying(address, PING).await;
    while begun.elapsed() < 2 * SHORT {
        assert!(busy.read(&mut answer).await.unwrap() > 0, "still open");
        busy.write_all(PING).await.unwrap();
    }
    let heard = heard_to_the_end(&mut busy).await;
    assert!(heard.starts_with(b"HTTP/1.1 200") && heard.ends_with(b"pong"));
    assert!(begun.elapsed() >= 3 * SHORT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_does_not_read_its_response_is_cut_off() {
    let unread = Limits {
        progress: SHORT,
        ..LIMITS
    };
    let slow = Limits {
        response: SHORT,
        ..LIMITS
    };
    for (limits, piece) in [(unread, 0), (slow, 0), (slow, 1024)] {
        let address = serve(limits).await;
        let mut client = saying(address, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
        within(DEADLINE, "the connection is reset", async || {
            if piece > 0 {
                let _ = tokio::time::timeout(Duration::from_millis(1), client.read(&mut vec![0; piece])).await;
            }
            client
                .ready(Interest::ERROR | Interest::WRITABLE)
                .await
                .unwrap()
                .is_error()
                .then_some(())
        })
        .await;
        assert!(
            heard_to_the_end(&mut client).await.len() < LARGE,
            "the client has read the whole response"
        );
    }
}

#[tokio::test]
async fn a_client_that_reads_a_little_now_and_then_gets_everything_within_the_time_for_a_response() {
    let progress = 5 * SHORT;
    let address = serve(Limits { progress, ..LIMITS }).await;
    let mut client = saying(address, b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let (begun, mut all, mut piece) = (Instant::now(), 0, vec![0; 64 << 10]);
    let mut pace = tokio::time::interval(SHORT / 10);
    loop {
        // The whole response takes longer than the deadline, each part is faster.
        if begun.elapsed() < 2 * progress {
            pace.tick().await;
        }
        match client.read(&mut piece).await.unwrap() {
            0 => break,
            length => all += length,
        }
    }
    assert!(all > LARGE && begun.elapsed() > 2 * progress, "{all} bytes");
}

#[tokio::test]
async fn requests_of_a_client_that_does_not_read_wait_until_it_does() {
    let address = serve(LIMITS).await;
    let mut client = saying(address, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let close = b"GET /ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    client.write_all(&PING.repeat(100)).await.unwrap();
    client.write_all(close).await.unwrap();
    let heard = heard_to_the_end(&mut client).await;
    assert!(heard.ends_with(b"pong") && heard.len() > LARGE);
    let answers = String::from_utf8(heard).unwrap().matches("pong").count();
    assert_eq!(answers, 101);
}

// hyper notices the end of a connection only while it reads or writes. It does neither if it has the next request
// already.
#[tokio::test]
async fn a_reset_ends_a_connection_while_its_request_is_being_handled() {
    let single = Limits {
        connections: 1,
        ..LIMITS
    };
    let begun = Arc::new(Notify::new());
    let begins = begun.clone();
    let endpoint = make(move |request: Request| {
        begins.notify_one();
        answer(request)
    });
    let address = listen(single, endpoint.map_to_response()).await;
    let client = saying(address, &b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2)).await;
    let handled = tokio::time::timeout(DEADLINE, begun.notified());
    handled.await.expect("the request is being handled");
    client.set_zero_linger().unwrap();
    drop(client);
    answered(address).await;
}

#[tokio::test]
async fn at_the_limit_those_that_have_waited_longest_for_their_clients_make_room() {
    let three = Limits {
        connections: 3,
        ..LIMITS
    };
    let address = serve(three).await;
    let handled = handled(address).await;
    let mut first = saying(address, b"").await;
    let mut second = saying(address, b"GET /ping HT").await;
    let third = answered(address).await;
    assert!(heard_to_the_end(&mut first).await.is_empty());
    let fourth = answered(address).await;
    assert!(heard_to_the_end(&mut second).await.is_empty());
    let answer = finished(handled).await;
    assert!(
        answer.ends_with("Ok(2)"),
        "a connection whose request is being handled stays open: {answer}"
    );
    drop((third, fourth));
}

#[tokio::test]
async fn at_the_limit_a_client_that_does_not_read_its_response_makes_room() {
    let single = Limits {
        connections: 1,
        ..LIMITS
    };
    let address = serve(single).await;
    let _unread = saying(address, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    answered(address).await;
}

#[tokio::test]
async fn at_the_stop_idle_connections_end_at_once_and_others_when_they_are_answered() {
    let (handled, serving) = stopped(DEADLINE).await;
    let answer = finished(handled).await;
    assert!(
        answer.contains("connection: close") && answer.ends_with("Ok(2)"),
        "{answer}"
    );
    let ended = tokio::time::timeout(DEADLINE, serving)
        .await
        .expect("the listener ends");
    ended.expect("no panic").expect("the listener ends without an error");
}

#[tokio::test]
async fn what_is_not_answered_when_the_grace_is_over_is_cut_off() {
    let (mut handled, serving) = stopped(SHORT).await;
    let ended = tokio::time::timeout(DEADLINE, serving)
        .await
        .expect("the listener ends");
    ended.expect("no panic").expect("the listener ends without an error");
    assert!(heard_to_the_end(&mut handled).await.is_empty());
}

/// Stops a listener and waits until its idle connections have ended. Returns the client whose request is being handled,
/// and the listener's task.
async fn stopped(grace: Duration) -> (TcpStream, JoinHandle<std::io::Result<()>>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let stop = CancellationToken::new();
    let stops = stop.clone();
    let serving =
        tokio::spawn(async move { listener::serve(socket, LIMITS, endpoint(), stops.cancelled(), grace).await });
    let mut silent = saying(address, b"").await;
    let mut idle = answered(address).await;
    let handled = handled(address).await;
    stop.cancel();
    assert!(heard_to_the_end(&mut silent).await.is_empty());
    assert!(heard_to_the_end(&mut idle).await.ends_with(b"pong"));
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    (handled, serving)
}

// With HTTP/2 the client would decide how long a response may take and how many requests run at once.
#[tokio::test]
async fn a_client_that_speaks_http_2_is_cut_off_at_its_first_words() {
    let address = serve(LIMITS).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for piece in [preface.len(), 1] {
        let mut client = TcpStream::connect(address).await.unwrap();
        for part in preface.chunks(piece) {
            if client.write_all(part).await.is_err() {
                break;
            }
        }
        let heard = heard_to_the_end(&mut client).await;
        let refused = heard.is_empty() || heard.starts_with(b"HTTP/1.1 400");
        assert!(refused, "in pieces of {piece}: {}", String::from_utf8_lossy(&heard));
    }
}

#[tokio::test]
async fn a_head_of_more_than_16_kib_is_431_and_one_below_is_answered() {
    let address = serve(LIMITS).await;
    for (length, status) in [(8 << 10, "200"), (15 << 10, "200"), (17 << 10, "431"), (1 << 20, "431")] {
        let head = format!(
            "GET /ping HTTP/1.1\r\nconnection: close\r\nx: {}\r\n\r\n",
            "y".repeat(length)
        );
        let (mut reading, mut writing) = client(address).await.into_split();
        let writing = tokio::spawn(async move {
            // The server may refuse the request before all of it is sent.
            let _ = writing.write_all(head.as_bytes()).await;
            writing
        });
        let mut heard = [0; 12];
        let read = tokio::time::timeout(DEADLINE, reading.read_exact(&mut heard)).await;
        if read.expect("a response in time").is_ok() {
            assert_eq!(heard, format!("HTTP/1.1 {status}").as_bytes(), "{length}");
        } else {
            // The reset for the unread bytes may overtake the response.
            assert_eq!(status, "431", "{length}");
        }
        drop(writing.await);
    }
}

/// Creates messages that fill a page of 4 MB, and returns the path of their list.
async fn messages(api: &Api) -> String {
    let app = api.application("app").await;
    for _ in 0..4 {
        let message = json!({"eventType": "t", "payload": {"k": "x".repeat(1_000_000)}});
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
    }
    format!("/app/{app}/msg")
}

/// Connects a client that has requested this list several times, more than the system's buffers hold.
async fn asking(api: &Api, address: SocketAddr, list: &str) -> TcpStream {
    let request = |connection: &str| {
        format!(
            "GET /api/v1{list} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: {connection}\r\n\r\n",
            api.token
        )
    };
    let requests = request("keep-alive").repeat(3) + &request("close");
    saying(address, requests.as_bytes()).await
}

sqlite_only!(a_client_that_reads_its_pages_not_or_too_slowly_is_cut_off, async |db| {
    let api = Api::on(db).await;
    let list = messages(&api).await;
    for piece in [0, 1024] {
        let address = api.listen_to_readers(Duration::from_millis(500)).await;
        let mut slow = asking(&api, address, &list).await;
        within(DEADLINE, "the connection is reset", async || {
            if piece > 0 {
                let _ = tokio::time::timeout(Duration::from_millis(1), slow.read(&mut vec![0; piece])).await;
            }
            let state = slow.ready(Interest::ERROR | Interest::WRITABLE).await;
            state.unwrap().is_error().then_some(())
        })
        .await;
        let rest = heard_to_the_end(&mut slow).await;
        assert!(
            rest.len() < 16_000_000,
            "the client has read everything: {} bytes",
            rest.len()
        );
    }
});

sqlite_only!(a_client_that_reads_slowly_but_steadily_gets_everything, async |db| {
    let api = Api::on(db).await;
    let list = messages(&api).await;
    let address = api.listen_to_readers(DEADLINE).await;
    let mut slow = asking(&api, address, &list).await;
    let (mut all, mut piece) = (0, vec![0; 16 << 10]);
    loop {
        tokio::task::yield_now().await;
        match slow.read(&mut piece).await.unwrap() {
            0 => break,
            length => all += length,
        }
    }
    assert!(all > 16_000_000, "{all} bytes");
});
