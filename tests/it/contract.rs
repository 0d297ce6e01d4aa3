//! The rules that hold for every route, by section 2 of the wire contract, checked for each operation of the API
//! document. A new route is tested here as soon as it is in the document.

use poem::Request;
use poem::http::Method;
use serde_json::{Value, json};

use crate::api::{Answer, Api};
use crate::harness::{self, Receiver, TestDatabase};

/// The operations that need an organization's token, by the contract.
const ORGANIZATION_ONLY: [&str; 13] = [
    "GET /app",
    "POST /app",
    "PUT /app/{app_id}",
    "PATCH /app/{app_id}",
    "DELETE /app/{app_id}",
    "POST /event-type",
    "PUT /event-type/{event_type_name}",
    "PATCH /event-type/{event_type_name}",
    "DELETE /event-type/{event_type_name}",
    "GET /find",
    "POST /app/{app_id}/msg",
    "DELETE /app/{app_id}/msg/{msg_id}/content",
    "DELETE /app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content",
];

struct Operation {
    method: String,
    /// The path below `/api/v1`, with the names of its parameters.
    path: String,
    takes_body: bool,
    needs_token: bool,
    /// Whether the document says at the status 403 that applications have no access.
    is_for_organizations: bool,
}

impl Operation {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(&postrider::api::document()).unwrap();
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            all.push(Operation {
                method: method.to_uppercase(),
                path: path.strip_prefix("/api/v1").unwrap().to_owned(),
                takes_body: operation.get("requestBody").is_some(),
                needs_token: operation["security"].is_array(),
                is_for_organizations: operation["responses"]["403"]["description"]
                    .as_str()
                    .is_some_and(|text| text.contains("not for applications")),
            });
        }
    }
    assert!(all.len() >= 32);
    all
}

/// An API with one of everything. The uids are `a`, `e` and `m`; the event type is `t`.
struct World {
    api: Api,
    receiver: Receiver,
    app: String,
    endpoint: String,
    message: String,
    attempt: String,
    /// The id of a token of the organization, besides the one that makes the requests.
    token: String,
    poller: String,
    /// The id of a token of the poller.
    reader: String,
}

impl World {
    async fn on(db: &TestDatabase) -> Self {
        let (mut api, receiver) = (Api::on(db).await, Receiver::start().await);
        receiver.answer_next([harness::Answer::status(500)]);
        let app = api.post("/app", json!({"name": "a", "uid": "a"})).await.field("id");
        api.post("/event-type", json!({"name": "t", "description": ""}))
            .await
            .expect(201);
        let endpoint = json!({"url": receiver.url(), "uid": "e", "headers": {"X-Own": "1"}});
        let endpoint = api.post("/app/a/endpoint", endpoint).await.field("id");
        let message = json!({"eventType": "t", "payload": {"k": 1}, "eventId": "m"});
        let message = api.post("/app/a/msg", message).await.field("id");
        api.rig.drain().await;
        api.rig.advance(7);
        api.rig.drain().await;
        let token = api.post("/token", json!({"name": "other", "role": "sender"})).await;
        let token = token.field("id");
        let poller = api.post("/app/a/poller", json!({"uid": "p"})).await.field("id");
        let reader = api.post("/app/a/poller/p/token", json!({"name": "reader"})).await;
        let reader = reader.field("id");
        let attempts = api.get("/app/a/attempt/msg/m").await;
        let attempt = attempts.expect(200)["data"][1]["id"].as_str().unwrap().to_owned();
        Self {
            api,
            receiver,
            app,
            endpoint,
            message,
            attempt,
            token,
            poller,
            reader,
        }
    }

    /// Returns the path with ids in place of its parameters.
    fn by_id(&self, operation: &Operation) -> String {
        self.filled(operation, [&self.app, &self.endpoint, &self.message])
    }

    /// Returns the path with uids in place of its parameters; attempts and tasks have only ids.
    fn by_uid(&self, operation: &Operation) -> String {
        self.filled(operation, ["a", "e", "m"])
    }

    fn filled(&self, operation: &Operation, [app, endpoint, message]: [&str; 3]) -> String {
        let steps = operation.path.split('/').map(|step| match step {
            "{app_id}" => app,
            "{endpoint_id}" => endpoint,
            "{msg_id}" => message,
            "{attempt_id}" => &self.attempt,
            "{event_type_name}" => "t",
            "{task_id}" => "qtask_none",
            "{token_id}" if operation.path.contains("/poller/") => &self.reader,
            "{token_id}" => &self.token,
            "{poller_id}" => &self.poller,
            "{consumer_id}" => "c",
            "{random}" => "trial-of-the-contract",
            fixed => fixed,
        });
        steps.collect::<Vec<_>>().join("/")
    }

