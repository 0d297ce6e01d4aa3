//! The trial receiver: webhooks that the server receives itself, so that a first one can be watched arriving.

use poem::http::Method;
use poem::{Body, Request};
use postrider::domain::role::Role;
use postrider::service::token::Grant;
use serde_json::{Value, json};

use crate::api::{Answer, Api};
use crate::harness::{Caller, DEADLINE, Program, within};

const PLACE: &str = "/trial/a-random-text_0123";

/// Sends a request to a path of the receiver.
async fn send(api: &Api, method: Method, path: &str, body: impl Into<Body>) -> Answer {
    let request = Request::builder().method(method).uri_str(path).header("x-Own", "1");
    api.send(request.body(body)).await
}

async fn list(api: &Api, path: &str) -> Vec<Value> {
    let found = api.get(path).await;
    found.expect(200)["data"].as_array().unwrap().clone()
}

both!(
    what_comes_to_the_trial_receiver_is_listed_newest_first_as_it_came,
    async |db| {
        let api = Api::on(db).await;
        assert_eq!(list(&api, PLACE).await, [] as [Value; 0]);
        let payload = r#"{"a":1.10,"b":12345678901234567890}"#;
        send(&api, Method::POST, PLACE, payload).await.expect(204);
        api.rig.advance(1);
        send(&api, Method::GET, PLACE, "").await.expect(204);
        send(&api, Method::PUT, "/trial/another-text-0123", "x")
            .await
            .expect(204);
        let found = list(&api, PLACE).await;
        let methods: Vec<_> = found.iter().map(|request| &request["method"]).collect();
        assert_eq!(methods, ["GET", "POST"]);
        assert_eq!(found[1]["body"], payload);
        assert_eq!(found[1]["headers"]["x-own"], "1");
        assert_eq!(found[1]["timestamp"], "2026-01-01T00:00:00.000000Z");
        assert_ne!(found[0]["id"], found[1]["id"]);
        let fields: Vec<_> = found[0].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["id", "timestamp", "method", "headers", "body"]);

        let app = api.application("app").await;
        for (token, status) in [
            (api.token_of(&app).await, 403),
            (role(&api, Role::Sender).await, 403),
            (role(&api, Role::Viewer).await, 200),
        ] {
            let answer = api.call(&token, "GET", PLACE, &[], "").await;
            assert_eq!(answer.status, status, "{}", answer.text);
        }
        api.rig.advance(3600);
        assert_eq!(list(&api, PLACE).await, [] as [Value; 0], "an hour is over");
    }
);

async fn role(api: &Api, role: Role) -> String {
    let grant = Grant {
        role,
        ..Grant::default()
    };
    api.token(grant).await
}

both!(
    the_trial_receiver_drops_the_oldest_beyond_100_requests_or_1_mb,
    async |db| {
        let api = Api::on(db).await;
        for number in 0..103 {
            send(&api, Method::POST, PLACE, number.to_string()).await.expect(204);
        }
        let bodies = |found: Vec<Value>| -> Vec<String> {
            let texts = found.iter().map(|request| request["body"].as_str().unwrap().to_owned());
            texts.collect()
        };
        let kept = bodies(list(&api, PLACE).await);
        assert_eq!((kept.len(), kept[0].as_str(), kept[99].as_str()), (100, "102", "3"));
        for _ in 0..20 {
            send(&api, Method::POST, PLACE, "x".repeat(64 << 10)).await.expect(204);
        }
        let kept = bodies(list(&api, PLACE).await);
        assert_eq!(kept.len(), 15, "15 of 64 KiB are less than 1 MB");
        send(&api, Method::POST, PLACE, "x".repeat((64 << 10) + 1))
            .await
            .refused(413, "payload_too_large");
    }
);

both!(only_a_long_text_of_plain_characters_is_an_address, async |db| {
    let api = Api::on(db).await;
    for random in [
        "too-short-text0",
        &"x".repeat(65),
        "with.a.dot.in.the.text",
        "with%20a%20space%20in%20it",
        "a-random-text_0123/more",
    ] {
        let path = format!("/trial/{random}");
        send(&api, Method::POST, &path, "").await.refused(404, "not_found");
        api.get(&path).await.refused(404, "not_found");
    }
    for length in [16, 64] {
        let path = format!("/trial/{}", "x".repeat(length));
        send(&api, Method::DELETE, &path, "").await.expect(204);
        assert_eq!(list(&api, &path).await.len(), 1);
    }
});

both!(
    a_first_webhook_arrives_where_private_targets_are_allowed_and_nowhere_else,
    async |db| {
        let token = "an-admin-token-for-this-test";
        let program = Program::on(db.url()).env("POSTRIDER_ADMIN_TOKEN", token);
        let caller = Caller::new(token);
        let mut serving = program
            .clone()
            .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.1/32")
            .serve()
            .await;
        let url = serving.url();
        caller.make(&url, "/app", json!({"name": "Shop", "uid": "shop"})).await;
        let endpoint = json!({"url": format!("{url}{PLACE}")});
        caller.make(&url, "/app/shop/endpoint", endpoint).await;
        let message = json!({"eventType": "order.paid", "payload": {"total": 1.10}});
        let message = caller.make(&url, "/app/shop/msg", message).await;
        let arrived = within(DEADLINE, "the webhook arrives", async || {
            let listed = caller.get(&url, PLACE).await;
            listed["data"].as_array()?.first().cloned()
        })
        .await;
        assert_eq!(arrived["headers"]["webhook-id"], message["id"]);
        assert_eq!(serving.stop().await, Some(0));

        let mut serving = program.serve().await;
        let url = serving.url();
        assert_eq!(caller.status(&format!("{url}{PLACE}")).await, Some(404));
        let listed = caller.get(&url, PLACE).await;
        assert_eq!(listed["code"], "not_found");
        assert_eq!(serving.stop().await, Some(0));
    }
);
