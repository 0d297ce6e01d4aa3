//! Signing in to the console: links that work once, the tokens that they give, and the commands that print links.

use std::collections::BTreeSet;

use postrider::domain::role::Role;
use postrider::service::token::{self, Grant};
use serde_json::{Value, json};

use crate::api::{Answer, Api, BY_HAND};
use crate::harness::{Caller, Program};

const LINK: &str = "/auth/console-link";
const TOKEN: &str = "an-admin-token-for-this-test";

/// Makes a link and returns its code.
async fn code(api: &Api, body: Value) -> String {
    let made = api.post(LINK, body).await;
    made.expect(200);
    made.field("code")
}

/// Changes a code for a token, without any other token.
async fn redeem(api: &Api, code: &str) -> Answer {
    let request = poem::Request::builder()
        .method(poem::http::Method::POST)
        .uri_str("/api/v1/auth/console-session");
    api.send(request.body(json!({"code": code}).to_string())).await
}

both!(
    post_console_link_makes_a_link_that_signs_in_with_its_role_for_its_minutes,
    async |db| {
        let api = Api::on(db).await;
        let made = api.post(LINK, json!({"role": "viewer", "minutes": 5})).await;
        let fields: Vec<_> = made.expect(200).as_object().unwrap().keys().collect();
        assert_eq!(fields, ["url", "code", "expiresAt"]);
        let code = made.field("code");
        assert!(code.len() == 43, "256 bits: {code}");
        assert_eq!(
            made.field("url"),
            format!("https://hooks.example/below/console#code={code}")
        );
        let session = redeem(&api, &code).await;
        let fields: Vec<_> = session.expect(200).as_object().unwrap().keys().collect();
        assert_eq!(fields, ["token", "expiresAt"]);
        let token = session.field("token");
        let whoami = whoami(&api, &token).await;
        assert_eq!(whoami["organizationId"], json!(api.org_id));
        assert_eq!(
            (&whoami["role"], &whoami["name"]),
            (&json!("viewer"), &json!("console"))
        );
        assert_eq!(whoami["expiresAt"], session.json["expiresAt"]);
        api.call(&token, "GET", "/app", &[], "").await.expect(200);
        api.call(&token, "POST", "/app", &[], r#"{"name": "n"}"#)
            .await
            .refused(403, "insufficient access");
        for (seconds, status) in [(299, 200), (2, 401)] {
            api.rig.advance(seconds);
            let answer = api.call(&token, "GET", "/app", &[], "").await;
            assert_eq!(answer.status, status, "after {seconds} s");
        }
    }
);

both!(of_many_requests_with_one_code_one_gets_a_token, async |db| {
    let api = Api::on(db).await;
    for _ in 0..3 {
        let code = code(&api, json!({"role": "admin"})).await;
        let requests = (0..12).map(|_| redeem(&api, &code));
        let answers = futures_util::future::join_all(requests).await;
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(won, 1, "{answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            answer.refused(401, "authentication_failed");
        }
    }
    let sessions = api.rig.count("api_token where session_id = 'console'").await;
    assert_eq!(sessions, 3);
    assert_eq!(api.rig.count("console_link").await, 0);
});

both!(an_unknown_a_used_and_an_expired_code_get_the_same_refusal, async |db| {
    let mut api = Api::on(db).await;
    let (used, expired) = (
        code(&api, json!({"role": "admin"})).await,
        code(&api, json!({"role": "admin"})).await,
    );
    redeem(&api, &used).await.expect(200);
    api.rig.advance(601);
    let mut refusals = BTreeSet::new();
    for code in [used.as_str(), &expired, "none", "", &"x".repeat(100_000)] {
        let answer = redeem(&api, code).await;
        answer.refused(401, "authentication_failed");
        refusals.insert(answer.text);
    }
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(api.rig.count("console_link").await, 1);
    api.rig.prune().await;
    assert_eq!(api.rig.count("console_link").await, 0);
});

both!(
    a_link_lasts_ten_minutes_and_a_session_eight_hours_by_default,
    async |db| {
        let api = Api::on(db).await;
        let made = api.post(LINK, json!({"role": "admin", "minutes": null})).await;
        api.rig.advance(599);
        let session = redeem(&api, &made.field("code")).await;
        let token = session.field("token");
        for (seconds, status) in [(8 * 3600 - 1, 200), (2, 401)] {
            api.rig.advance(seconds);
            let answer = api.call(&token, "GET", "/app", &[], "").await;
            assert_eq!(answer.status, status);
        }
        for minutes in [json!(0), json!(1441), json!(-1), json!(100_000)] {
            let refused = api.post(LINK, json!({"role": "admin", "minutes": minutes})).await;
            refused.breaks_rule_at("body.minutes");
        }
        api.post(LINK, json!({})).await.breaks_rule_at("body.role");
    }
);

both!(neither_a_code_nor_a_token_is_stored_as_it_is, async |db| {
    let api = Api::on(db).await;
    let made = api.post_once(LINK, "k", json!({"role": "admin"})).await;
    let again = api.post_once(LINK, "k", json!({"role": "admin"})).await;
    assert_eq!(made.expect(200), again.expect(200), "the key brings the same link");
    let code = made.field("code");
    assert_eq!(api.rig.count(&format!("console_link where hash = '{code}'")).await, 0);
    let replies = api.rig.count(&format!("idempotency where reply like '%{code}%'")).await;
    assert_eq!(replies, 0, "the reply is sealed");
    assert_eq!(api.rig.count("console_link").await, 1);
});

both!(
    a_session_ends_by_signing_out_counts_as_no_admin_and_is_forgotten,
    async |db| {
        let mut api = Api::on(db).await.acting_for("acme").await;
        let session = redeem(&api, &code(&api, json!({"role": "admin"})).await).await;
        let session = session.field("token");
        let list = api.get("/token").await;
        let list = list.expect(200)["data"].as_array().unwrap().clone();
        let id = |name: &Value| {
            let row = list.iter().find(|row| row["name"] == *name).expect("a token");
            row["id"].as_str().unwrap().to_owned()
        };
        let (own, signed_in) = (id(&Value::Null), id(&json!("console")));
        let left = token::delete(&api.rig.store, &BY_HAND, &api.org_id, &own, false).await;
        assert!(left.is_err(), "the session is no other admin");
        api.call(&session, "POST", "/auth/logout", &[], "").await.expect(204);
        let ended = api.call(&session, "GET", "/app", &[], "").await;
        ended.refused(401, "authentication_failed");
        api.call(&api.token, "POST", "/auth/logout", &[], "").await.expect(204);
        api.get("/app").await.expect(200);

        let row = format!("api_token where id = '{signed_in}'");
        for (hours, left) in [(31, 1), (2, 0)] {
            api.rig.advance(hours * 3600);
            api.rig.prune().await;
            assert_eq!(api.rig.count(&row).await, left, "after {hours} hours");
        }
        let kept = Grant {
            role: Role::Viewer,
            expires_at: Some(api.rig.clock.now()),
            ..Grant::default()
        };
        api.token(kept).await;
        api.rig.advance(48 * 3600);
        api.rig.prune().await;
        assert_eq!(api.rig.count("api_token where role = 2").await, 1, "no session");
    }
);

/// Returns the status and body of the response to a code.
async fn sign_in(server: &str, link: &str) -> (u16, Value) {
    let (page, code) = link.trim().split_once("#code=").expect("the code is in the fragment");
    assert_eq!(page, format!("{server}/console"));
    let answer = Caller::new("none")
        .post(server, "/auth/console-session", "", &json!({"code": code}))
        .await;
    answer.expect("a response")
}

/// Returns whose the token is.
async fn whoami(api: &Api, token: &str) -> Value {
    api.call(token, "GET", "/auth/whoami", &[], "")
        .await
        .expect(200)
        .clone()
}

both!(
    app_console_prints_a_link_from_the_database_and_from_a_server,
    async |db| {
        let program = Program::on(db.url()).env("POSTRIDER_ADMIN_TOKEN", TOKEN);
        let mut serving = program.serve().await;
        let local = program.clone().env("POSTRIDER_PUBLIC_URL", &serving.url());
        let remote = Program::bare()
            .env("POSTRIDER_URL", &serving.url())
            .env("POSTRIDER_TOKEN", TOKEN);
        let mut tokens = Vec::new();
        for (program, arguments) in [
            (&local, &["console"][..]),
            (&local, &["console", "--role", "viewer", "--minutes", "5"]),
            (&remote, &["console", "--role", "viewer", "--minutes", "5"]),
        ] {
            let link = program.run(arguments).await.ok();
            assert_eq!(link.lines().count(), 1, "{link}");
            let (status, session) = sign_in(&serving.url(), &link).await;
            assert_eq!(status, 200, "{session}");
            tokens.push(session["token"].as_str().expect("a token").to_owned());
            assert_eq!(sign_in(&serving.url(), &link).await.0, 401, "it works once");
        }
        assert!(!serving.stderr().contains("code="), "{}", serving.stderr());
        assert_eq!(serving.stop().await, Some(0));
        let api = Api::on(db).await;
        for (token, role) in tokens.iter().zip(["admin", "viewer", "viewer"]) {
            assert_eq!(whoami(&api, token).await["role"], role);
        }
        let line = local.run(&["console", "--minutes", "1441"]).await.failed(2);
        assert!(line.contains("--minutes"), "{line}");
    }
);

both!(
    app_portal_prints_a_link_from_the_database_and_from_a_server,
    async |db| {
        let program = Program::on(db.url()).env("POSTRIDER_ADMIN_TOKEN", TOKEN);
        let mut serving = program.serve().await;
        let caller = Caller::new(TOKEN);
        let app = json!({"name": "Shop", "uid": "shop"});
        let app = caller.make(&serving.url(), "/app", app).await;
        let local = program.clone().env("POSTRIDER_PUBLIC_URL", &serving.url());
        let remote = Program::bare()
            .env("POSTRIDER_URL", &serving.url())
            .env("POSTRIDER_TOKEN", TOKEN);
        for program in [&local, &remote] {
            for (arguments, status) in [
                (&["portal", "shop"][..], 201),
                (&["portal", "shop", "--read-only"], 403),
            ] {
                let link = program.run(arguments).await.ok();
                let (page, token) = link.trim().split_once("#token=").expect("a token");
                assert_eq!(page, format!("{}/portal", serving.url()));
                let path = format!("/app/{}/endpoint", app["id"].as_str().expect("an id"));
                let body = json!({"url": "https://receiver.example/"});
                let made = Caller::new(token).post(&serving.url(), &path, "", &body).await;
                assert_eq!(made.expect("a response").0, status, "{arguments:?}");
            }
            let line = program.run(&["portal", "none"]).await.failed(1);
            assert!(line.contains("application"), "{line}");
        }
        assert_eq!(serving.stop().await, Some(0));
    }
);
