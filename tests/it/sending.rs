//! Attempts: what a receiver may answer, where an attempt may go, which URL and secret it uses, and what is recorded.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use postrider::slots::Caps;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::{Answer, Receiver, Rig, SECRET, Shape, TestDatabase};

async fn impatient(db: &TestDatabase) -> Rig {
    let shape = Shape {
        attempt_timeout: Duration::from_millis(300),
        ..Shape::default()
    };
    Rig::shaped(db, shape).await
}

/// Returns the status and the text of the latest attempt.
async fn latest(rig: &Rig) -> (i32, String) {
    let sql = "select response_status, response from attempt order by id desc limit 1";
    let rows = crate::harness::rows(&rig.db, sql).await;
    let row = rows.first().expect("an attempt is recorded");
    (
        row.try_get("", "response_status").unwrap(),
        row.try_get("", "response").unwrap(),
    )
}

/// Sends one message to one new endpoint with one step, and returns the message's id.
async fn send_one(rig: &mut Rig, url: &str) -> String {
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", url).await;
    let id = rig.accept(&app, "{}").await.message_id;
    rig.step().await;
    id
}

both!(an_answer_with_nul_bytes_is_recorded_without_them, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::ok().body("a\0b"));
    let id = send_one(&mut rig, &receiver.url()).await;
    assert_eq!(latest(&rig).await, (200, "a\u{fffd}b".to_owned()));
    assert_eq!(rig.state(&id).await, "delivered");
});

both!(an_answer_larger_than_the_cap_is_cut, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::ok().body("x".repeat(1_000_000)));
    let id = send_one(&mut rig, &receiver.url()).await;
    assert_eq!(latest(&rig).await, (200, "x".repeat(20_000)));
    assert_eq!(rig.state(&id).await, "delivered");
});

both!(an_endless_answer_is_read_up_to_the_cap, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::ok().body("more ").endless());
    let id = send_one(&mut rig, &receiver.url()).await;
    assert_eq!(latest(&rig).await.0, 200);
    assert_eq!(rig.state(&id).await, "delivered");
});

both!(an_answer_that_does_not_begin_in_time_is_none, async |db| {
    let mut rig = impatient(db).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::hang());
    let begun = Instant::now();
    let id = send_one(&mut rig, &receiver.url()).await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let (status, reason) = latest(&rig).await;
    assert_eq!(status, 0);
    assert!(reason.contains("no answer within"), "{reason}");
    assert_eq!(rig.state(&id).await, "waiting");
});

both!(a_body_has_no_more_time_than_its_attempt, async |db| {
    let mut rig = impatient(db).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::ok().body("drip").dripping(Duration::from_millis(20)));
    let begun = Instant::now();
    let id = send_one(&mut rig, &receiver.url()).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    let (status, text) = latest(&rig).await;
    assert_eq!(status, 200);
    assert!(
        text.starts_with("drip") && text.ends_with("\n(the body did not end in time)"),
        "{text}"
    );
    assert_eq!(rig.state(&id).await, "delivered");
});

/// Starts a receiver that answers 200 to its first connection as soon as a request has begun, and reads no more of it.
/// Returns its address and that connection.
async fn unread() -> (SocketAddr, JoinHandle<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    let address = listener.local_addr().unwrap();
    let answering = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.read_u8().await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        connection.write_all(answer).await.unwrap();
        connection
    });
    (address, answering)
}

both!(
    a_request_that_is_answered_and_not_read_is_kept_no_longer_than_an_attempt_may_take,
    async |db| {
        let mut rig = impatient(db).await;
        let body = format!(r#"{{"k": "{}"}}"#, "x".repeat(4_000_000));
        let (address, connection) = unread().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &format!("http://{address}/")).await;
        let id = rig.accept(&app, &body).await.message_id;
        rig.step().await;
        assert_eq!(rig.state(&id).await, "delivered", "the receiver has answered 200");
        // Two later attempts have used up all their time.
        let hanging = Receiver::start().await;
        hanging.answer(Answer::hang());
        let other = rig.application("b").await;
        rig.endpoint(&other, "e", &hanging.url()).await;
        for _ in 0..2 {
            rig.accept(&other, "{}").await;
            rig.step().await;
        }
        let mut read = Vec::new();
        let _ = connection.await.unwrap().read_to_end(&mut read).await;
        assert!(
            read.len() < body.len(),
            "the rest of the request was dropped: {} bytes came",
            read.len()
        );
    }
);