    /// Returns a body that every route accepts, because all routes ignore unknown fields.
    fn body(&self) -> String {
        json!({
            "name": "n", "description": "", "url": self.receiver.url(), "headers": {}, "eventType": "svix.ping",
            "payload": {}, "since": "2026-01-01T00:00:00Z", "after": "2026-01-01T00:00:00Z", "version": 9, "tags": ["x"], "role": "viewer", "code": "none",
            "unknown": {"deep": [1, null]},
        })
        .to_string()
    }

    async fn call(&self, token: &str, operation: &Operation, path: &str, body: &str) -> Answer {
        self.api.call(token, &operation.method, path, &[], body).await
    }

    /// Returns the operation's name and the response's body for every GET that finds something.
    async fn reads(&self) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        for operation in operations().iter().filter(|operation| operation.method == "GET") {
            let answer = self.api.get(&self.by_id(operation)).await;
            if answer.status == 200 {
                all.push((operation.name(), answer.json));
            }
        }
        assert!(all.len() >= 13);
        all
    }
}

#[test]
fn the_document_knows_which_routes_are_for_organizations() {
    let all = operations();
    for name in ORGANIZATION_ONLY {
        let operation = all.iter().find(|operation| operation.name() == name).expect(name);
        assert!(operation.is_for_organizations, "{name}");
    }
    for operation in all
        .iter()
        .filter(|operation| operation.is_for_organizations && operation.path.starts_with("/app/"))
    {
        assert!(
            ORGANIZATION_ONLY.contains(&operation.name().as_str()),
            "{}",
            operation.name()
        );
    }
}

both!(every_route_asks_for_a_good_token_before_it_reads_the_body, async |db| {
    let world = World::on(db).await;
    for operation in operations().iter().filter(|operation| operation.needs_token) {
        println!("{}", operation.name());
        for path in [
            world.by_id(operation),
            format!("{}?limit=x&with_content=x", world.by_id(operation)),
        ] {
            let answer = world.call("pr_wrong", operation, &path, "no json").await;
            answer.refused(401, "authentication_failed");
        }
    }
});

both!(
    an_application_token_is_403_on_organization_routes_and_works_on_all_others,
    async |db| {
        let world = World::on(db).await;
        let token = world.api.token_of("a").await;
        let mut all = operations();
        // Deletions come last, deeper ones first, and the end of the token itself at the very end.
        all.sort_by_key(|operation| {
            (
                operation.path == "/auth/logout",
                operation.method == "DELETE",
                std::cmp::Reverse(operation.path.len()),
            )
        });
        for operation in all.iter().filter(|operation| operation.needs_token) {
            let path = world.by_id(operation);
            let answer = world.call(&token, operation, &path, "no json").await;
            println!("{}: {}", operation.name(), answer.text);
            match (operation.is_for_organizations, operation.takes_body) {
                (true, _) => answer.refused(403, "insufficient access"),
                (false, true) => answer.breaks_rule_at("body"),
                (false, false) => assert!(answer.status.is_success() || path.contains("none")),
            }
        }
    }
);

both!(another_applications_token_is_404_never_403, async |db| {
    let world = World::on(db).await;
    let other = world.api.application("other").await;
    let token = world.api.token_of(&other).await;
    let of_applications =
        |operation: &&Operation| operation.path.contains("{app_id}") && !operation.is_for_organizations;
    for operation in operations().iter().filter(of_applications) {
        println!("{}", operation.name());
        for path in [world.by_id(operation), world.by_uid(operation)] {
            let answer = world.call(&token, operation, &path, &world.body()).await;
            answer.refused(404, "not_found");
        }
    }
});

both!(another_organizations_token_is_404_on_what_is_not_its_own, async |db| {
    let world = World::on(db).await;
    let stranger = world.api.stranger().await;
    let of_applications =
        |operation: &&Operation| operation.path.contains("{app_id}") && operation.name() != "PUT /app/{app_id}";
    for operation in operations().iter().filter(of_applications) {
        println!("{}", operation.name());
        for path in [world.by_id(operation), world.by_uid(operation)] {
            let answer = world.call(&stranger, operation, &path, &world.body()).await;
            answer.refused(404, "not_found");
        }
    }
    let mine = json!({"name": "mine"}).to_string();
    let put = world
        .api
        .call(&stranger, "PUT", &format!("/app/{}", world.app), &[], &mine)
        .await;
    assert_ne!(
        put.expect(201)["id"],
        json!(world.app),
        "the stranger has created an application of its own"
    );
    assert_eq!(world.api.get("/app/a").await.expect(200)["name"], "a");
});

