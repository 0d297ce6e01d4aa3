//! Idempotency keys on every POST: the same request sent twice has one effect and one response.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

use poem::Request;
use poem::http::Method;
use postrider::api::ApiState;

use crate::api::Api;
use crate::harness::Shape;

const OPERATIONAL: &str = "/operational-webhook/endpoint";

/// Returns every POST with an accepted body and its status, for an application with the endpoint `e` and the message
/// `known`.
fn posts(app: &str) -> Vec<(String, Value, u16)> {
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    let documented = postrider::api::document();
    let replays = ["recover", "replay-missing", "bulk-replay"].into_iter();
    let replays = replays.filter(|name| documented.contains(&format!("/{name}\"")));
    let replays = replays.map(|name| (format!("/app/{app}/endpoint/e/{name}"), since.clone(), 202));
    let mut all = vec![
        ("/app".to_owned(), json!({"name": "n"}), 201),
        ("/event-type".to_owned(), json!({"name": "t", "description": ""}), 201),
        (
            format!("/app/{app}/endpoint"),
            json!({"url": "http://127.0.0.1:1/"}),
            201,
        ),
        (format!("/app/{app}/endpoint/e/secret/rotate"), json!({}), 200),
        (format!("/app/{app}/msg/known/endpoint/e/resend"), json!({}), 202),
        (
            format!("/app/{app}/msg"),
            json!({"eventType": "a", "payload": {"b": 1.10}, "eventId": "m"}),
            202,
        ),
        (
            format!("/app/{app}/endpoint/e/send-example"),
            json!({"eventType": "svix.ping"}),
            202,
        ),
        ("/token".to_owned(), json!({"name": "n", "role": "viewer"}), 201),
        (OPERATIONAL.to_owned(), json!({"url": "http://127.0.0.1:1/"}), 201),
        (format!("{OPERATIONAL}/e/secret/rotate"), json!({}), 200),
        (format!("/app/{app}/poller"), json!({}), 201),
        (format!("/app/{app}/poller/p/secret/rotate"), json!({}), 200),
        (format!("/app/{app}/poller/p/token"), json!({"name": "n"}), 201),
        (
            format!("/app/{app}/poller/p/consumer/c/seek"),
            json!({"after": "2025-12-31T00:00:00Z"}),
            200,
        ),
    ];
    all.extend(replays);
    all
}

async fn prepared(api: &Api) -> String {
    let app = api.application("app").await;
    let endpoint = json!({"url": "http://127.0.0.1:1/", "uid": "e"});
    api.post(&format!("/app/{app}/endpoint"), endpoint.clone())
        .await
        .expect(201);
    api.post(OPERATIONAL, endpoint).await.expect(201);
    let poller = json!({"uid": "p"});
    api.post(&format!("/app/{app}/poller"), poller).await.expect(201);
    let known = json!({"eventType": "a", "payload": {}, "eventId": "known"});
    api.post(&format!("/app/{app}/msg"), known).await.expect(202);
    app
}

