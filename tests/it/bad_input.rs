//! Bad input of every kind on every route: the response is the error of the contract, in JSON, and names the field.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use poem::http::Method;
use poem::{Body, Request};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::api::Api;

const URL: &str = "http://127.0.0.1:1/";

/// Creates an application with the uid `a`, its endpoint `e` and the event type `t`.
async fn prepared(api: &Api) {
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    api.post("/event-type", json!({"name": "t", "description": ""}))
        .await
        .expect(201);
    api.post("/app/a/endpoint", json!({"url": URL, "uid": "e"}))
        .await
        .expect(201);
    api.post("/app/a/poller", json!({"uid": "p"})).await.expect(201);
}

fn long(length: usize) -> String {
    "x".repeat(length)
}

fn many_names(count: usize) -> String {
    let names: Vec<_> = (0..count).map(|n| n.to_string()).collect();
    names.join(",")
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

fn many_headers(count: usize) -> Value {
    (0..count).map(|n| (format!("x-{n}"), json!("v"))).collect()
}

/// Returns routes, each with a body that it refuses and the place that the refusal must name.
fn bodies() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let mut all = vec![
        ("POST", "/app", json!({}), "body.name"),
        ("POST", "/app", json!({"name": ""}), "body.name"),
        ("POST", "/app", json!({"name": null}), "body.name"),
        ("POST", "/app", json!({"name": 1}), "body.name"),
        ("POST", "/app", json!({"name": "a\u{0}b"}), "body.name"),
        ("POST", "/app", json!({"name": long(4097)}), "body.name"),
        ("PATCH", "/app/a", json!({"name": ""}), "body.name"),
        ("PATCH", "/app/a", json!({"name": []}), "body.name"),
        ("POST", "/event-type", json!({"description": ""}), "body.name"),
        (
            "POST",
            "/event-type",
            json!({"name": "a b", "description": ""}),
            "body.name",
        ),
        (
            "POST",
            "/event-type",
            json!({"name": long(257), "description": ""}),
            "body.name",
        ),
        ("POST", "/event-type", json!({"name": "x"}), "body.description"),
        (
            "POST",
            "/event-type",
            json!({"name": "x", "description": "\u{8}"}),
            "body.description",
        ),
        ("PUT", "/event-type/x", json!({}), "body.description"),
        (
            "PUT",
            "/event-type/a%20b",
            json!({"description": ""}),
            "path.event_type_name",
        ),
        (
            "PATCH",
            "/event-type/t",
            json!({"description": null}),
            "body.description",
        ),
        ("POST", "/app/a/endpoint", json!({}), "body.url"),
        ("PUT", "/app/a/endpoint/e", json!({}), "body.url"),
        ("POST", "/operational-webhook/endpoint", json!({}), "body.url"),
        ("PUT", "/operational-webhook/endpoint/o", json!({}), "body.url"),
        (
            "POST",
            "/app/a/endpoint",
            json!({"url": URL, "secret": "whsec_c2hvcnQ="}),
            "body.secret",
        ),
        (
            "POST",
            "/app/a/endpoint",
            json!({"url": URL, "secret": "no-secret-of-ours"}),
            "body.secret",
        ),
        (
            "POST",
            "/app/a/endpoint",
            json!({"url": URL, "headers": {"a": 1}}),
            "body.headers.a",
        ),
        (
            "POST",
            "/app/a/endpoint",
            json!({"url": URL, "headers": {"te": "x"}}),
            "body.headers.te",
        ),
        (
            "POST",
            "/app/a/endpoint",
            json!({"url": URL, "headers": {"a": "x\ny"}}),
            "body.headers.a",
        ),
        (
            "POST",
            "/app/a/endpoint",
            json!({"url": URL, "headers": {"a": "1", "A": "2"}}),
            "body.headers.a",
        ),
        (
            "POST",
            "/app/a/endpoint/e/secret/rotate",
            json!({"key": "x"}),
            "body.key",
        ),
        (
            "POST",
            "/app/a/endpoint/e/secret/rotate",
            json!({"gracePeriodSeconds": -1}),
            "body.gracePeriodSeconds",
        ),
        (
            "POST",
            "/app/a/endpoint/e/secret/rotate",
            json!({"gracePeriodSeconds": 604_801}),
            "body.gracePeriodSeconds",
        ),
        ("PUT", "/app/a/endpoint/e/headers", json!({}), "body.headers"),
        (
            "PUT",
            "/app/a/endpoint/e/headers",
            json!({"headers": many_headers(51)}),
            "body.headers",
        ),
        (
            "PATCH",
            "/app/a/endpoint/e/headers",
            json!({"headers": many_headers(51)}),
            "body.headers",
        ),
        (
            "POST",
            "/app/a/endpoint",
            json!({"url": URL, "headers": many_headers(51)}),
            "body.headers",
        ),
        (
            "PUT",
            "/app/a/endpoint/e/headers",
            json!({"headers": {"a": null}}),
            "body.headers.a",
        ),
        (
            "PATCH",
            "/app/a/endpoint/e/headers",
            json!({"deleteHeaders": "a"}),
            "body.deleteHeaders",
        ),
        ("POST", "/app/a/msg", json!({"payload": {}}), "body.eventType"),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "", "payload": {}}),
            "body.eventType",
        ),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "a/b", "payload": {}}),
            "body.eventType",
        ),
        ("POST", "/app/a/msg", json!({"eventType": "t"}), "body.payload"),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "t", "payload": null}),
            "body.payload",
        ),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "t", "payload": [1]}),
            "body.payload",
        ),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "t", "payload": "text"}),
            "body.payload",
        ),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "t", "payload": {}, "eventId": "a b"}),
            "body.eventId",
        ),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "t", "payload": {}, "eventId": "msg_x"}),
            "body.eventId",
        ),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "t", "payload": {}, "channels": []}),
            "body.channels",
        ),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "t", "payload": {}, "channels": ["a b"]}),
            "body.channels",
        ),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "t", "payload": {}, "channels": ["a", 1]}),
            "body.channels.1",
        ),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "t", "payload": {}, "channels": ["1", "2", "3", "4", "5", "6"]}),
            "body.channels",
        ),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "t", "payload": {}, "payloadRetentionPeriod": 4}),
            "body.payloadRetentionPeriod",
        ),
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "t", "payload": {}, "payloadRetentionPeriod": 91}),
            "body.payloadRetentionPeriod",
        ),
    ];
    for (method, path, url) in [
        ("POST", "/app/a/endpoint", true),
        ("PUT", "/app/a/endpoint/e", true),
        ("PATCH", "/app/a/endpoint/e", true),
        ("POST", "/app", false),
        ("PUT", "/app/a", false),
        ("PATCH", "/app/a", false),
    ] {
        let mut bad = vec![
            ("uid", json!(""), "body.uid"),
            ("uid", json!("a b"), "body.uid"),
            ("uid", json!(long(257)), "body.uid"),
            ("uid", json!(if url { "ep_x" } else { "app_x" }), "body.uid"),
            ("uid", json!(7), "body.uid"),
            ("throttleRate", json!(0), "body.throttleRate"),
            ("throttleRate", json!(65_536), "body.throttleRate"),
            ("throttleRate", json!(-1), "body.throttleRate"),
            ("throttleRate", json!(1.5), "body.throttleRate"),
            ("throttleRate", json!("1"), "body.throttleRate"),
            ("rateLimit", json!(0), "body.rateLimit"),
            ("metadata", json!([]), "body.metadata"),
            ("metadata", json!({"k": 1}), "body.metadata.k"),
            ("metadata", json!({"k": long(4097)}), "body.metadata"),
            ("metadata", json!({"k": "\u{1}"}), "body.metadata"),
        ];
        if url {
            bad.extend([
                ("url", json!(""), "body.url"),
                ("url", json!("not a url"), "body.url"),
                ("url", json!("ftp://example.com/"), "body.url"),
                ("url", json!("http://10.1.2.3/"), "body.url"),
                ("url", json!(7), "body.url"),
                ("description", json!("\u{0}"), "body.description"),
                ("description", json!(long(4097)), "body.description"),
                ("description", json!(7), "body.description"),
                ("disabled", json!("no"), "body.disabled"),
                ("eventTypes", json!([]), "body.eventTypes"),
                ("eventTypes", json!("t"), "body.eventTypes"),
                ("eventTypes", json!(["a b"]), "body.eventTypes.0"),
                ("eventTypes", json!(["none"]), "body.eventTypes"),
                ("filterTypes", json!(["none"]), "body.filterTypes"),
                ("channels", json!([]), "body.channels"),
                ("channels", json!(["ok", "not ok"]), "body.channels.1"),
                (
                    "channels",
                    json!((0..11).map(|n| n.to_string()).collect::<Vec<_>>()),
                    "body.channels",
                ),
            ]);
        }
        for (field, value, place) in bad {
            let mut body = if url { json!({"url": URL}) } else { json!({"name": "n"}) };
            body[field] = value;
            all.push((method, path, body, place));
        }
    }
    for (method, path) in [
        ("POST", "/event-type"),
        ("PUT", "/event-type/t"),
        ("PATCH", "/event-type/t"),
    ] {
        for (field, value, place) in [
            ("archived", json!("yes"), "body.archived"),
            ("deprecated", json!(1), "body.deprecated"),
            ("schemas", json!([]), "body.schemas"),
            ("schemas", json!({"1": 7}), "body.schemas.1"),
            ("schemas", json!({"1": {"type": "strin"}}), "body.schemas.1"),
            ("schemas", json!({"1": {"default": nested(100)}}), "body.schemas.1"),
            ("schemas", json!({"1": {"title": long(256 << 10)}}), "body.schemas"),
            ("description", json!(long(4097)), "body.description"),
            ("featureFlag", json!("a b"), "body.featureFlag"),
        ] {
            let mut body = json!({"name": "x", "description": ""});
            body[field] = value;
            all.push((method, path, body, place));
        }
    }
    all
}