both!(the_token_of_a_deleted_application_is_404_everywhere, async |db| {
    let world = World::on(db).await;
    let token = world.api.token_of("a").await;
    world.api.delete("/app/a").await.expect(204);
    for operation in operations().iter().filter(|operation| operation.needs_token) {
        println!("{}", operation.name());
        let answer = world
            .call(&token, operation, &world.by_id(operation), &world.body())
            .await;
        answer.refused(404, "not_found");
    }
});

both!(a_method_that_a_path_does_not_know_is_405_with_allow, async |db| {
    let world = World::on(db).await;
    let all = operations();
    for operation in &all {
        let of_path = all.iter().filter(|other| other.path == operation.path);
        let mut known: Vec<_> = of_path.map(|other| other.method.as_str()).collect();
        if known.contains(&"GET") {
            known.push("HEAD");
        }
        known.sort_unstable();
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            if known.contains(&method) {
                continue;
            }
            let path = world.by_id(operation);
            for token in [world.api.token.as_str(), "pr_wrong"] {
                let answer = world.api.call(token, method, &path, &[], "").await;
                answer.refused(405, "method_not_allowed");
                assert_eq!(answer.headers["allow"], known.join(", "), "{method} {path}");
            }
        }
    }
});

both!(every_route_may_end_in_a_slash, async |db| {
    let world = World::on(db).await;
    for operation in &operations() {
        println!("{}", operation.name());
        let path = world.by_id(operation);
        let slash = format!("{path}/");
        if operation.method == "GET" {
            let (plain, with_slash) = (world.api.get(&path).await, world.api.get(&slash).await);
            assert_eq!((plain.status, plain.text), (with_slash.status, with_slash.text));
        } else {
            let answer = world.call("pr_wrong", operation, &slash, "").await;
            match operation.needs_token {
                true => answer.refused(401, "authentication_failed"),
                false => answer.breaks_rule_at("body"),
            }
        }
    }
});

both!(
    slashes_before_a_path_lead_to_its_route_and_doubled_ones_inside_to_none,
    async |db| {
        let world = World::on(db).await;
        let get = async |uri: &str| {
            let request = Request::builder().uri_str(uri);
            let token = format!("Bearer {}", world.api.token);
            world.api.send(request.header("authorization", token).finish()).await
        };
        for operation in operations().iter().filter(|operation| operation.method == "GET") {
            let path = format!("/api/v1{}", world.by_id(operation));
            println!("{path}");
            let plain = get(&path).await;
            for before in ["/", "//"] {
                let led = get(&format!("{before}{path}")).await;
                assert_eq!((plain.status, &plain.text), (led.status, &led.text));
            }
            for (inside, _) in path.match_indices('/').skip(1) {
                let (head, tail) = path.split_at(inside);
                get(&format!("{head}/{tail}")).await.refused(404, "not_found");
            }
        }
        let made = Request::builder()
            .method(Method::POST)
            .uri_str("//api/v1/app/a/msg")
            .header("authorization", format!("Bearer {}", world.api.token))
            .body(world.body());
        world.api.send(made).await.expect(202);
    }
);

both!(no_response_is_kept_by_a_cache_or_taken_for_another_type, async |db| {
    let world = World::on(db).await;
    let check = |answer: &Answer| {
        assert_eq!(answer.headers["cache-control"], "no-store", "{answer:?}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{answer:?}");
    };
    let mut all = operations();
    all.sort_by_key(|operation| (operation.path == "/auth/logout", operation.method == "DELETE"));
    let mut statuses = std::collections::BTreeSet::new();
    for operation in &all {
        let (token, path, body) = (world.api.token.as_str(), world.by_id(operation), world.body());
        for (token, path, body) in [
            ("pr_wrong", path.clone(), ""),
            (token, path.clone(), "no json"),
            (token, format!("{path}?limit=x"), ""),
            (token, format!("{path}/none"), ""),
            (token, path, body.as_str()),
        ] {
            let answer = world.call(token, operation, &path, body).await;
            statuses.insert(answer.status.as_u16());
            check(&answer);
        }
    }
    for status in [200, 201, 202, 204, 400, 401, 404, 422] {
        assert!(statuses.contains(&status), "{statuses:?}");
    }
    check(&world.api.call(&world.api.token, "PATCH", "/app", &[], "").await);
    check(&world.api.post("/stream", json!({})).await);
    for path in [
        "/api/",
        "/api/v2/app",
        "/ingest/api/v1/source",
        "/none",
        "/livez",
        "/readyz",
    ] {
        let page = world.api.fetch(path, &[]).await;
        let headers = ["cache-control", "x-content-type-options"].map(|name| page.header(name));
        assert_eq!(headers, ["no-store", "nosniff"], "{path}");
    }
});

