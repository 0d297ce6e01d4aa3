//! Answers of receivers: once the head has arrived its status decides, however the rest of the answer looks. Also the
//! exact bytes of the request that a receiver gets.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{Answer, DEADLINE, RawReceiver, Receiver, Rig, SECRET, START, TestDatabase, Then, rows, within};

/// Sends one message to an endpoint for each of `answers`. Returns the status and the text of each endpoint's attempt,
/// in the same order.
async fn answers_of<const COUNT: usize>(
    db: &TestDatabase,
    answers: [(Vec<u8>, Then); COUNT],
) -> (Rig, [(i32, String); COUNT]) {
    let mut rig = Rig::on(db).await;
    let app = rig.application("a").await;
    let mut receivers = Vec::new();
    for (number, (answer, then)) in answers.into_iter().enumerate() {
        let receiver = RawReceiver::saying(answer, then).await;
        rig.endpoint(&app, &number.to_string(), &receiver.url()).await;
        receivers.push(receiver);
    }
    rig.accept(&app, "{}").await;
    rig.step().await;
    let found = attempts(&rig).await;
    let all = std::array::from_fn(|number| found[&format!("ep_{number}")].clone());
    (rig, all)
}

/// Returns the status and the text of each endpoint's single attempt, by endpoint id.
async fn attempts(rig: &Rig) -> BTreeMap<String, (i32, String)> {
    let sql = "select endpoint_id, response_status, response from attempt";
    let found = rows(&rig.db, sql).await;
    let column = |row: &sea_orm::QueryResult, name: &str| row.try_get::<String>("", name).unwrap();
    let attempt = |row: &sea_orm::QueryResult| {
        let status: i32 = row.try_get("", "response_status").unwrap();
        (column(row, "endpoint_id"), (status, column(row, "response")))
    };
    found.iter().map(attempt).collect()
}

both!(the_status_counts_whatever_becomes_of_the_body, async |db| {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
    let chunked = |rest: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n{rest}");
    let (rig, answers) = answers_of(
        db,
        [
            (cut.into(), Then::Close),
            (cut.into(), Then::Reset),
            (chunked("").into(), Then::Close),
            (chunked("no number\r\n").into(), Then::Close),
            (chunked("ffffffffffffffffffff\r\n").into(), Then::Close),
            (b"HTTP/1.0 200 OK\r\n\r\nhalf".into(), Then::Reset),
            (cut.into(), Then::Hold),
            (
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nhalf".into(),
                Then::Hold,
            ),
        ],
    )
    .await;
    for (number, (status, text)) in answers.iter().enumerate() {
        assert_eq!(*status, 200, "{number}: {text}");
        let ended = if number < 6 {
            "ended early: "
        } else {
            "did not end in time)"
        };
        assert!(
            text.starts_with(&format!("half\n(the body {ended}")),
            "{number}: {text}"
        );
    }
    assert_eq!(rig.count("delivery_result where state = 0").await, 8);
    let long = "attempt where duration_ms >= 2000 and duration_ms < 5000";
    assert_eq!(
        rig.count(long).await,
        2,
        "a body has two seconds, not all of the attempt's five"
    );
});

both!(a_body_that_ends_well_has_no_remark, async |db| {
    let (_rig, answers) = answers_of(
        db,
        [
            (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfull".into(), Then::Close),
            (b"HTTP/1.0 200 OK\r\n\r\nfull".into(), Then::Close),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfull\r\n0\r\n\r\n".into(),
                Then::Close,
            ),
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nfull".into(),
                Then::Close,
            ),
        ],
    )
    .await;
    for answer in answers {
        assert_eq!(answer, (200, "full".to_owned()));
    }
});

both!(every_other_status_counts_too_though_the_body_is_cut_off, async |db| {
    let busy = b"HTTP/1.1 503 Busy\r\nretry-after: 3600\r\ncontent-length: 9\r\n\r\nlater";
    let gone = b"HTTP/1.1 410 Gone\r\ncontent-length: 9\r\n\r\nno";
    let (mut rig, answers) = answers_of(db, [(busy.into(), Then::Reset), (gone.into(), Then::Close)]).await;
    assert_eq!(answers.map(|(status, _)| status), [503, 410]);
    assert_eq!(
        rig.count("delivery_result where state = 1 and endpoint_id = 'ep_0'")
            .await,
        1
    );
    assert_eq!(
        rig.count("delivery_result where state = 2 and endpoint_id = 'ep_1'")
            .await,
        1
    );
    assert_eq!(rig.count("endpoint where id = 'ep_1' and disabled").await, 1);
    rig.advance(3_599);
    assert_eq!(rig.step().await.sent, 0);
    rig.advance(1);
    assert_eq!(rig.step().await.sent, 1);
});

both!(a_connection_that_ends_before_the_head_does_is_no_answer, async |db| {
    let (rig, answers) = answers_of(
        db,
        [
            (Vec::new(), Then::Close),
            (Vec::new(), Then::Reset),
            (b"HTTP/1.1 200 OK\r\ncontent-le".into(), Then::Close),
        ],
    )
    .await;
    for (status, text) in answers {
        assert_eq!(status, 0, "{text}");
    }
    assert_eq!(rig.count("delivery_result where state = 1").await, 3);
});

