//! The end of all portal tokens of an application, or of those of some sessions.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Api;

/// Creates an application with three tokens: of session `one`, of session `two`, and without a session. Returns the
/// application and the tokens.
async fn three_tokens(api: &Api, name: &str) -> (String, Vec<String>) {
    let app = api.application(name).await;
    let path = format!("/auth/app-portal-access/{app}");
    let mut tokens = Vec::new();
    for body in [
        json!({"sessionId": "one"}),
        json!({"sessionId": "two"}),
        json!({"sessionId": null}),
    ] {
        tokens.push(api.post(&path, body).await.field("token"));
    }
    (app, tokens)
}

/// Returns for each token whether it is valid.
async fn valid(api: &Api, tokens: &[String]) -> Vec<bool> {
    let mut all = Vec::new();
    for token in tokens {
        let answer = api.call(token, "GET", "/auth/whoami", &[], "").await;
        all.push(answer.status == 200);
    }
    all
}

both!(
    post_expire_all_answers_204_and_ends_all_tokens_of_the_application_at_once,
    async |db| {
        let api = Api::on(db).await;
        let (app, mut tokens) = three_tokens(&api, "app").await;
        tokens.push(api.token_of(&app).await);
        let (_, others) = three_tokens(&api, "other").await;
        assert_eq!(valid(&api, &tokens).await, [true; 4]);
        let ended = api.post(&format!("/auth/app/{app}/expire-all"), json!({})).await;
        ended.expect(204);
        assert_eq!(ended.text, "");
        assert_eq!(valid(&api, &tokens).await, [false; 4]);
        assert_eq!(valid(&api, &others).await, [true; 3]);
        api.get("/app").await.expect(200);
    }
);

both!(expire_all_needs_no_body, async |db| {
    let api = Api::on(db).await;
    let (app, tokens) = three_tokens(&api, "app").await;
    let path = format!("/auth/app/{app}/expire-all");
    api.call(&api.token, "POST", &path, &[], "").await.expect(204);
    assert_eq!(valid(&api, &tokens).await, [false; 3]);
});

both!(expire_all_of_sessions_ends_the_tokens_of_these_alone, async |db| {
    let api = Api::on(db).await;
    let (app, tokens) = three_tokens(&api, "app").await;
    let path = format!("/auth/app/{app}/expire-all");
    for (sessions, left) in [
        (json!(["none"]), [true, true, true]),
        (json!(["one", "none", "one"]), [false, true, true]),
        (json!(["two"]), [false, false, true]),
        (json!([]), [false, false, false]),
    ] {
        api.post(&path, json!({"sessionIds": sessions})).await.expect(204);
        assert_eq!(valid(&api, &tokens).await, left, "{sessions}");
    }
});

both!(
    expire_all_with_an_expiry_shortens_lives_and_lengthens_none,
    async |db| {
        let api = Api::on(db).await;
        let (app, mut tokens) = three_tokens(&api, "app").await;
        let path = format!("/auth/app-portal-access/{app}");
        tokens.push(api.post(&path, json!({"expiry": 3600})).await.field("token"));
        let expire = async |seconds: i64| {
            let body = json!({"expiry": seconds});
            api.post(&format!("/auth/app/{app}/expire-all"), body)
                .await
                .expect(204)
                .clone()
        };
        expire(7200).await;
        expire(604_800).await;
        api.rig.clock.advance(Duration::from_secs(3600));
        assert_eq!(valid(&api, &tokens).await, [true, true, true, false]);
        api.rig.clock.advance(Duration::from_secs(3600));
        assert_eq!(valid(&api, &tokens).await, [false; 4]);
    }
);

both!(expire_all_under_one_key_is_done_once, async |db| {
    let api = Api::on(db).await;
    let (app, tokens) = three_tokens(&api, "app").await;
    let path = format!("/auth/app/{app}/expire-all");
    api.post_once(&path, "key", json!({})).await.expect(204);
    let made = api
        .post(&format!("/auth/app-portal-access/{app}"), json!({}))
        .await
        .field("token");
    api.post_once(&path, "key", json!({})).await.expect(204);
    assert_eq!(valid(&api, &tokens).await, [false; 3]);
    assert_eq!(valid(&api, &[made]).await, [true]);
    api.post_once(&path, "key", json!({"expiry": 1}))
        .await
        .refused(409, "conflict");
});

both!(expire_all_and_session_ids_have_limits, async |db| {
    let api = Api::on(db).await;
    let (app, _) = three_tokens(&api, "app").await;
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    for (body, place) in [
        (json!({"expiry": -1}), "body.expiry"),
        (json!({"expiry": 604_801}), "body.expiry"),
        (json!({"sessionIds": [""]}), "body.sessionIds"),
        (json!({"sessionIds": many}), "body.sessionIds"),
    ] {
        api.post(&format!("/auth/app/{app}/expire-all"), body)
            .await
            .breaks_rule_at(place);
    }
    for session in [json!(""), json!("x".repeat(257)), json!("a\u{0}")] {
        api.post(&format!("/auth/app-portal-access/{app}"), json!({"sessionId": session}))
            .await
            .breaks_rule_at("body.sessionId");
    }
    let odd = json!({"sessionId": "user 7 / ä"});
    api.post(&format!("/auth/app-portal-access/{app}"), odd)
        .await
        .expect(200);
    let unknown: Value = json!({});
    api.post("/auth/app/none/expire-all", unknown)
        .await
        .refused(404, "not_found");
});