both!(equal_puts_at_once_all_succeed_and_make_one, async |db| {
    let shape = harness::Shape {
        most_endpoints: 1,
        ..Default::default()
    };
    let api = Api::shaped(db, shape, postrider::api::ApiState::BODY_DEADLINE).await;
    let endpoint = json!({"url": "http://127.0.0.1:1/", "uid": "e"});
    for round in 0..5 {
        let app = api.application("app").await;
        let uid = format!("u{round}");
        for (path, body) in [
            (format!("/app/{uid}"), json!({"name": "n", "uid": uid})),
            (format!("/event-type/{uid}"), json!({"description": "d"})),
            (format!("/app/{app}/endpoint/e"), endpoint.clone()),
            ("/operational-webhook/endpoint/e".to_owned(), endpoint.clone()),
        ] {
            let puts = (0..16).map(|_| api.put(&path, body.clone()));
            let mut statuses = Vec::new();
            for answer in futures_util::future::join_all(puts).await {
                assert!(answer.status.is_success(), "{path}: {}", answer.text);
                statuses.push(answer.status.as_u16());
            }
            statuses.sort_unstable();
            assert_eq!((statuses[14], statuses[15]), (200, 201), "{path}: {statuses:?}");
        }
        api.delete("/operational-webhook/endpoint/e").await.expect(204);
    }
});

both!(an_instant_may_have_its_zone_in_every_form_of_iso_8601, async |db| {
    let world = World::on(db).await;
    // A plus sign that is not percent-encoded is a space in a query.
    for zone in ["Z", "+00:00", "%2B00:00", "+0000", "%2B0000", "-0000", "%2B00", "+00"] {
        for (query, found) in [
            (format!("before=2026-01-01T00:00:01{zone}"), 1),
            (format!("before=2026-01-01+00:00:01{zone}"), 1),
            (format!("after=2026-01-01T00:00:01{zone}"), 0),
        ] {
            let page = world.api.get(&format!("/app/a/msg?{query}")).await;
            assert_eq!(page.expect(200)["data"].as_array().unwrap().len(), found, "{query}");
        }
        let query = format!("since=2025-12-25T00:00:00{zone}&until=2026-01-01T00:00:01{zone}");
        let counted = world.api.get(&format!("/app/a/endpoint/e/stats?{query}")).await;
        assert_eq!(counted.expect(200)["fail"], 1, "{query}");
    }
    for instant in [
        "2026-01-01T00:00:00+0000",
        "2026-01-01T05:30:00+0530",
        "2026-01-01 00:00:00+00",
    ] {
        let window = json!({ "since": instant });
        world.api.post("/app/a/endpoint/e/recover", window).await.expect(202);
    }
    for name in ["before", "after"] {
        let refused = world.api.get(&format!("/app/a/msg?{name}=yesterday")).await;
        refused.refused(400, "generic_error");
        let detail = refused.field("detail");
        let form = "must be an RFC 3339 date and time with a zone, such as 2026-";
        assert!(detail.contains(&format!("`{name}` {form}")), "{detail}");
    }
});

both!(head_answers_as_get_without_a_body, async |db| {
    let world = World::on(db).await;
    for operation in operations().iter().filter(|operation| operation.method == "GET") {
        println!("{}", operation.name());
        let path = world.by_id(operation);
        let get = world.api.get(&path).await;
        let head = world.api.send(world.api.request("HEAD", &path).finish()).await;
        assert_eq!(get.status, head.status);
        assert_eq!(get.headers.get("content-type"), head.headers.get("content-type"));
        assert!(head.text.is_empty() || !head.status.is_success(), "{}", head.text);
    }
    let open = Request::builder()
        .method(Method::HEAD)
        .uri_str("/api/v1/health")
        .finish();
    world.api.send(open).await.expect(200);
});

