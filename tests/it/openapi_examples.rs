//! The examples of the API document are true: after `app seed` each request succeeds as it stands, and its response is
//! the documented one, except for ids, instants and secrets.

use postrider::clock::Clock;
use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{DEADLINE, Program, Shape, TestDatabase, within};
use postrider::api::ApiState;

async fn seeded(db: &TestDatabase) -> Api {
    Program::on(db.url()).run(&["seed"]).await.ok();
    let shape = Shape {
        clock: Clock::system(),
        ..Shape::default()
    };
    let api = Api::shaped(db, shape, ApiState::BODY_DEADLINE).await;
    api.acting_for("Northwind Shop").await
}

fn document() -> Value {
    serde_json::from_str(&postrider::api::document()).expect("JSON")
}

/// Makes what the examples of pollers name beside the pollers of `app seed`: consumers and a token.
async fn make_consumer(api: &Api) {
    let app = "/app/fjord-coffee";
    let message = json!({
        "eventType": "order.paid", "eventId": "ord_1007-paid",
        "payload": {"orderId": "ord_1007", "total": 49.9, "currency": "EUR"},
    });
    api.post(&format!("{app}/msg"), message).await;
    let consumer = format!("{app}/poller/fjord-warehouse/consumer/importer");
    within(DEADLINE, "the message can be read", async || {
        let page = api.get(&consumer).await;
        (page.expect(200)["data"] != json!([])).then_some(())
    })
    .await;
    api.get(&format!("{app}/poller/fjord-warehouse/consumer/importer-2025"))
        .await
        .expect(200);
    let token = json!({"name": "Warehouse"});
    api.post(&format!("{app}/poller/fjord-warehouse/token"), token)
        .await
        .expect(201);
}

/// Lets the endpoint fail that the example of failing endpoints has, or disables it again, as `app seed` does.
async fn set_failing(api: &Api, is_failing: bool) {
    let endpoint = "/app/fjord-coffee/endpoint/fjord-crm";
    let disabled = json!({"disabled": !is_failing});
    api.patch(endpoint, disabled).await.expect(200);
    let since = is_failing.then_some(Clock::system().now().0);
    let sql = "update endpoint set failing_since = $1 where uid = 'fjord-crm'";
    api.rig.sql(sql, [since.into()]).await;
}