both!(every_broken_rule_of_a_body_is_named, async |db| {
    let api = Api::on(db).await;
    prepared(&api).await;
    for (method, path, body, place) in bodies() {
        let answer = api.call(&api.token, method, path, &[], &body.to_string()).await;
        println!("{method} {path} {body} -> {}", answer.text);
        answer.breaks_rule_at(place);
    }
    let counts = ["application", "endpoint", "event_type", "message"].map(|table| api.rig.count(table));
    assert_eq!(
        futures_util::future::join_all(counts).await,
        [1, 1, 1, 0],
        "nothing was written"
    );
});

/// A route that takes a body.
struct WithBody {
    method: String,
    /// The path with the names of its parameters, below `/api/v1`.
    template: String,
    /// Whether the route accepts a request without a body.
    is_optional: bool,
}

impl WithBody {
    /// Returns all routes of the API document that take a body.
    fn all() -> Vec<Self> {
        let document: Value = serde_json::from_str(&postrider::api::document()).expect("JSON");
        let paths = document["paths"].as_object().unwrap().iter();
        let each = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            let with_body = methods.filter(|(_, operation)| operation["requestBody"].is_object());
            with_body.map(|(method, operation)| Self {
                method: method.to_uppercase(),
                template: path.strip_prefix("/api/v1").unwrap().to_owned(),
                is_optional: !operation["requestBody"]["required"].as_bool().expect("a flag"),
            })
        });
        let all: Vec<_> = each.collect();
        assert!(all.len() >= 22, "{}", all.len());
        all
    }

    /// Returns the path with the ids that [`prepared`] has made. There is no operational endpoint and no such token.
    fn path(&self) -> String {
        self.filled(|name| match name {
            "{app_id}" => "a",
            "{endpoint_id}" if self.template.starts_with("/operational-webhook") => "o",
            "{endpoint_id}" => "e",
            "{event_type_name}" => "t",
            "{poller_id}" => "p",
            "{consumer_id}" => "c",
            "{token_id}" => "tok_none",
            other => panic!("prepare something for {other}"),
        })
    }

    fn filled(&self, fill: impl Fn(&str) -> &'static str) -> String {
        let steps = self.template.split('/');
        let filled = steps.map(|step| if step.starts_with('{') { fill(step) } else { step });
        filled.collect::<Vec<_>>().join("/")
    }
}