both!(unknown_query_parameters_are_ignored, async |db| {
    let world = World::on(db).await;
    let unknown = "tags=a&with_msg=true&expanded_statuses=true&exclude_apps_with_no_endpoints=true&unknown[]=%00";
    for operation in operations().iter().filter(|operation| operation.method == "GET") {
        println!("{}", operation.name());
        let path = world.by_id(operation);
        let (plain, odd) = (
            world.api.get(&path).await,
            world.api.get(&format!("{path}?{unknown}")).await,
        );
        assert_eq!((plain.status, plain.text), (odd.status, odd.text));
    }
});

both!(unknown_fields_of_a_body_are_ignored, async |db| {
    let world = World::on(db).await;
    let mut done = 0;
    for operation in operations().iter().filter(|operation| operation.takes_body) {
        let answer = world
            .call(&world.api.token, operation, &world.by_id(operation), &world.body())
            .await;
        if operation
            .path
            .starts_with("/operational-webhook/endpoint/{endpoint_id}")
        {
            continue;
        }
        // The one that takes no token has read the code, which is none.
        let read = answer.status.is_success() || !operation.needs_token && answer.status == 401;
        assert!(read, "{}: {}", operation.name(), answer.text);
        done += 1;
    }
    assert!(done >= 14);
});

both!(an_id_and_a_uid_name_the_same_thing_on_every_route, async |db| {
    let world = World::on(db).await;
    for operation in operations().iter().filter(|operation| operation.method == "GET") {
        println!("{}", operation.name());
        let (by_id, by_uid) = (world.by_id(operation), world.by_uid(operation));
        let (found, same) = (world.api.get(&by_id).await, world.api.get(&by_uid).await);
        let is_operational = operation.path.starts_with("/operational-webhook");
        let needs_a_query = operation.path == "/find";
        assert!(
            is_operational || needs_a_query || found.status.is_success() || by_id.contains("none"),
            "{}",
            found.text
        );
        assert_eq!((found.status, found.text), (same.status, same.text));
    }
    for (method, path, body) in [
        ("PATCH", "/app/a/endpoint/e", json!({"description": "d"})),
        ("PATCH", "/app/a/endpoint/e/headers", json!({"headers": {}})),
        ("PUT", "/app/a/endpoint/e/headers", json!({"headers": {}})),
        ("POST", "/app/a/endpoint/e/secret/rotate", json!({})),
        ("POST", "/app/a/msg", json!({"eventType": "t", "payload": {}})),
        (
            "PUT",
            "/app/a/endpoint/e",
            json!({"url": world.receiver.url(), "uid": "e"}),
        ),
        ("DELETE", "/app/a/endpoint/e", json!({})),
        ("PATCH", "/app/a", json!({"name": "b"})),
        ("DELETE", "/app/a", json!({})),
    ] {
        let answer = world
            .api
            .call(&world.api.token, method, path, &[], &body.to_string())
            .await;
        assert!(answer.status.is_success(), "{method} {path}: {}", answer.text);
    }
    for gone in [world.app.as_str(), "a"] {
        world.api.get(&format!("/app/{gone}")).await.refused(404, "not_found");
    }
});

both!(every_answer_has_the_fields_that_the_sdks_require, async |db| {
    let world = World::on(db).await;
    let application = "id name createdAt updatedAt metadata uid throttleRate rateLimit";
    let event_type = "name description deprecated createdAt updatedAt archived schemas featureFlag";
    let endpoint = "id url description metadata createdAt updatedAt version uid throttleRate rateLimit disabled eventTypes \
                    filterTypes channels";
    let message = "id eventType payload timestamp eventId channels";
    let attempt = "id url response responseStatusCode responseDurationMs status statusText triggerType msgId endpointId timestamp";
    for (name, fields) in [
        ("GET /app", application),
        ("GET /app/{app_id}", application),
        ("GET /event-type", event_type),
        ("GET /event-type/{event_type_name}", event_type),
        ("GET /app/{app_id}/endpoint", endpoint),
        ("GET /app/{app_id}/endpoint/{endpoint_id}", endpoint),
        ("GET /app/{app_id}/endpoint/{endpoint_id}/secret", "key"),
        ("GET /app/{app_id}/endpoint/{endpoint_id}/headers", "headers sensitive"),
        ("GET /app/{app_id}/msg", message),
        ("GET /app/{app_id}/msg/{msg_id}", message),
        ("GET /app/{app_id}/attempt/msg/{msg_id}", attempt),
        ("GET /app/{app_id}/attempt/endpoint/{endpoint_id}", attempt),
        ("GET /app/{app_id}/msg/{msg_id}/attempt/{attempt_id}", attempt),
    ] {
        let reads = world.reads().await;
        let (_, body) = reads.iter().find(|(read, _)| read == name).expect(name);
        let body = body.get("data").map_or(body, |rows| &rows[0]);
        for field in fields.split_whitespace() {
            assert!(body.get(field).is_some(), "{name} lacks {field}: {body}");
        }
        if name.contains("/endpoint") && body.get("version").is_some() {
            assert_eq!(body["version"], 1);
        }
    }
});