/// Returns the request of an operation's example: the path below `/api/v1` with its query, and the body.
async fn request(api: &Api, path: &str, operation: &Value) -> (String, String) {
    let mut path = path.strip_prefix("/api/v1").unwrap().to_owned();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let Some(mut value) = parameter["example"].as_str().map(str::to_owned) else {
            assert!(parameter["required"] != true, "{path} has no example of {name}");
            continue;
        };
        match parameter["in"].as_str().unwrap() {
            "path" => {
                if let Some(list) = listed(name, &path) {
                    let page = api.get(&list).await;
                    let oldest = page.expect(200)["data"]
                        .as_array()
                        .and_then(|rows| rows.last())
                        .expect("a row");
                    let known = oldest["id"].as_str().unwrap().to_owned();
                    assert_eq!(kind(&known), kind(&value));
                    value = known;
                }
                path = path.replace(&format!("{{{name}}}"), &value);
            }
            _ if parameter["required"] == true => {
                let separator = if path.contains('?') { '&' } else { '?' };
                path = format!("{path}{separator}{name}={value}");
            }
            _ => panic!("Swagger UI would fill in {name}, which need not be given"),
        }
    }
    let body = &operation["requestBody"]["content"]["application/json"];
    assert_eq!(
        body.is_null(),
        body["example"].is_null(),
        "{path} has no example of its body"
    );
    let text = if body.is_null() {
        String::new()
    } else {
        body["example"].to_string()
    };
    if path.starts_with("/trial/") {
        let webhook = poem::Request::builder()
            .method(poem::http::Method::POST)
            .uri_str(&path)
            .header("content-type", "application/json");
        api.send(webhook.body(r#"{"total": 1.10}"#)).await.expect(204);
    }
    if path.contains("/poller") {
        make_consumer(api).await;
    }
    if path == "/endpoint-health" {
        set_failing(api, true).await;
    }
    if path.ends_with("/headers") {
        let (name, value) = match path.starts_with("/app/") {
            true => ("x-warehouse", "north"),
            false => ("x-team", "on-call"),
        };
        let headers = json!({"headers": {name: value, "authorization": "Bearer of-the-receiver"}});
        api.put(&path, headers).await.expect(204);
    }
    // A code works once, so that of the example is none that the server has made.
    if path == "/auth/console-session" {
        let link = api.post("/auth/console-link", json!({"role": "operator"})).await;
        return (path, json!({"code": link.field("code")}).to_string());
    }
    (path, text)
}

/// Returns the list from which an id is taken that `app seed` cannot know beforehand; `None` if the example's id
/// exists.
fn listed(parameter: &str, path: &str) -> Option<String> {
    match parameter {
        "attempt_id" => path
            .split_once("/attempt/")
            .map(|(message, _)| message.replace("/msg/", "/attempt/msg/")),
        "task_id" => Some("/background-task".to_owned()),
        // The newest, which an earlier example has made: the oldest is the token that makes all these requests.
        "token_id" => Some(path.strip_suffix("/{token_id}").unwrap_or("/token").to_owned()),
        _ => None,
    }
}

fn kind(id: &str) -> &str {
    id.split_once('_').map_or("", |(kind, _)| kind)
}

/// Returns the value with everything that differs from run to run replaced by a fixed text.
fn masked(value: &Value) -> Value {
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| (key.clone(), masked_field(key, value)))
            .collect(),
        Value::Array(items) => items.iter().map(masked).collect(),
        other => other.clone(),
    }
}

fn masked_field(name: &str, value: &Value) -> Value {
    if name == "buckets" {
        return "the parts of a day, most of them empty".into();
    }
    // Their values name the message and the instant.
    if name == "requestHeaders" {
        let headers = value.as_array().into_iter().flatten();
        return headers.map(|header| header["name"].clone()).collect();
    }
    // Their values name the message and the instant.
    if name == "headers" && value["webhook-id"].is_string() {
        let headers = value.as_object().into_iter().flatten();
        return headers.map(|(name, _)| Value::from(name.as_str())).collect();
    }
    // The caller's own, whatever its fields are called.
    if ["metadata", "schemas"].contains(&name) {
        return value.clone();
    }
    match value.as_str() {
        Some(text)
            if name == "createdBy"
                || name == "id"
                || name.ends_with("Id") && name != "eventId" && name != "orderId" =>
        {
            kind(text).into()
        }
        Some(_) if name.ends_with("terator") => "a place in a list".into(),
        Some(text) if is_instant(name) => {
            let instant = postrider::domain::timestamp::Timestamp::parse_rfc3339(text);
            assert!(instant.is_ok(), "{name}: {text}");
            "an instant".into()
        }
        // The words of an explanation name instants.
        Some(text) if name == "text" => {
            let is_instant = |word: &&str| word.starts_with("20") && word.contains('T');
            text.split(' ')
                .filter(|word| !is_instant(word))
                .collect::<Vec<_>>()
                .join(" ")
                .into()
        }
        Some(text) if name == "url" && (text.contains("/portal#token=") || text.contains("/console#code=")) => {
            "a page of the server's own".into()
        }
        Some(_) if name == "code" => "random".into(),
        Some(text) if name == "key" || name == "token" => text.split_once('_').map_or("", |(kind, _)| kind).into(),
        _ => masked(value),
    }
}

fn is_instant(name: &str) -> bool {
    name.ends_with("At")
        || name.ends_with("Since")
        || ["timestamp", "nextAttempt", "since", "until"]
            .iter()
            .any(|known| name.ends_with(known))
}