both!(a_body_that_is_no_json_object_is_refused_on_every_route, async |db| {
    let api = Api::on(db).await;
    prepared(&api).await;
    for route in WithBody::all() {
        let (method, path) = (&route.method, &route.path());
        for body in [
            "",
            " ",
            "{",
            "nonsense",
            "[]",
            "[{}]",
            "null",
            "7",
            "\"text\"",
            "{}x",
            "{\"a\":\"\u{1}\"}",
            "{'a':1}",
        ] {
            if route.is_optional && body.is_empty() {
                continue;
            }
            let answer = api.call(&api.token, method, path, &[], body).await;
            answer.breaks_rule_at("body");
            assert_eq!(
                answer.json["detail"][0]["type"], "value_error.jsondecode",
                "{method} {path} {body}"
            );
        }
    }
});

both!(a_query_parameter_of_the_wrong_type_is_named, async |db| {
    let api = Api::on(db).await;
    prepared(&api).await;
    for (path, name) in [
        ("/app?order=up", "order"),
        ("/app?limit=many", "limit"),
        ("/event-type?include_archived=maybe", "include_archived"),
        ("/event-type?with_content=2", "with_content"),
        ("/app/a/msg?before=yesterday", "before"),
        ("/app/a/msg?after=2026-01-01T00:00:00", "after"),
        ("/app/a/msg?after=1767225600", "after"),
        ("/app/a/msg?with_content=x", "with_content"),
        ("/app/a/attempt/msg/m?status=fail", "status"),
        ("/app/a/attempt/endpoint/e?status_code_class=2xx", "status_code_class"),
    ] {
        let answer = api.get(path).await;
        answer.refused(400, "generic_error");
        assert!(
            answer.json["detail"].as_str().unwrap().contains(&format!("`{name}`")),
            "{}",
            answer.text
        );
    }
    for (path, place) in [
        ("/app/a/msg?channel=a%20b", "query.channel"),
        ("/app/a/msg?event_types=ok,not%20ok", "query.event_types"),
        (
            &*format!("/app/a/msg?event_types={}", many_names(1001)),
            "query.event_types",
        ),
        ("/app/a/attempt/endpoint/e?status=9", "query.status"),
        (
            "/app/a/attempt/endpoint/e?status_code_class=250",
            "query.status_code_class",
        ),
    ] {
        api.get(path).await.breaks_rule_at(place);
    }
    api.call(&api.token, "POST", "/app?get_if_exists=perhaps", &[], "{}")
        .await
        .refused(400, "generic_error");
    api.call(&api.token, "DELETE", "/event-type/t?expunge=perhaps", &[], "")
        .await
        .refused(400, "generic_error");
});

