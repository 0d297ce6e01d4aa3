//! The API and the queue while a caller hangs up or the database goes away.

use poem::Request;
use poem::http::Method;
use sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use crate::api::Api;
use crate::harness::{Answer, DEADLINE, Gate, Kind, Proxy, Receiver, Rig, Shape, TestDatabase, rows, within};
use crate::intake;
use postrider::clock::Clock;
use postrider::error::Kind as ErrorKind;

/// Blocks all other writes on SQLite, and those to `application` on Postgres, until the returned transaction ends.
async fn hold_writes(db: &TestDatabase, connection: &DatabaseConnection) -> sea_orm::DatabaseTransaction {
    let mut options = sea_orm::TransactionOptions::default();
    if db.kind() == Kind::Sqlite {
        options.sqlite_transaction_mode = Some(sea_orm::SqliteTransactionMode::Immediate);
    }
    let held = connection.begin_with_options(options).await.unwrap();
    if db.kind() == Kind::Postgres {
        held.execute_unprepared("lock table application in exclusive mode")
            .await
            .unwrap();
    }
    held
}

both!(a_write_that_has_begun_ends_though_its_caller_hangs_up, async |db| {
    let api = Api::on(db).await;
    let connection = db.connect().await;
    let held = hold_writes(db, &connection).await;
    let headers = [("idempotency-key", "k")];
    let body = json!({"name": "n"}).to_string();
    let request = api.call(&api.token, "POST", "/app", &headers, &body);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), request).await.is_err(),
        "the write waits for its turn"
    );
    held.rollback().await.unwrap();
    within(DEADLINE, "the application is there", async || {
        (api.rig.count("application").await == 1).then_some(())
    })
    .await;
    let again = api.post_once("/app", "k", json!({"name": "n"})).await;
    assert_eq!(again.expect(201)["name"], "n");
    assert_eq!(api.rig.count("application").await, 1);
});

postgres_only!(an_absent_database_is_503_in_json_until_it_is_back, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let shape = Shape {
        url: Some(proxy.url(db.url())),
        ..Shape::default()
    };
    let api = Api::shaped(db, shape, Duration::from_millis(500)).await;
    api.get("/app").await.expect(200);
    proxy.stall();
    let health = Request::builder().uri_str("/api/v1/health").finish();
    let body = json!({"name": "n"}).to_string();
    let (health, read, write) = tokio::join!(
        api.send(health),
        api.get("/app"),
        api.call(&api.token, "POST", "/app", &[("idempotency-key", "k")], &body),
    );
    for answer in [health, read, write] {
        answer.refused(503, "unavailable");
        assert_eq!(answer.headers["retry-after"], "1");
    }
    let ping = Request::builder()
        .method(Method::GET)
        .uri_str("/api/v1/health/ping")
        .finish();
    api.send(ping).await.expect(204);
    proxy.resume();
    let back = async || (api.get("/app").await.status == 200).then_some(());
    within(DEADLINE, "the database is back", back).await;
    let again = api.post_once("/app", "k", json!({"name": "n"})).await;
    assert_eq!(again.expect(201)["name"], "n");
    assert_eq!(api.rig.count("application").await, 1);
});

postgres_only!(
    a_database_host_that_vanishes_is_noticed_and_what_was_sent_is_settled_over_new_connections,
    async |db| {
        let proxy = Proxy::to(db.url()).await;
        let shape = Shape {
            clock: Clock::system(),
            url: Some(proxy.url(db.url())),
            answer_deadline: Duration::from_secs(2),
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.answer(Answer::ok().behind(&gate));
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        let running = rig.run();
        let sent = rig.accept(&app, "{}").await.message_id;
        receiver.wait_for(1).await;
        proxy.abandon();
        gate.open();
        within(DEADLINE, "the outcome is recorded", async || {
            (rig.state(&sent).await == "delivered").then_some(())
        })
        .await;
        let next = within(DEADLINE, "messages are accepted again", async || {
            rig.intake.accept(rig.message(&app, "{}")).await.ok()
        })
        .await;
        within(DEADLINE, "the message is delivered", async || {
            (rig.state(&next.message_id).await == "delivered").then_some(())
        })
        .await;
        assert_eq!(rig.count(&format!("attempt where message_id = '{sent}'")).await, 1);
        running.stop(true).await;
    }
);

// This is how it looks while a password is replaced or an address is not let in: connecting is refused, with a code
// that does not stand for an outage.
postgres_only!(
    while_connecting_is_refused_no_outcome_is_lost_and_messages_are_answered_unavailable,
    async |db| {
        let mut rig = Rig::on(db).await;
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.answer(Answer::ok().behind(&gate));
        let app = rig.application("a").await;
        for endpoint in ["one", "two"] {
            rig.endpoint(&app, endpoint, &receiver.url()).await;
        }
        let running = rig.run();
        let sent = rig.accept(&app, "{}").await.message_id;
        receiver.wait_for(2).await;
        let beside = db.empty_sibling().await;
        let admin = beside.connect().await;
        let url = Url::parse(db.url()).expect("a database URL");
        let name = url.path().trim_start_matches('/');
        let allow = async |allowed: bool| {
            let sql = format!("alter database {name} allow_connections {allowed}");
            admin.execute_unprepared(&sql).await.expect(&sql);
        };
        allow(false).await;
        let sql = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and application_name = 'postrider'"
        );
        admin.execute_unprepared(&sql).await.expect(&sql);
        gate.open();
        within(DEADLINE, "the outcomes are known", async || {
            rig.slots.is_idle().then_some(())
        })
        .await;
        // The refusal takes as long as the intake lets a sender wait, and the settler tries meanwhile.
        let refused = rig
            .intake
            .accept(rig.message(&app, "{}"))
            .await
            .expect_err("no message is stored");
        assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused}");
        assert_eq!(rig.count("attempt").await, 0);
        allow(true).await;
        within(DEADLINE, "the outcomes are recorded", async || {
            let delivered = format!("delivery_result where message_id = '{sent}' and state = 0");
            (rig.count(&delivered).await == 2).then_some(())
        })
        .await;
        assert_eq!(rig.count(&format!("attempt where message_id = '{sent}'")).await, 2);
        running.stop(true).await;
        let requests = receiver.arrivals();
        let of_message = requests.iter().filter(|arrival| arrival.message_id() == sent);
        assert_eq!(of_message.count(), 2, "nothing is sent twice");
    }
);

