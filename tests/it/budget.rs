//! The memory that request bodies and pages of a process may take: the limit for all customers and the share of one.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use poem::Body;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::api::Api;
use crate::harness::{DEADLINE, within};
use crate::intake::{Gate, wait_for_busy};
use crate::metrics::{page, value};

/// About the largest body that is accepted.
const LARGE: usize = 2_000_000;
/// The number of such bodies in half of 64 MiB, which is a customer's share.
const SHARE: usize = 16;

/// Connects a client that has sent the head of a request with a body of this length, and nothing of the body.
async fn about_to_send(address: SocketAddr, token: &str, path: &str, length: usize) -> TcpStream {
    let head = format!(
        "POST /api/v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    client
}

/// Reads the head of the response to a client.
async fn answer_to(mut client: TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("an answer"));
    }
    String::from_utf8(head).unwrap()
}

/// Waits for the first `count` responses. Returns their heads, and the clients that have no response yet.
async fn first_answers(mut clients: Vec<TcpStream>, count: usize) -> (Vec<String>, Vec<TcpStream>) {
    let waiting = clients.iter().enumerate().map(async |(number, client)| {
        client.peek(&mut [0]).await.expect("an answer");
        number
    });
    let waiting: FuturesUnordered<_> = waiting.collect();
    let first = tokio::time::timeout(DEADLINE, waiting.take(count).collect::<Vec<_>>());
    let mut numbers = first.await.expect("answers in time");
    numbers.sort_unstable();
    let mut heads = Vec::new();
    for number in numbers.into_iter().rev() {
        heads.push(answer_to(clients.remove(number)).await);
    }
    (heads, clients)
}

async fn is_used(api: &Api, what: &str, fits: impl Fn(usize) -> bool) {
    within(DEADLINE, what, async || {
        fits(api.rig.store.budget().used()).then_some(())
    })
    .await;
}

both!(
    bodies_reserve_their_length_before_they_are_read_and_one_token_gets_half_of_what_there_is,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("a").await;
        let stranger = api.stranger().await;
        let address = api.listen().await;
        let path = format!("/app/{app}/msg");
        let mut clients = Vec::new();
        for _ in 0..SHARE + 4 {
            clients.push(about_to_send(address, &api.token, &path, LARGE).await);
        }
        let (refusals, others) = first_answers(clients, 4).await;
        for head in refusals {
            assert!(
                head.starts_with("HTTP/1.1 503") && head.contains("retry-after: 1\r\n"),
                "{head}"
            );
        }
        assert_eq!(others.len(), SHARE);
        is_used(&api, "the others have their reservations", |used| used == SHARE * LARGE).await;
        // The rest of the share takes a small body, and another customer's requests are not affected.
        let message = json!({"eventType": "t", "payload": {}});
        api.post(&path, message.clone()).await.expect(202);
        let body = json!({"name": "x".repeat(200), "metadata": {"k": "x".repeat(4000)}}).to_string();
        let made = api.call(&stranger, "POST", "/app", &[], &body).await;
        made.expect(201);
        let large = json!({"name": "x", "unknown": "x".repeat(LARGE)}).to_string();
        api.call(&stranger, "POST", "/app", &[], &large).await.expect(201);
        let page = page(&api.rig).await;
        assert_eq!(value(&page, "postrider_request_bytes"), (SHARE * LARGE) as f64);
        assert_eq!(value(&page, "postrider_request_bytes_max"), f64::from(64 << 20));
        assert_eq!(value(&page, "postrider_request_bytes_refusals_total"), 4.0);
        drop(others);
        is_used(&api, "all reservations are released", |used| used == 0).await;
        let large = json!({"eventType": "t", "payload": {"k": "x".repeat(LARGE)}});
        api.post(&path, large).await.expect(202);
    }
);

both!(tokens_of_one_application_share_what_it_may_take, async |db| {
    let api = Api::on(db).await;
    let app = api.application("a").await;
    let tokens = [api.token_of(&app).await, api.token_of(&app).await];
    let address = api.listen().await;
    let path = format!("/app/{app}/endpoint");
    let mut clients = Vec::new();
    for number in 0..SHARE + 2 {
        clients.push(about_to_send(address, &tokens[number % 2], &path, LARGE).await);
    }
    let (refusals, others) = first_answers(clients, 2).await;
    assert!(
        refusals.iter().all(|head| head.starts_with("HTTP/1.1 503")),
        "{refusals:?}"
    );
    is_used(&api, "the others have their reservations", |used| used == SHARE * LARGE).await;
    let endpoint = json!({"url": "http://127.0.0.1:1/", "description": "x".repeat(2000)});
    api.post(&path, endpoint).await.expect(201);
    drop(others);
});