both!(a_list_of_any_length_is_refused_without_delay, async |db| {
    let api = Api::on(db).await;
    prepared(&api).await;
    let names: Vec<String> = (0..150_000).map(|n| n.to_string()).collect();
    let mut repeated = names[..999].to_vec();
    repeated.resize(200_000, "t".to_owned());
    let headers = many_headers(100_000);
    let removed = json!({"deleteHeaders": names, "headers": {"x": "1"}});
    let started = std::time::Instant::now();
    for (method, path, body, place) in [
        (
            "POST",
            "/app/a/msg",
            json!({"eventType": "t", "payload": {}, "channels": names}),
            "body.channels",
        ),
        (
            "POST",
            "/app/a/endpoint",
            json!({"url": URL, "channels": names}),
            "body.channels",
        ),
        (
            "POST",
            "/app/a/endpoint",
            json!({"url": URL, "eventTypes": repeated}),
            "body.eventTypes",
        ),
        (
            "PATCH",
            "/app/a/endpoint/e/headers",
            json!({"headers": headers}),
            "body.headers",
        ),
    ] {
        let answer = api.call(&api.token, method, path, &[], &body.to_string()).await;
        answer.breaks_rule_at(place);
    }
    api.patch("/app/a/endpoint/e/headers", removed).await.expect(204);
    let same = vec!["t"; 30_000].join(",");
    api.get(&format!("/app/a/msg?event_types={same}")).await.expect(200);
    // Each took minutes in a build for tests when it compared every name with every other.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
});