both!(
    a_connection_that_breaks_is_a_failed_attempt_and_not_tried_silently_again,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        receiver.answer_next([Answer::cut(), Answer::cut()]);
        let id = send_one(&mut rig, &receiver.url()).await;
        assert_eq!(receiver.count(), 1);
        assert_eq!(latest(&rig).await.0, 0);
        rig.advance(7);
        rig.step().await;
        assert_eq!(receiver.count(), 2);
        assert_eq!(latest(&rig).await.0, 0);
        assert_eq!(rig.state(&id).await, "waiting");
    }
);

both!(a_retry_after_is_honoured, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(503).header("retry-after", "3600"));
    let id = send_one(&mut rig, &receiver.url()).await;
    assert_eq!(rig.state(&id).await, "waiting");
    rig.advance(3_599);
    assert_eq!(rig.step().await.sent, 0);
    rig.advance(1);
    assert_eq!(rig.step().await.sent, 1);
});

both!(a_redirect_is_not_followed, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let elsewhere = receiver.url_of("/elsewhere");
    receiver.answer_next([Answer::status(302).header("location", &elsewhere)]);
    let id = send_one(&mut rig, &receiver.url()).await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(latest(&rig).await.0, 302);
    assert_eq!(rig.state(&id).await, "waiting");
});

both!(
    a_target_that_is_not_public_is_refused_whatever_its_spelling,
    async |db| {
        let shape = Shape {
            targets: "",
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let receiver = Receiver::start().await;
        let port = receiver.address().port();
        let app = rig.application("a").await;
        let spellings = [
            "127.0.0.1",
            "localhost",
            "2130706433",
            "0x7f.1",
            "127.0.0.1.",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ];
        for (n, host) in spellings.iter().enumerate() {
            rig.endpoint(&app, &n.to_string(), &format!("http://{host}:{port}/"))
                .await;
        }
        let id = rig.accept(&app, "{}").await.message_id;
        rig.step().await;
        assert_eq!(receiver.count(), 0);
        let refused = "attempt where response_status = 0 and response like '%is not public%'";
        assert_eq!(rig.count(refused).await, spellings.len() as i64);
        assert_eq!(rig.state(&id).await, "waiting");
    }
);

both!(
    what_is_gone_when_its_turn_comes_ends_as_failed_without_an_attempt,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        receiver.answer(Answer::status(500));
        let marks = [
            "update endpoint set deleted_at = 1 where app_id = 'app_0'",
            "update endpoint set disabled = true where app_id = 'app_1'",
            "update application set deleted_at = 1 where id = 'app_2'",
            "delete from message_content where app_id = 'app_3'",
        ];
        let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(70_000));
        let mut tried = Vec::new();
        let mut untried = Vec::new();
        for n in 0..marks.len() {
            let app = rig.application(&n.to_string()).await;
            rig.endpoint(&app, &n.to_string(), &receiver.url()).await;
            tried.push(rig.accept(&app, "{}").await.message_id);
        }
        rig.step().await;
        for n in 0..marks.len() {
            untried.push(rig.accept(&format!("app_{n}"), &large).await.message_id);
        }
        for mark in marks {
            rig.sql(mark, []).await;
        }
        rig.advance(7);
        rig.drain().await;
        for id in tried.iter().chain(&untried) {
            assert_eq!(rig.state(id).await, "failed");
        }
        assert_eq!(receiver.count(), marks.len(), "nothing more was sent");
        assert_eq!(rig.count("attempt").await, marks.len() as i64);
        assert_eq!(rig.count("delivery").await, 0);
    }
);