both!(
    no_answer_has_a_status_or_a_list_frame_that_the_sdks_do_not_know,
    async |db| {
        let world = World::on(db).await;
        let mut seen = 0;
        for (name, body) in world.reads().await {
            let is_poll = ["{poller_id}", "{consumer_id}"].iter().any(|end| name.ends_with(end));
            if is_poll {
                // The SDKs demand a text here, on an empty page too.
                assert!(
                    body["iterator"].as_str().is_some_and(|text| !text.is_empty()),
                    "{name}: {body}"
                );
                assert!(body["data"].is_array() && body["done"].is_boolean(), "{name}: {body}");
                continue;
            }
            // What the trial receiver keeps is one page.
            if let Some(rows) = body["data"].as_array().filter(|_| name != "GET /trial/{random}") {
                let frame = ["iterator", "prevIterator", "done"].map(|field| body.get(field));
                let is_framed = frame[0].is_some() && frame[1].is_some() && frame[2].is_some_and(Value::is_boolean);
                assert!(is_framed, "{name}: {body}");
                let last = rows.last().map(key).unwrap_or_default();
                assert_eq!(body["iterator"], last, "{name}");
            }
            seen += check_enumerations(&name, &body);
        }
        assert!(seen >= 10, "{seen}");
    }
);

/// Returns the key of a row in the iterators of its list.
fn key(row: &Value) -> Value {
    match (&row["msgId"], &row["endpointId"]) {
        (Value::String(message), Value::String(endpoint)) if row.get("id").is_none() => {
            format!("{message}.{endpoint}").into()
        }
        _ => {
            let keys = ["id", "name", "endpointId", "appId"];
            let found = keys.iter().find_map(|key| row.get(key));
            found.cloned().unwrap_or_default()
        }
    }
}

/// Asserts that every enumeration in `value` is one that the SDKs know, and returns how many there are.
fn check_enumerations(name: &str, value: &Value) -> usize {
    let fields = match value {
        Value::Array(items) => return items.iter().map(|item| check_enumerations(name, item)).sum(),
        Value::Object(fields) => fields,
        _ => return 0,
    };
    let mut seen = 0;
    for (field, value) in fields {
        let known = match (field.as_str(), value) {
            ("status", Value::Number(number)) => number.as_u64().is_some_and(|code| code <= 3),
            ("statusText", value) => ["success", "pending", "fail", "sending"].contains(&value.as_str().unwrap()),
            ("triggerType", value) => value.as_u64().is_some_and(|code| code <= 1),
            _ => {
                seen += check_enumerations(name, value);
                continue;
            }
        };
        assert!(known, "{name}: {field} is {value}");
        seen += 1;
    }
    seen
}

both!(each_list_has_its_order_by_default_and_on_demand, async |db| {
    let api = Api::on(db).await;
    let app = api.application("first").await;
    api.application("second").await;
    for name in ["b", "a", "C"] {
        api.post("/event-type", json!({"name": name, "description": ""}))
            .await
            .expect(201);
        let endpoint = json!({"url": "http://127.0.0.1:1/", "uid": name});
        api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
    }
    for (list, field, default, ascending, descending) in [
        (
            "/app".to_owned(),
            "name",
            "first second",
            "first second",
            "second first",
        ),
        ("/event-type".to_owned(), "name", "C a b", "C a b", "C a b"),
        (format!("/app/{app}/endpoint"), "uid", "C a b", "b a C", "C a b"),
    ] {
        for (query, expected) in [
            ("", default),
            ("?order=ascending", ascending),
            ("?order=descending", descending),
        ] {
            for limit in [1, 2, 250] {
                let rows = api.walk(&format!("{list}{query}"), limit).await;
                let names: Vec<_> = rows.iter().map(|row| row[field].as_str().unwrap()).collect();
                assert_eq!(names.join(" "), expected, "{list}{query}, {limit} a page");
            }
        }
    }
});