/// Returns the bytes of a POST with the idempotency key `k`.
fn wire(api: &Api, path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST /api/v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         idempotency-key: k\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        api.token,
        body.len()
    )
}

/// Sends all of `text` on a connection of its own.
async fn send(server: SocketAddr, text: &str) -> TcpStream {
    let mut connection = TcpStream::connect(server).await.expect("a connection");
    connection
        .write_all(text.as_bytes())
        .await
        .expect("the request is sent");
    connection
}

/// Sends `text` and returns the status and the body of the response.
async fn answer(server: SocketAddr, text: &str) -> (String, Value) {
    let mut connection = send(server, text).await;
    let mut answer = String::new();
    let reading = tokio::time::timeout(DEADLINE, connection.read_to_string(&mut answer));
    reading.await.expect("a response in time").expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").to_owned();
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// Waits until the server, which takes one connection at a time, has finished all earlier ones.
async fn has_done(server: SocketAddr) {
    let ping = "GET /api/v1/health/ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(answer(server, ping).await.0, "204");
}

/// Creates an application `a` with one endpoint at the receiver.
async fn with_endpoint(db: &TestDatabase, receiver: &Receiver) -> Api {
    let api = Api::on(db).await;
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    api.post("/app/a/endpoint", json!({"url": receiver.url()}))
        .await
        .expect(201);
    api
}

both!(half_a_request_of_a_client_that_hangs_up_leaves_nothing, async |db| {
    let receiver = Receiver::start().await;
    let mut api = with_endpoint(db, &receiver).await;
    let server = api.listen_to_one().await;
    let endpoint = json!({"url": receiver.url(), "uid": "other"});
    let message = json!({"eventType": "order.paid", "payload": {"half": "of this is not sent"}});
    for (path, body, status) in [("/app/a/endpoint", endpoint, "201"), ("/app/a/msg", message, "202")] {
        let whole = wire(&api, path, &body);
        let half = &whole[..whole.len() - body.to_string().len() / 2];
        let before = rows(&api.rig.db, "select 1 from idempotency").await.len();
        drop(send(server, half).await);
        has_done(server).await;
        assert_eq!(rows(&api.rig.db, "select 1 from idempotency").await.len(), before);
        assert_eq!(answer(server, &whole).await.0, status, "the key is free");
    }
    assert_eq!(api.rig.count("endpoint").await, 2);
    assert_eq!(api.rig.count("message").await, 1);
    api.rig.drain().await;
    assert_eq!(receiver.count(), 2);
});

both!(
    a_message_whose_client_hangs_up_once_its_batch_has_begun_is_stored_and_delivered,
    async |db| {
        let receiver = Receiver::start().await;
        let mut api = with_endpoint(db, &receiver).await;
        let server = api.listen().await;
        let message = wire(&api, "/app/a/msg", &json!({"eventType": "order.paid", "payload": {}}));
        let gate = intake::Gate::close(db, &api.rig).await;
        let client = send(server, &message).await;
        intake::wait_for_busy(db, &api.rig, 1).await;
        drop(client);
        gate.open().await;
        within(DEADLINE, "the message is stored", async || {
            (api.rig.count("message").await == 1).then_some(())
        })
        .await;
        within(DEADLINE, "the message is sent", async || {
            (api.rig.step().await.sent == 1).then_some(())
        })
        .await;
        let (status, again) = answer(server, &message).await;
        assert_eq!(
            (status.as_str(), again["id"].as_str()),
            ("202", Some(receiver.arrivals()[0].message_id()))
        );
        api.rig.drain().await;
        assert_eq!((api.rig.count("message").await, receiver.count()), (1, 1));
    }
);

// Neither the client nor the test knows whether the batch had begun. A repeat with the same key is right in both cases.
both!(
    a_client_that_hangs_up_without_its_answer_and_comes_back_has_sent_its_message_once,
    async |db| {
        let receiver = Receiver::start().await;
        let mut api = with_endpoint(db, &receiver).await;
        let server = api.listen().await;
        let message = wire(&api, "/app/a/msg", &json!({"eventType": "order.paid", "payload": {}}));
        for _ in 0..5 {
            drop(send(server, &message).await);
        }
        let (status, accepted) = answer(server, &message).await;
        assert_eq!(status, "202");
        api.rig.drain().await;
        let arrivals = receiver.arrivals();
        assert_eq!(arrivals.len(), 1);
        assert_eq!(accepted["id"].as_str(), Some(arrivals[0].message_id()));
        assert_eq!(api.rig.count("message").await, 1);
    }
);

both!(
    an_endpoint_whose_client_hangs_up_is_created_and_a_repeat_returns_it,
    async |db| {
        let receiver = Receiver::start().await;
        let api = with_endpoint(db, &receiver).await;
        let server = api.listen().await;
        let endpoint = wire(&api, "/app/a/endpoint", &json!({"url": receiver.url(), "uid": "other"}));
        let gate = intake::Gate::close(db, &api.rig).await;
        let client = send(server, &endpoint).await;
        intake::wait_for_busy(db, &api.rig, 1).await;
        drop(client);
        gate.open().await;
        within(DEADLINE, "the endpoint is made", async || {
            (api.rig.count("endpoint where uid = 'other'").await == 1).then_some(())
        })
        .await;
        let (status, again) = answer(server, &endpoint).await;
        let made = api.get("/app/a/endpoint/other").await;
        assert_eq!((status.as_str(), &again["id"]), ("201", &made.expect(200)["id"]));
        assert_eq!(api.rig.count("endpoint").await, 2);
    }
);

// Checked inside the database: a trigger records the settings of each session that writes.
postgres_only!(
    each_session_of_ours_has_its_time_limits_and_plans_a_statement_once_and_compiles_none,
    async |db| {
        let receiver = Receiver::start().await;
        let mut api = with_endpoint(db, &receiver).await;
        let tell = "create function tell() returns trigger language plpgsql as $$ begin \
                insert into told values (tg_table_name, pg_backend_pid(), \
                    current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'), \
                    current_setting('lock_timeout'), current_setting('plan_cache_mode'), current_setting('jit')); \
                return null; end $$";
        let mut sql = vec![
            "create table told (by text, pid int, statement text, idle text, lock_wait text, plans text, compiles text)".to_owned(),
            tell.to_owned(),
        ];
        // The API's writes, the intake's, the settler's, the heartbeat.
        let tables = ["application", "message", "attempt", "process"];
        for table in tables {
            sql.push(format!(
                "create trigger tell after insert or update on {table} for each statement execute function tell()"
            ));
        }
        for sql in &sql {
            api.rig.db.execute_unprepared(sql).await.expect(sql);
        }
        api.post("/app", json!({"name": "b"})).await.expect(201);
        // The first message goes over an intake worker's own connection; the second has an event id and goes over one
        // of the pool.
        for message in [
            json!({"eventType": "t", "payload": {}}),
            json!({"eventType": "t", "payload": {}, "eventId": "e"}),
        ] {
            api.post("/app/a/msg", message).await.expect(202);
        }
        api.rig.drain().await;
        for table in tables {
            assert!(
                api.rig.count(&format!("told where by = '{table}'")).await > 0,
                "{table}"
            );
        }
        let own =
            "told m where by = 'message' and not exists (select 1 from told where by <> 'message' and pid = m.pid)";
        // The pool's connection may have been used for nothing else either.
        assert!(api.rig.count(own).await >= 1, "an intake worker's own connection");
        // The API's statements end sooner, because its callers wait only for a short time.
        let wanted = "case by when 'application' then '4s' else '30s' end";
        let others = format!("told where statement <> {wanted} or idle <> '10s'");
        assert_eq!(api.rig.count(&others).await, 0);
        // The heartbeat waits for its row without a limit. An intake worker's own connection waits for a key that
        // another batch holds; its limit is not checked here.
        let locks = "told where lock_wait <> case by when 'application' then '2s' when 'attempt' then '1s' when 'process' then '0' \
                     else lock_wait end";
        assert_eq!(api.rig.count(locks).await, 0);
        let again = "told where plans <> 'force_generic_plan' or compiles <> 'off'";
        assert_eq!(api.rig.count(again).await, 0);
    }
);