both!(header_lines_that_are_malformed_are_left_out, async |db| {
    let head = |lines: &str| {
        let head = format!("HTTP/1.1 200 OK\r\n{lines}\r\ncontent-length: 2\r\n\r\nok");
        (head.into_bytes(), Then::Hold)
    };
    let many: Vec<String> = (0..250).map(|number| format!("x-{number}: 1")).collect();
    let (rig, answers) = answers_of(
        db,
        [
            head("x : 1"),
            head("x: folded\r\n into two lines"),
            head("x: folded\r\n\tinto\r\n three: lines"),
            head("  x: after spaces"),
            head("no colon here"),
            head(": no name"),
            head("a name: with a space"),
            head("x: a\u{1}b"),
            head("x\u{1}: 1"),
            head("x: gr\u{fc}\u{df}e"),
            head("gr\u{fc}\u{df}e: 1"),
            head(&many.join("\r\n")),
        ],
    )
    .await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer, (200, "ok".to_owned()), "{number}");
    }
    assert_eq!(rig.count("delivery_result where state = 0").await, 12);
});

both!(a_head_that_cannot_be_read_still_has_its_status, async |db| {
    let head = |lines: &str| (format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nok").into_bytes(), Then::Hold);
    let many: Vec<String> = (0..300).map(|number| format!("x-{number}: 1")).collect();
    let (rig, answers) = answers_of(
        db,
        [
            head("x: a\0b"),
            head("x: a\rb"),
            head("content-length: two"),
            head("content-length: -2"),
            head("content-length: 2\r\ncontent-length: 3"),
            head(&many.join("\r\n")),
            head(&format!("x: {}", "x".repeat(600_000))),
            (
                b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".into(),
                Then::Hold,
            ),
            (b"HTTP/1.1  200 OK\r\ncontent-length: 2\r\n\r\nok".into(), Then::Hold),
            (b"HTTP/2 200\r\ncontent-length: 2\r\n\r\nok".into(), Then::Hold),
            (b"HTTP/1.1 200 \x01\r\ncontent-length: 2\r\n\r\nok".into(), Then::Hold),
        ],
    )
    .await;
    for (number, (status, text)) in answers.iter().enumerate() {
        assert_eq!(*status, 200, "{number}: {text}");
        assert!(text.starts_with("(the head is malformed: "), "{number}: {text}");
    }
    assert_eq!(rig.count("delivery_result where state = 0").await, 11);
});

both!(a_retry_after_in_a_head_that_cannot_be_read_counts, async |db| {
    let busy = b"HTTP/1.1 503 Busy\r\nx: \0\r\nRetry-After: 3600\r\n\r\n";
    let (mut rig, answers) = answers_of(db, [(busy.into(), Then::Hold)]).await;
    assert_eq!(answers[0].0, 503);
    rig.advance(3_599);
    assert_eq!(rig.step().await.sent, 0);
    rig.advance(1);
    assert_eq!(rig.step().await.sent, 1);
});

/// Starts a receiver that answers each connection after the first byte of the request and closes it. The system then
/// resets the connection while the client still sends.
async fn hasty(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_u8().await;
            let _ = stream.write_all(answer).await;
        }
    });
    url
}

both!(
    an_answer_that_comes_before_the_request_is_read_counts_though_the_connection_is_reset,
    async |db| {
        let mut rig = Rig::on(db).await;
        let url = hasty(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        let app = rig.application("a").await;
        for number in 0..10 {
            rig.endpoint(&app, &number.to_string(), &url).await;
        }
        let large = format!(r#"{{"k": "{}"}}"#, "x".repeat(1_500_000));
        rig.accept(&app, &large).await;
        rig.drain().await;
        for (endpoint, (status, text)) in attempts(&rig).await {
            assert_eq!(status, 200, "{endpoint}: {text}");
        }
        assert_eq!(rig.count("delivery_result where state = 0").await, 10);
    }
);

both!(a_request_has_this_form_byte_for_byte, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = RawReceiver::saying("HTTP/1.1 204 No Content\r\n\r\n", Then::Close).await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &format!("http://{}/hook?x=1", receiver.address()))
        .await;
    let headers = r#"{"X-API-KEY":"1","host":"elsewhere","x_odd.name":"2","content-type":"text/plain"}"#;
    rig.set_headers("ep_e", headers).await;
    let id = rig.accept(&app, r#"{"k":"v"}"#).await.message_id;
    rig.step().await;
    let timestamp = START.unix_seconds();
    let webhook = standardwebhooks::Webhook::new(SECRET).unwrap();
    let signature = webhook.sign(&id, timestamp, br#"{"k":"v"}"#).unwrap();
    let expected = format!(
        "POST /hook?x=1 HTTP/1.1\r\n\
         Host: {}\r\n\
         Accept: */*\r\n\
         User-Agent: Postrider/{}\r\n\
         Content-Type: application/json\r\n\
         Webhook-Id: {id}\r\n\
         Webhook-Timestamp: {timestamp}\r\n\
         Webhook-Signature: {signature}\r\n\
         X-Api-Key: 1\r\n\
         X_odd.name: 2\r\n\
         Content-Length: 9\r\n\
         \r\n\
         {{\"k\":\"v\"}}",
        receiver.address(),
        env!("CARGO_PKG_VERSION"),
    );
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(String::from_utf8_lossy(&requests[0]), expected);
});

both!(an_endpoint_may_say_what_it_accepts, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::ok());
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    rig.set_headers("ep_e", r#"{"Accept":"application/json"}"#).await;
    rig.accept(&app, "{}").await;
    rig.step().await;
    let arrival = within(DEADLINE, "the message arrives", async || receiver.arrivals().pop()).await;
    let accepted: Vec<_> = arrival.headers.get_all("accept").iter().collect();
    assert_eq!(accepted, ["application/json"]);
});
