//! Ids in responses and in the log: every response has the id of its request, and log lines have the ids of what they are
//! about.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use poem::http::HeaderValue;
use postrider::api::ApiState;
use postrider::clock::Clock;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use crate::api::{Answer, Api};
use crate::crash::{TOKEN, program, subscribe};
use crate::harness::{Caller, DEADLINE, Proxy, Receiver, Serving, Shape, TestDatabase, rows, within};

const HEADER: &str = "x-request-id";

/// Calls with this header, and returns the response's id.
async fn id_for(api: &Api, given: &[u8]) -> String {
    let given = HeaderValue::from_bytes(given).expect("HTTP allows it");
    let answer = api
        .send(api.request("GET", "/app").header(HEADER, given).finish())
        .await;
    answer.expect(200);
    id_of(&answer).to_owned()
}

/// Returns the id of a response.
fn id_of(answer: &Answer) -> &str {
    answer.headers.get(HEADER).map_or("", |id| id.to_str().unwrap())
}

/// Returns whether the server has made this id.
fn is_made(id: &str) -> bool {
    id.strip_prefix("req_").is_some_and(|rest| rest.len() == 26)
}

both!(an_id_that_a_client_sends_comes_back, async |db| {
    let api = Api::on(db).await;
    for id in ["7", r#"a"b\c,d=e"#, &"x".repeat(128)] {
        assert_eq!(id_for(&api, id.as_bytes()).await, id);
    }
});

both!(a_malformed_id_is_replaced, async |db| {
    let api = Api::on(db).await;
    let mut made = Vec::new();
    for id in ["", "a b", "a\tb", "ä", &"x".repeat(129)] {
        let id = id_for(&api, id.as_bytes()).await;
        assert!(is_made(&id), "{id}");
        made.push(id);
    }
    assert!(made.is_sorted_by(|a, b| a < b), "no id comes twice: {made:?}");
});

both!(every_response_has_an_id, async |db| {
    let api = Api::on(db).await;
    for (token, method, path, body, status) in [
        (&*api.token, "GET", "/app", "", 200),
        (&api.token, "POST", "/app", r#"{"name": "Shop", "uid": "shop"}"#, 201),
        (&api.token, "POST", "/app", r#"{"name": "Shop", "uid": "shop"}"#, 409),
        (
            &api.token,
            "POST",
            "/app/shop/msg",
            r#"{"eventType": "a", "payload": {}}"#,
            202,
        ),
        (&api.token, "POST", "/app", "{", 422),
        (&api.token, "GET", "/app/none", "", 404),
        (&api.token, "GET", "/no-such-route", "", 404),
        (&api.token, "PUT", "/app", "{}", 405),
        ("no token", "GET", "/app", "", 401),
        ("no token", "POST", "/app", "{}", 401),
    ] {
        let answer = api.call(token, method, path, &[], body).await;
        answer.expect(status);
        assert!(is_made(id_of(&answer)), "{method} {path}: {:?}", answer.headers);
    }
    for (path, status) in [("/docs", 200), ("/livez", 200), ("/favicon.png", 404)] {
        let page = api.fetch(path, &[]).await;
        assert_eq!(page.status, status, "{path}");
        assert!(is_made(page.header(HEADER)), "{path}");
    }
});

postgres_only!(a_refusal_because_the_database_is_away_has_an_id, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let url = Some(proxy.url(db.url()));
    let shape = Shape {
        url,
        ..Shape::default()
    };
    let api = Api::shaped(db, shape, ApiState::BODY_DEADLINE).await;
    proxy.lead_to("postgresql://127.0.0.1:1/nowhere").await;
    proxy.cut();
    let given = [(HEADER, "mine")];
    let answer = api.call(&api.token, "GET", "/app", &given, "").await;
    answer.refused(503, "unavailable");
    assert_eq!(id_of(&answer), "mine");
});

/// Waits for a line of the log that contains `text`, and returns it.
async fn line(serving: &Serving, text: &str) -> String {
    within(DEADLINE, &format!("a line with {text}"), async || {
        let said = serving.stderr();
        said.lines().find(|line| line.contains(text)).map(str::to_owned)
    })
    .await
}

/// Takes a table away, so that each statement on it fails.
async fn take_away(db: &TestDatabase, table: &str) {
    let connection = db.connect().await;
    let rename = format!("alter table {table} rename to {table}_away");
    connection
        .execute_unprepared(&rename)
        .await
        .expect("the table is there");
    connection.close().await.expect("the connection closes");
}

/// Sends a request about event types with an id, and returns the status and the id of the response.
async fn ask(serving: &Serving, method: &str, id: &str) -> (u16, String) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::builder()
        .method(method)
        .uri(format!("{}/api/v1/event-type", serving.url()))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .header(HEADER, id)
        .body(Full::<Bytes>::from(r#"{"name": "order.paid", "description": ""}"#))
        .expect("a request");
    let response = client.request(request).await.expect("a response");
    let id = response.headers()[HEADER].to_str().expect("text").to_owned();
    (response.status().as_u16(), id)
}

both!(the_log_line_of_a_failed_request_has_its_id, async |db| {
    take_away(db, "event_type").await;
    let serving = program(db).serve().await;
    for (method, id) in [("GET", r#"a-"read""#), ("POST", "a-write")] {
        assert_eq!(ask(&serving, method, id).await, (500, id.to_owned()));
        let line = line(&serving, &format!("{id:?}")).await;
        assert!(line.contains("ERROR") && line.contains("a request failed"), "{line}");
        assert!(line.ends_with(&format!(" request_id={id:?}")), "{line}");
    }
});

both!(the_log_line_of_a_failed_task_has_its_id, async |db| {
    let serving = program(db).serve().await;
    let receiver = Receiver::start().await;
    subscribe(&serving.url(), &receiver, 1).await;
    let connection = db.connect().await;
    let found = rows(&connection, "select id from endpoint").await;
    let endpoint: String = found[0].try_get("", "id").expect("a text");
    connection.close().await.expect("the connection closes");
    take_away(db, "attempt").await;
    let since = Clock::system().now().minus(Duration::from_secs(3600));
    let window = json!({"since": since.to_rfc3339()});
    let path = format!("/app/shop/endpoint/{endpoint}/recover");
    let task: Value = Caller::new(TOKEN).make(&serving.url(), &path, window).await;
    let line = line(&serving, "a background task could not be worked on").await;
    let wanted = format!("task_id={}", task["id"]);
    assert!(line.contains(&wanted) && line.contains("app_id=\"app_"), "{line}");
});