both!(a_retry_uses_the_present_url_and_secret_of_its_endpoint, async |db| {
    let mut rig = Rig::on(db).await;
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    old.answer(Answer::status(500));
    let id = send_one(&mut rig, &old.url()).await;
    assert!(old.arrivals()[0].is_signed_with(SECRET));
    let secret = "whsec_bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3IG5ldyE=";
    let rotated = format!(r#"[{{"sealed":"{}"}}]"#, rig.seal("ep_e", secret));
    let sql = "update endpoint set url = $1, secrets = $2";
    rig.sql(sql, [new.url().into(), rotated.into()]).await;
    rig.set_headers("ep_e", r#"{"x-own":"1"}"#).await;
    rig.advance(7);
    rig.step().await;
    let arrival = new.wait_for(1).await.remove(0);
    assert!(arrival.is_signed_with(secret) && !arrival.is_signed_with(SECRET));
    assert_eq!(arrival.header("x-own"), Some("1"));
    assert_eq!(arrival.message_id(), id);
    assert_eq!(rig.state(&id).await, "delivered");
});

both!(
    a_first_attempt_that_waits_uses_the_present_url_and_secret_of_its_endpoint,
    async |db| {
        let caps = Caps {
            process: 1,
            endpoint: 1,
        };
        let shape = Shape {
            caps,
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let (old, new) = (Receiver::start().await, Receiver::start().await);
        for name in ["a", "b"] {
            let app = rig.application(name).await;
            rig.endpoint(&app, name, &old.url()).await;
        }
        let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(70_000));
        let handed_over = rig.accept("app_a", "{}").await.message_id;
        let parked = rig.accept("app_a", "{}").await.message_id;
        let due = rig.accept("app_b", "{}").await.message_id;
        let too_large = rig.accept("app_b", &large).await.message_id;
        for (id, state) in [
            (&handed_over, "owner is not null"),
            (&parked, "due_at is null"),
            (&due, "owner is null and due_at is not null"),
            (&too_large, "owner is null and due_at is not null"),
        ] {
            let row = format!("delivery where message_id = '{id}' and {state}");
            assert_eq!(rig.count(&row).await, 1, "{state}");
        }

        let secret = "whsec_bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3IG5ldyE=";
        for endpoint in ["ep_a", "ep_b"] {
            let rotated = format!(r#"[{{"sealed":"{}"}}]"#, rig.seal(endpoint, secret));
            let sql = "update endpoint set url = $1, secrets = $2 where id = $3";
            rig.sql(sql, [new.url().into(), rotated.into(), endpoint.into()]).await;
        }
        assert_eq!(rig.drain().await, 4);
        let arrival = old.arrivals().remove(0);
        assert_eq!(
            (old.count(), arrival.message_id()),
            (1, &*handed_over),
            "the fast path uses the endpoint as the accept read it"
        );
        assert!(arrival.is_signed_with(SECRET));
        let mut arrived = Vec::new();
        for arrival in new.arrivals() {
            assert!(arrival.is_signed_with(secret) && !arrival.is_signed_with(SECRET));
            arrived.push(arrival.message_id().to_owned());
        }
        arrived.sort();
        let mut waited = [parked, due, too_large];
        waited.sort();
        assert_eq!(arrived, waited);
    }
);

both!(
    the_fast_path_uses_the_endpoint_as_accepted_and_no_retry_follows_once_that_is_gone,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let marks = [
            "update endpoint set deleted_at = 1 where app_id = 'app_0'",
            "update endpoint set disabled = true where app_id = 'app_1'",
            "update application set deleted_at = 1 where id = 'app_2'",
        ];
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (n, mark) in marks.into_iter().enumerate() {
            let app = rig.application(&n.to_string()).await;
            rig.endpoint(&app, &n.to_string(), &receiver.url()).await;
            good.push(rig.accept(&app, r#"{"is":"good"}"#).await.message_id);
            bad.push(rig.accept(&app, "{}").await.message_id);
            rig.sql(mark, []).await;
        }
        receiver.answer_by(|arrival| Answer::status(if arrival.text() == "{}" { 500 } else { 200 }));
        assert_eq!(rig.step().await.sent, 6);
        assert_eq!(receiver.count(), 6);
        rig.advance(7);
        rig.drain().await;
        for (good, bad) in good.iter().zip(&bad) {
            assert_eq!((rig.state(good).await, rig.state(bad).await), ("delivered", "failed"));
        }
        assert_eq!(receiver.count(), 6, "nothing more is sent");
        assert_eq!(rig.count("attempt").await, 6);
        assert_eq!(rig.count("delivery").await, 0);
    }
);