both!(unknown_things_and_routes_are_404_in_json, async |db| {
    let api = Api::on(db).await;
    prepared(&api).await;
    for path in [
        "/app/none",
        "/event-type/none",
        "/app/a/endpoint/none",
        "/app/none/endpoint",
        "/app/a/msg/none",
        "/app/a/attempt/msg/none",
        "/app/a/attempt/endpoint/none",
        "/app/a/msg/none/attempt/none",
        "/app/%00",
        "/app/%ff",
        "/event-type/%ff",
        "/app/a/endpoint/%27",
        "/nothing",
        "/app/a/nothing",
        "/app/a/msg/m/nothing/at/all",
        "/ingest/api/v1/source",
    ] {
        api.get(path).await.refused(404, "not_found");
    }
    let body = json!({
        "name": "n", "description": "", "url": URL, "headers": {}, "eventType": "t", "payload": {}, "since": "2025-12-31T00:00:00Z",
        "after": "2025-12-31T00:00:00Z",
    });
    for route in WithBody::all() {
        let odd = route.filled(|_| "%00");
        // Such a PUT creates the thing if it does not exist, and a seek the consumer.
        let creates =
            route.method == "PUT" && !route.template.ends_with("/headers") || route.template.ends_with("/seek");
        if odd != route.template && !creates {
            println!("{} {odd}", route.method);
            api.call(&api.token, &route.method, &odd, &[], &body.to_string())
                .await
                .refused(404, "not_found");
        }
    }
    api.delete("/event-type/%00").await.refused(404, "not_found");
    api.delete("/event-type/%00?expunge=true")
        .await
        .refused(404, "not_found");
    let none = api.get("/app/a/attempt/msg/none?endpoint_id=%00").await;
    none.refused(404, "not_found");
    for path in ["/api", "/api/v2/app", "/api/v1", "/favicon.ico", "/api/v1/%2e%2e/app"] {
        api.send(Request::builder().uri_str(path).finish())
            .await
            .refused(404, "not_found");
    }
});

both!(a_wrong_method_is_405_with_the_right_ones, async |db| {
    let api = Api::on(db).await;
    for (method, path, allowed) in [
        ("DELETE", "/app", "GET, HEAD, POST"),
        ("POST", "/app/a", "DELETE, GET, HEAD, PATCH, PUT"),
        ("PUT", "/app/a/msg", "GET, HEAD, POST"),
        ("POST", "/app/a/attempt/msg/m", "GET, HEAD"),
        ("GET", "/app/a/endpoint/e/secret/rotate", "POST"),
        ("PROPFIND", "/app", "GET, HEAD, POST"),
    ] {
        let answer = api.call(&api.token, method, path, &[], "").await;
        answer.refused(405, "method_not_allowed");
        assert_eq!(answer.headers["allow"], allowed, "{method} {path}");
    }
    let docs = Request::builder().method(Method::POST).uri_str("/docs").finish();
    assert_eq!(api.send(docs).await.headers["allow"], "GET, HEAD");
});

both!(a_body_over_2_mb_is_413_with_and_without_a_length, async |db| {
    let api = Api::on(db).await;
    prepared(&api).await;
    let big = long(10 << 20);
    for route in WithBody::all() {
        api.call(&api.token, &route.method, &route.path(), &[], &big)
            .await
            .refused(413, "payload_too_large");
    }
    let chunks = futures_util::stream::iter((0..160).map(|_| Ok::<_, std::io::Error>(Bytes::from(long(64 << 10)))));
    api.send(api.request("POST", "/app").body(Body::from_bytes_stream(chunks)))
        .await
        .refused(413, "payload_too_large");
    let fits = json!({"eventType": "t", "payload": {"k": long((2 << 20) - 100)}});
    api.post("/app/a/msg", fits).await.expect(202);
});

both!(a_body_that_never_ends_is_answered_at_its_deadline, async |db| {
    let api = Api::with_body_deadline(db, Duration::from_millis(200)).await;
    let start = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{\"name\":"))]);
    let never = start.chain(futures_util::stream::pending());
    api.send(api.request("POST", "/app").body(Body::from_bytes_stream(never)))
        .await
        .refused(408, "request_timeout");
    let flood = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1 << 20])));
    let flood = api
        .send(api.request("POST", "/app").body(Body::from_bytes_stream(flood)))
        .await;
    assert!([408, 413].contains(&flood.status.as_u16()), "{}", flood.text);
});