/// Returns whether the response is the one of the example. A page may hold more rows than the example shows.
fn shows(example: &Value, answer: &Value) -> bool {
    let (Some(shown), Some(all)) = (example["data"].as_array(), answer["data"].as_array()) else {
        return example == answer;
    };
    let keys = |value: &Value| {
        value
            .as_object()
            .map(|object| object.keys().cloned().collect::<Vec<_>>())
    };
    shown.iter().all(|row| all.contains(row)) && keys(example) == keys(answer)
}

both!(
    every_example_succeeds_as_it_stands_after_seeding_and_is_answered_so,
    async |db| {
        let api = seeded(db).await;
        let document = document();
        let mut paths: Vec<_> = document["paths"].as_object().unwrap().iter().collect();
        // Before an example deletes the endpoint that fails.
        paths.sort_by_key(|(path, _)| *path != "/api/v1/endpoint-health");
        for (path, methods) in paths {
            for (method, operation) in methods.as_object().unwrap() {
                let (to, body) = request(&api, path, operation).await;
                let answer = api.call(&api.token, &method.to_uppercase(), &to, &[], &body).await;
                assert!(answer.status.is_success(), "{method} {to}: {}", answer.text);
                let documented = &operation["responses"][answer.status.as_str()];
                let Some(content) = documented.get("content") else {
                    assert_eq!(answer.text, "", "{method} {to}");
                    continue;
                };
                let (example, json) = (masked(&content["application/json"]["example"]), masked(&answer.json));
                assert!(
                    shows(&example, &json),
                    "{method} {to}: {example:#} is not what is answered: {:#}",
                    answer.json
                );
                if to == "/endpoint-health" {
                    set_failing(&api, false).await;
                }
            }
        }
    }
);

#[test]
fn no_example_of_a_list_or_of_headers_is_empty() {
    // The contract's response to a resend has no fields.
    let is_empty = |value: &Value| match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let document = document();
    let operations = document["paths"].as_object().unwrap().values();
    let mut operations: Vec<_> = operations
        .flat_map(|methods| methods.as_object().unwrap().values())
        .collect();
    operations.retain(|operation| operation["operationId"] != "v1.message-attempt.resend");
    for operation in operations {
        for response in ["200", "201", "202"].map(|status| &operation["responses"][status]) {
            let example = &response["content"]["application/json"]["example"];
            let fields = ["data", "headers"].map(|name| &example[name]);
            let shown = fields.into_iter().chain([example]);
            assert!(
                !shown.into_iter().any(is_empty),
                "{}: {example}",
                operation["operationId"]
            );
        }
    }
}

both!(every_example_of_a_refusal_is_what_is_answered, async |db| {
    let api = seeded(db).await;
    let document = document();
    let list = &document["paths"]["/api/v1/app"]["get"]["responses"];
    let item = &document["paths"]["/api/v1/app/{app_id}"]["put"]["responses"];
    let narrow = api.token_of(&api.get("/app/fjord-coffee").await.field("id")).await;
    let huge = " ".repeat(3 << 20);
    let taken = json!({"name": "x", "uid": "paper-and-pine"}).to_string();
    for (status, responses, token, method, path, body) in [
        (400, list, &api.token, "GET", "/app?limit=x", ""),
        (401, list, &"none".to_owned(), "GET", "/app", ""),
        (403, list, &narrow, "GET", "/app", ""),
        (404, item, &api.token, "PATCH", "/app/unknown", "{}"),
        (409, item, &api.token, "PUT", "/app/fjord-coffee", taken.as_str()),
        (413, item, &api.token, "PUT", "/app/fjord-coffee", huge.as_str()),
        (422, list, &api.token, "GET", "/app?limit=0", ""),
    ] {
        let answer = api.call(token, method, path, &[], body).await;
        let example = &responses[status.to_string()]["content"]["application/json"]["example"];
        assert_eq!(answer.expect(status), example);
    }
});