both!(
    a_body_that_finds_no_room_at_first_is_read_as_soon_as_there_is_some,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("a").await;
        let address = api.listen().await;
        let path = format!("/app/{app}/msg");
        let mut clients = Vec::new();
        for _ in 0..SHARE {
            clients.push(about_to_send(address, &api.token, &path, LARGE).await);
        }
        is_used(&api, "there is no room", |used| used == SHARE * LARGE).await;
        let message = json!({"eventType": "t", "payload": {"k": "x".repeat(LARGE)}});
        // `join!` polls the request first, so that it finds no room.
        let (answer, ()) = tokio::join!(api.post(&path, message), async { drop(clients) });
        answer.expect(202);
        is_used(&api, "all reservations are released", |used| used == 0).await;
    }
);

both!(a_body_without_a_length_reserves_as_it_grows, async |db| {
    let api = Api::on(db).await;
    let piece = Bytes::from(vec![b' '; 64 << 10]);
    let pieces = futures_util::stream::iter((0..20).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
    let never_ends = pieces.chain(futures_util::stream::pending());
    let request = api
        .request("POST", "/app/a/msg")
        .body(Body::from_bytes_stream(never_ends));
    let grown = is_used(&api, "the reservation has grown", |used| {
        (20 * (64 << 10)..64 << 20).contains(&used)
    });
    tokio::select! {
        answer = api.send(request) => panic!("{}", answer.text),
        () = grown => {}
    }
    is_used(&api, "the reservation is released with its request", |used| used == 0).await;
});

both!(
    a_message_that_waits_to_be_stored_counts_until_it_is_though_its_caller_has_left,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("a").await;
        let gate = Gate::close(db, &api.rig).await;
        let message = json!({"eventType": "t", "payload": {"k": "x".repeat(LARGE)}});
        let path = format!("/app/{app}/msg");
        tokio::select! {
            answer = api.post(&path, message) => panic!("{}", answer.text),
            () = wait_for_busy(db, &api.rig, 1) => {}
        }
        let used = api.rig.store.budget().used();
        assert!(
            (LARGE..LARGE + 1000).contains(&used),
            "{used}: the payload, and nothing else of the request"
        );
        gate.open().await;
        is_used(&api, "the reservation is released", |used| used == 0).await;
        assert_eq!(api.rig.count("message").await, 1);
    }
);

/// Connects a client that sends eight requests for `path` and reads nothing: the system's buffers do not hold all the
/// responses.
async fn not_reading(address: SocketAddr, token: &str, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let mut client = socket.connect(address).await.unwrap();
    let request = format!("GET /api/v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    client.write_all(request.repeat(8).as_bytes()).await.unwrap();
    client
}

both!(
    responses_that_are_not_read_are_as_many_as_fit_and_others_are_served,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("a").await;
        let list = format!("/app/{app}/msg");
        let mut last = String::new();
        for _ in 0..2 {
            let message = json!({"eventType": "t", "payload": {"k": "x".repeat(LARGE)}});
            last = api.post(&list, message).await.field("id");
        }
        let (message, token) = (format!("{list}/{last}"), api.token_of(&app).await);
        // Pages are reserved before they are read, single messages afterwards.
        for (path, clients) in [(list, 12), (message, 24)] {
            let before = refusals(&api).await;
            let address = api.listen().await;
            let mut unread = Vec::new();
            for _ in 0..clients {
                unread.push(not_reading(address, &api.token, &path).await);
            }
            let share = 16 << 20..36 << 20;
            within(
                DEADLINE,
                "some requests are refused, others have their reservations",
                async || {
                    let used = api.rig.store.budget().used();
                    assert!(used < share.end, "{used} bytes of one customer");
                    (used >= share.start && refusals(&api).await > before).then_some(())
                },
            )
            .await;
            let other = api.call(&token, "GET", &path, &[], "").await;
            other.expect(200);
            api.get("/app").await.expect(200);
            drop(unread);
            is_used(&api, "all reservations are released", |used| used == 0).await;
            api.get(&path).await.expect(200);
        }
    }
);

async fn refusals(api: &Api) -> f64 {
    value(&page(&api.rig).await, "postrider_request_bytes_refusals_total")
}