both!(instants_come_with_any_zone_and_go_out_in_utc, async |db| {
    let world = World::on(db).await;
    for (name, body) in world.reads().await {
        let body = body.get("data").map_or(body.clone(), |rows| rows[0].clone());
        // A list may be empty.
        for (field, value) in body.as_object().into_iter().flatten() {
            if field.ends_with("At") || field == "timestamp" {
                let Some(text) = value.as_str() else {
                    let may_be_null = [
                        "expiresAt",
                        "disabledAt",
                        "lastAttemptAt",
                        "nextAttemptAt",
                        "lastUsedAt",
                    ];
                    assert!(
                        may_be_null.contains(&field.as_str()) && value.is_null(),
                        "{name}: {field}"
                    );
                    continue;
                };
                assert!(
                    text.len() == 27 && text.ends_with('Z') && &text[10..11] == "T",
                    "{name}: {text}"
                );
            }
        }
    }
    for (query, found) in [
        ("before=2026-01-01T00:00:01Z", 1),
        ("before=2026-01-01T00:00:01.000001%2B00:00", 1),
        ("before=2026-01-01T00:00:01+00:00", 1),
        ("before=2026-01-01T02:00:01%2B02:00", 1),
        ("before=2025-12-31T19:00:00-05:00", 0),
        ("after=2026-01-01T00:00:00.000000Z", 0),
        ("after=2025-12-31T23:59:59.999999Z", 1),
        ("after=2025-12-31T23:59:59Z&before=2026-01-01T00:00:01Z", 1),
    ] {
        let list = world.api.get(&format!("/app/a/msg?{query}")).await;
        assert_eq!(list.expect(200)["data"].as_array().unwrap().len(), found, "{query}");
    }
});

both!(both_names_of_a_field_are_taken_and_answered_by_every_verb, async |db| {
    let world = World::on(db).await;
    let url = world.receiver.url();
    for (method, path, answered) in [
        ("POST", "/app/a/endpoint", 201),
        ("PUT", "/app/a/endpoint/e", 200),
        ("PATCH", "/app/a/endpoint/e", 200),
        ("POST", "/app", 201),
        ("PUT", "/app/a", 200),
        ("PATCH", "/app/a", 200),
    ] {
        let is_endpoint = path.contains("endpoint");
        for (rate, types) in [("throttleRate", "eventTypes"), ("rateLimit", "filterTypes")] {
            for value in [1, 65_535] {
                let mut body = json!({rate: value, types: ["t"], "version": 4});
                match is_endpoint {
                    true => body["url"] = json!(url),
                    false => body["name"] = json!("n"),
                }
                if method == "PUT" {
                    body["uid"] = json!(if is_endpoint { "e" } else { "a" });
                }
                let answer = world
                    .api
                    .call(&world.api.token, method, path, &[], &body.to_string())
                    .await;
                let out = answer.expect(answered);
                assert_eq!(
                    (&out["throttleRate"], &out["rateLimit"]),
                    (&json!(value), &json!(value))
                );
                if is_endpoint {
                    assert_eq!(
                        (&out["eventTypes"], &out["filterTypes"]),
                        (&json!(["t"]), &json!(["t"]))
                    );
                    assert_eq!(out["version"], 1);
                }
            }
        }
    }
    for (rate, types) in [("throttleRate", "eventTypes"), ("rateLimit", "filterTypes")] {
        world
            .api
            .patch("/app/a/endpoint/e", json!({rate: 5, types: ["t"]}))
            .await
            .expect(200);
        let out = world
            .api
            .patch("/app/a/endpoint/e", json!({rate: null, types: null}))
            .await;
        for field in ["throttleRate", "rateLimit", "eventTypes", "filterTypes"] {
            assert_eq!(
                out.expect(200)[field],
                Value::Null,
                "{field} cleared by {rate} and {types}"
            );
        }
    }
});