both!(the_same_holds_on_a_real_connection, async |db| {
    let api = Api::with_body_deadline(db, Duration::from_millis(300)).await;
    let address = api.listen().await;
    let head = |rest: &str| {
        format!(
            "POST /api/v1/app HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{rest}\r\n\r\n",
            api.token
        )
    };
    for (request, fill, status) in [
        (head("content-length: 10485760"), 10 << 20, "413"),
        (head("transfer-encoding: chunked") + "10000000\r\n", 10 << 20, "408"),
        (head("content-length: 20") + "{\"name\":", 0, "408"),
        (head("transfer-encoding: chunked") + "zz\r\n", 0, "4"),
        (head("content-length: 2") + "{}", 0, "422"),
    ] {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let sending = async move {
            let _ = write.write_all(request.as_bytes()).await;
            let _ = write.write_all(&vec![b'x'; fill]).await;
            write
        };
        let reading = async move {
            let mut text = Vec::new();
            let mut piece = [0; 4096];
            while !String::from_utf8_lossy(&text).contains("\"detail\"") {
                match read.read(&mut piece).await {
                    Ok(0) | Err(_) => break,
                    Ok(length) => text.extend_from_slice(&piece[..length]),
                }
            }
            String::from_utf8_lossy(&text).into_owned()
        };
        let (_open, text) = tokio::time::timeout(crate::harness::DEADLINE, async { tokio::join!(sending, reading) })
            .await
            .expect("a response in time");
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
        if status != "4" {
            assert!(text.contains("application/json") && text.contains("\"code\""), "{text}");
        }
    }
});

both!(
    a_head_that_trickles_in_is_cut_off_and_a_client_that_comes_back_is_not,
    async |db| {
        let api = Api::on(db).await;
        let address = api.listen_with(Duration::from_millis(200)).await;
        let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut busy = tokio::net::TcpStream::connect(address).await.unwrap();
        let ping = async |busy: &mut tokio::net::TcpStream| {
            let ping = b"GET /api/v1/health/ping HTTP/1.1\r\nhost: x\r\n\r\n";
            busy.write_all(ping).await.unwrap();
            let mut answer = [0; 256];
            assert!(busy.read(&mut answer).await.unwrap() > 0, "still open");
        };
        let started = std::time::Instant::now();
        slow.write_all(b"GET /api/v1/health/ping HTTP/1.1\r\nx: ")
            .await
            .unwrap();
        let cut = tokio::time::timeout(crate::harness::DEADLINE, async {
            while slow.write_all(b"y").await.is_ok() {
                ping(&mut busy).await;
            }
        });
        cut.await.expect("the slow connection is cut off in time");
        assert!(started.elapsed() > Duration::from_millis(200));
        ping(&mut busy).await;
    }
);

both!(a_secret_is_never_repeated_in_an_error, async |db| {
    let api = Api::on(db).await;
    prepared(&api).await;
    let secret = "whsec_not-base64-but-secret!";
    for (path, body) in [
        ("/app/a/endpoint", json!({"url": URL, "secret": secret})),
        ("/app/a/endpoint", json!({"url": URL, "secret": [secret]})),
        ("/app/a/endpoint", json!({"url": URL, "secret": {"key": secret}})),
        ("/app/a/endpoint", json!({"url": URL, "headers": secret})),
        (
            "/app/a/endpoint",
            json!({"url": URL, "headers": {"authorization": [secret]}}),
        ),
        (
            "/app/a/endpoint",
            json!({"url": URL, "headers": {"authorization": format!("{secret}\n")}}),
        ),
        ("/app/a/endpoint", json!({"url": format!("ftp://user:{secret}@x/")})),
        ("/app/a/endpoint/e/secret/rotate", json!({"key": secret})),
        ("/app/a/endpoint/e/secret/rotate", json!({"gracePeriodSeconds": secret})),
    ] {
        let answer = api.post(path, body).await;
        answer.expect(422);
        assert!(!answer.text.contains("not-base64-but-secret"), "{}", answer.text);
    }
});