#[test]
fn every_post_of_the_document_is_tested_here() {
    let document: Value = serde_json::from_str(&postrider::api::document()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    // portal.rs tests the routes that create and end tokens.
    let named = paths.filter(|(path, methods)| methods.get("post").is_some() && !path.starts_with("/api/v1/auth/"));
    let tested: BTreeSet<_> = posts("{app_id}")
        .into_iter()
        .map(|(path, _, _)| format!("/api/v1{path}"))
        .collect();
    let known = |path: &&String| {
        let names = [
            ("{endpoint_id}", "e"),
            ("{msg_id}", "known"),
            ("{poller_id}", "p"),
            ("{consumer_id}", "c"),
        ];
        let path = names
            .iter()
            .fold((*path).clone(), |path, (name, id)| path.replace(name, id));
        // background_task.rs tests it.
        tested.contains(&path) || path.ends_with("/background-task/{task_id}/cancel")
    };
    let missing: Vec<_> = named.map(|(path, _)| path).filter(|path| !known(path)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

both!(a_repeated_post_is_answered_byte_for_byte_as_the_first, async |db| {
    let api = Api::on(db).await;
    let app = prepared(&api).await;
    for (path, body, status) in posts(&app) {
        let mut first = api.post_once(&path, "key", body.clone()).await;
        first.expect(status);
        api.rig.clock.advance(Duration::from_secs(11 * 3600));
        let mut again = api.post_once(&path, "key", body).await;
        // Each request has an id of its own.
        assert_ne!(
            first.headers.remove("x-request-id"),
            again.headers.remove("x-request-id")
        );
        assert_eq!((first.status, &first.text), (again.status, &again.text), "{path}");
        assert_eq!(first.headers, again.headers, "{path}");
    }
});

both!(requests_at_once_with_one_key_have_one_effect, async |db| {
    let api = Api::on(db).await;
    let app = prepared(&api).await;
    for (path, body, status) in posts(&app) {
        let both = futures_util::future::join_all((0..5).map(|_| api.post_once(&path, "key", body.clone()))).await;
        for answer in &both {
            assert_eq!(
                (answer.status.as_u16(), &answer.text),
                (status, &both[0].text),
                "{path}"
            );
        }
    }
    assert_eq!(api.rig.count("application where id like 'app%'").await, 2);
    assert_eq!(api.rig.count("endpoint where app_id like 'app%'").await, 2);
    assert_eq!(api.rig.count("endpoint where app_id like 'org%'").await, 2);
    assert_eq!(api.rig.count("message where app_id like 'app%'").await, 3);
    assert_eq!(api.rig.count("delivery where trigger = 1").await, 1);
});

both!(a_key_is_of_one_token_and_one_uri_for_twelve_hours, async |db| {
    let api = Api::on(db).await;
    let stranger = api.stranger().await;
    let headers = [("idempotency-key", "k")];
    let body = json!({"name": "n"}).to_string();
    let first = api.call(&api.token, "POST", "/app", &headers, &body).await;
    let other = api.call(&stranger, "POST", "/app", &headers, &body).await;
    assert_ne!(first.expect(201)["id"], other.expect(201)["id"]);
    let slash = api.call(&api.token, "POST", "/app/", &headers, &body).await;
    assert_eq!(
        slash.expect(201)["id"],
        first.json["id"],
        "a trailing slash is the same route"
    );
    api.rig.clock.advance(Duration::from_secs(12 * 3600));
    let later = api.call(&api.token, "POST", "/app", &headers, &body).await;
    assert_ne!(later.expect(201)["id"], first.json["id"]);
});

both!(a_key_is_the_same_whether_or_not_the_uri_names_the_host, async |db| {
    let api = Api::on(db).await;
    let mut ids = BTreeSet::new();
    for before in ["", "http://hooks.example", "https://other.example:8080"] {
        let request = Request::builder()
            .method(Method::POST)
            .uri_str(format!("{before}/api/v1/app?get_if_exists=true"))
            .header("authorization", format!("Bearer {}", api.token))
            .header("idempotency-key", "k");
        let made = api.send(request.body(json!({"name": "n"}).to_string())).await;
        made.expect(201);
        ids.insert(made.field("id"));
    }
    assert_eq!(ids.len(), 1);
});

both!(a_body_that_is_refused_takes_no_key, async |db| {
    let api = Api::on(db).await;
    let app = prepared(&api).await;
    for (path, body, status) in posts(&app) {
        if path.ends_with("/rotate") {
            api.post_once(&path, "k", json!({"key": 7}))
                .await
                .breaks_rule_at("body.key");
        } else if path.ends_with("/poller") {
            // All its fields may be left out.
            api.post_once(&path, "k", json!({"uid": 7}))
                .await
                .breaks_rule_at("body.uid");
        } else if !path.ends_with("/resend") {
            assert_eq!(api.post_once(&path, "k", json!({})).await.status, 422, "{path}");
        }
        api.post_once(&path, "k", body).await.expect(status);
    }
});

both!(a_post_that_is_refused_while_it_is_written_frees_its_key, async |db| {
    let shape = Shape {
        most_endpoints: 1,
        ..Shape::default()
    };
    let api = Api::shaped(db, shape, ApiState::BODY_DEADLINE).await;
    let app = prepared(&api).await;
    let rotate = format!("/app/{app}/endpoint/e/secret/rotate");
    for _ in 0..10 {
        api.post(&rotate, json!({"gracePeriodSeconds": 60})).await.expect(200);
    }
    api.post("/app", json!({"name": "n", "uid": "taken"})).await.expect(201);
    let event_type = json!({"name": "t", "description": ""});
    api.post("/event-type", event_type.clone()).await.expect(201);
    let posts = [
        ("/app".to_owned(), json!({"name": "n", "uid": "taken"}), 409),
        ("/event-type".to_owned(), event_type, 409),
        (rotate, json!({}), 400),
        (
            format!("/app/{app}/endpoint"),
            json!({"url": "http://127.0.0.1:1/"}),
            400,
        ),
        (
            "/app/late/msg".to_owned(),
            json!({"eventType": "a", "payload": {}}),
            404,
        ),
    ];
    for (path, body, status) in &posts {
        api.post_once(path, "k", body.clone()).await.expect(*status);
    }
    api.delete("/app/taken").await.expect(204);
    api.delete("/event-type/t?expunge=true").await.expect(204);
    api.rig.advance(60);
    for (path, body, _) in &posts[..3] {
        let answer = api.post_once(path, "k", body.clone()).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
    }
    api.delete(&format!("/app/{app}/endpoint/e")).await.expect(204);
    api.post("/app", json!({"name": "n", "uid": "late"})).await.expect(201);
    for (path, body, _) in &posts[3..] {
        let answer = api.post_once(path, "k", body.clone()).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
    }
});

both!(a_message_is_replayed_from_what_is_stored, async |db| {
    let api = Api::on(db).await;
    let app = prepared(&api).await;
    let path = format!("/app/{app}/msg");
    let message = json!({"eventType": "a", "payload": {"n": 1}});
    let first = api.post_once(&path, "k", message.clone()).await;
    let again = api.post_once(&path, "k", message.clone()).await;
    assert_eq!(first.expect(202), again.expect(202));
    assert_eq!(api.rig.count("message").await, 2);
    let bare = api.post_once(&format!("{path}?with_content=false"), "k", message).await;
    assert_ne!(bare.expect(202)["id"], first.json["id"], "the query belongs to the key");
});

both!(the_same_key_with_another_body_is_refused_and_does_nothing, async |db| {
    let api = Api::on(db).await;
    let app = prepared(&api).await;
    let shown = json!({"name": "shown", "description": "", "schemas": {"1": {"examples": [{"n": 1}]}}});
    api.post("/event-type", shown).await.expect(201);
    let with_body = posts(&app)
        .into_iter()
        .filter(|(path, _, _)| !path.ends_with("/resend"));
    for (path, body, status) in with_body {
        println!("{path}");
        let first = api.post_once(&path, "key", body.clone()).await;
        first.expect(status);
        let counted = async || {
            let mut rows = 0;
            for table in [
                "application",
                "event_type",
                "endpoint",
                "message",
                "background_task",
                "delivery",
                "api_token",
            ] {
                rows += api.rig.count(table).await;
            }
            rows
        };
        let before = counted().await;
        let mut other = body.clone();
        let (field, value) = match path.rsplit('/').next() {
            Some("msg") => ("payload", json!({"b": 2})),
            Some("send-example") => ("eventType", json!("shown")),
            _ => ("unknown", json!(1)),
        };
        other[field] = value;
        let refused = api.post_once(&path, "key", other).await;
        refused.refused(409, "conflict");
        let detail = refused.field("detail");
        assert!(detail.contains("idempotency key came with another body"), "{detail}");
        let again = api.post_once(&path, "key", body).await;
        assert_eq!((first.status, &first.text), (again.status, &again.text), "{path}");
        assert_eq!(counted().await, before, "{path}");
    }
});

both!(no_body_is_the_same_as_an_empty_object_under_a_key, async |db| {
    let api = Api::on(db).await;
    let app = prepared(&api).await;
    let path = format!("/app/{app}/endpoint/e/secret/rotate");
    let headers = [("idempotency-key", "k")];
    let first = api.call(&api.token, "POST", &path, &headers, "").await;
    let again = api.call(&api.token, "POST", &path, &headers, "{}").await;
    assert_eq!(first.expect(200), again.expect(200));
});

both!(
    a_key_that_an_earlier_version_wrote_is_compared_with_no_body,
    async |db| {
        let api = Api::on(db).await;
        let first = api.post_once("/app", "k", json!({"name": "a"})).await;
        api.rig.sql("update idempotency set body_hash = null", []).await;
        let other = api.post_once("/app", "k", json!({"name": "b"})).await;
        assert_eq!(first.expect(201), other.expect(201));
    }
);