both!(put_returns_what_is_left_out_to_its_default, async |db| {
    let world = World::on(db).await;
    let url = world.receiver.url();
    let full = json!({
        "url": url, "uid": "e", "description": "d", "disabled": true, "throttleRate": 3, "eventTypes": ["t"], "channels": ["c"],
        "metadata": {"k": "v"},
    });
    world.api.put("/app/a/endpoint/e", full).await.expect(200);
    let bare = world.api.put("/app/a/endpoint/e", json!({"url": url})).await;
    let bare = bare.expect(200);
    assert_eq!(
        (&bare["id"], &bare["description"]),
        (&json!(world.endpoint), &json!(""))
    );
    assert_eq!((&bare["disabled"], &bare["metadata"]), (&json!(false), &json!({})));
    for field in ["uid", "throttleRate", "eventTypes", "channels"] {
        assert_eq!(bare[field], Value::Null, "{field}");
    }
    let full = json!({"name": "n", "uid": "a", "throttleRate": 3, "metadata": {"k": "v"}});
    world.api.put("/app/a", full).await.expect(200);
    let bare = world.api.put("/app/a", json!({"name": "m"})).await;
    let bare = bare.expect(200);
    assert_eq!((&bare["id"], &bare["metadata"]), (&json!(world.app), &json!({})));
    assert_eq!((&bare["uid"], &bare["throttleRate"]), (&Value::Null, &Value::Null));
    let full =
        json!({"description": "d", "archived": true, "deprecated": true, "schemas": {"1": {}}, "featureFlag": "f"});
    world.api.put("/event-type/t", full).await.expect(200);
    let bare = world.api.put("/event-type/t", json!({"description": ""})).await;
    let bare = bare.expect(200);
    assert_eq!((&bare["archived"], &bare["deprecated"]), (&json!(false), &json!(false)));
    assert_eq!((&bare["schemas"], &bare["featureFlag"]), (&Value::Null, &Value::Null));
});

both!(
    patch_keeps_what_is_absent_clears_null_and_replaces_metadata,
    async |db| {
        let world = World::on(db).await;
        let nullable = json!({"uid": "e2", "throttleRate": 3, "eventTypes": ["t"], "channels": ["c"]});
        let others = json!({"description": "d", "disabled": true, "metadata": {"a": "1", "b": "2"}});
        let path = format!("/app/a/endpoint/{}", world.endpoint);
        world.api.patch(&path, nullable.clone()).await.expect(200);
        let changed = world.api.patch(&path, others.clone()).await;
        for (field, value) in nullable.as_object().unwrap().iter().chain(others.as_object().unwrap()) {
            assert_eq!(&changed.expect(200)[field], value, "{field}");
        }
        for field in nullable.as_object().unwrap().keys() {
            let cleared = world.api.patch(&path, json!({ field: null })).await;
            assert_eq!(cleared.expect(200)[field], Value::Null, "{field}");
        }
        let replaced = world.api.patch(&path, json!({"metadata": {"c": "3"}})).await;
        assert_eq!(replaced.expect(200)["metadata"], json!({"c": "3"}));
        let emptied = world.api.patch(&path, json!({"metadata": null})).await;
        assert_eq!(emptied.expect(200)["metadata"], json!({}), "null empties the metadata");
    }
);

both!(
    sets_are_counted_without_their_duplicates_and_limits_are_inclusive,
    async |db| {
        let world = World::on(db).await;
        let names = |count: usize| (0..count).map(|n| format!("c{n}")).collect::<Vec<_>>();
        let twice = |list: Vec<String>| [list.clone(), list].concat();
        let (url, longest) = (world.receiver.url(), "x".repeat(256));
        let endpoint = json!({"url": url, "uid": longest, "channels": twice(names(10)), "eventTypes": ["t", "t"]});
        let made = world.api.post("/app/a/endpoint", endpoint).await;
        assert_eq!(
            (&made.expect(201)["channels"], &made.json["eventTypes"]),
            (&json!(names(10)), &json!(["t"]))
        );
        let message = json!({"eventType": longest, "payload": {}, "eventId": longest, "channels": twice(names(5))});
        let made = world.api.post("/app/a/msg", message).await;
        assert_eq!(made.expect(202)["channels"], json!(names(5)));
        let metadata = json!({"k": "v".repeat(4096 - r#"{"k":""}"#.len())});
        for (method, path, body) in [
            (
                "POST",
                "/app",
                json!({"name": "n", "uid": longest, "metadata": metadata}),
            ),
            ("PATCH", "/app/a/endpoint/e", json!({"metadata": metadata})),
            (
                "POST",
                "/event-type",
                json!({"name": longest, "description": "\u{9}\u{b}🚀"}),
            ),
        ] {
            let answer = world
                .api
                .call(&world.api.token, method, path, &[], &body.to_string())
                .await;
            assert!(answer.status.is_success(), "{method} {path}: {}", answer.text);
        }
    }
);
