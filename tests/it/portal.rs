//! Portal access: tokens of an application, their rights and their end. `pages.rs` tests the page to which
//! their link leads.

use serde_json::{Value, json};
use std::time::Duration;

use crate::api::{ADMIN, Api};
use crate::harness::rows;

const ALL: &str = "/auth/app-portal-access/";

async fn token(api: &Api, app: &str, body: Value) -> String {
    let opened = api.post(&format!("{ALL}{app}"), body).await;
    opened.expect(200);
    opened.field("token")
}

/// Returns the status of a request with an empty object as its body.
async fn status(api: &Api, token: &str, method: &str, path: &str) -> u16 {
    api.call(token, method, path, &[], "{}").await.status.as_u16()
}

/// Creates an application with an endpoint `e`.
async fn application(api: &Api) -> String {
    let app = api.application("app").await;
    let endpoint = json!({"url": "http://127.0.0.1:1/", "uid": "e"});
    api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
    app
}

both!(
    post_app_portal_access_answers_a_url_and_a_token_of_the_application,
    async |db| {
        let api = Api::on(db).await;
        let (own, other) = (application(&api).await, api.application("other").await);
        let opened = api.post(&format!("{ALL}{own}"), json!({})).await;
        let token = opened.field("token");
        let fields: Vec<_> = opened.expect(200).as_object().unwrap().keys().collect();
        assert_eq!(fields, ["url", "token"]);
        assert_eq!(
            opened.field("url"),
            format!("https://hooks.example/below/portal#token={token}")
        );
        for (method, path, expected) in [
            ("GET", format!("/app/{own}"), 200),
            ("GET", format!("/app/{own}/endpoint/e/secret"), 200),
            ("PATCH", format!("/app/{own}/endpoint/e"), 200),
            ("GET", format!("/app/{other}"), 404),
            ("GET", "/app".to_owned(), 403),
            ("POST", format!("{ALL}{own}"), 403),
        ] {
            assert_eq!(status(&api, &token, method, &path).await, expected, "{method} {path}");
        }
    }
);

both!(post_dashboard_access_answers_the_same_without_a_body, async |db| {
    let api = Api::on(db).await;
    let app = application(&api).await;
    let path = format!("/auth/dashboard-access/{app}");
    let opened = api.call(&api.token, "POST", &path, &[], "").await;
    opened.expect(200);
    let token = opened.field("token");
    assert!(opened.field("url").ends_with(&format!("/portal#token={token}")));
    assert_eq!(status(&api, &token, "GET", &format!("/app/{app}")).await, 200);
});

both!(
    app_portal_access_expiry_is_an_hour_to_a_week_and_a_week_by_default,
    async |db| {
        let api = Api::on(db).await;
        let app = application(&api).await;
        let hour = Duration::from_secs(3600);
        let (short, long) = (
            token(&api, &app, json!({"expiry": 3600})).await,
            token(&api, &app, json!({"expiry": null})).await,
        );
        for refused in [json!(3599), json!(604_801), json!(-1), json!("3600")] {
            api.post(&format!("{ALL}{app}"), json!({"expiry": refused}))
                .await
                .breaks_rule_at("body.expiry");
        }
        let path = format!("/app/{app}");
        api.rig.clock.advance(hour - Duration::from_micros(1));
        assert_eq!(status(&api, &short, "GET", &path).await, 200);
        api.rig.clock.advance(Duration::from_micros(1));
        assert_eq!(status(&api, &short, "GET", &path).await, 401);
        api.rig.clock.advance(hour * (7 * 24 - 1) - Duration::from_micros(1));
        assert_eq!(status(&api, &long, "GET", &path).await, 200);
        api.rig.clock.advance(Duration::from_micros(1));
        assert_eq!(status(&api, &long, "GET", &path).await, 401);
    }
);

both!(
    app_portal_access_application_creates_it_and_a_different_uid_answers_422,
    async |db| {
        let api = Api::on(db).await;
        let body = json!({"application": {"name": "New", "uid": "new"}});
        let made = token(&api, "new", body.clone()).await;
        assert_eq!(
            api.call(&made, "GET", "/app/new", &[], "").await.expect(200)["name"],
            "New"
        );
        token(&api, "new", body).await;
        token(&api, "new", json!({"application": {"name": "Ignored", "uid": "other"}})).await;
        assert_eq!(api.rig.count("application").await, 1);
        for (application, kind) in [
            (json!({"name": "n"}), "application_uid_missing"),
            (json!({"name": "n", "uid": "another"}), "application_uid_mismatch"),
        ] {
            let refused = api
                .post(&format!("{ALL}newer"), json!({"application": application}))
                .await;
            refused.expect(422);
            let rule = &refused.json["detail"][0];
            assert_eq!(
                (&rule["loc"], &rule["type"]),
                (&json!(["body", "application", "uid"]), &json!(kind))
            );
        }
        api.post(
            &format!("{ALL}newer"),
            json!({"application": {"name": "", "uid": "newer"}}),
        )
        .await
        .breaks_rule_at("body.application.name");
        api.post(&format!("{ALL}newer"), json!({}))
            .await
            .refused(404, "not_found");
        assert_eq!(api.rig.count("application").await, 1);
    }
);

both!(links_asked_for_at_once_make_one_application, async |db| {
    let api = Api::on(db).await;
    let body = json!({"application": {"name": "New", "uid": "new"}});
    let opening = (0..8).map(|_| api.post("/auth/app-portal-access/new", body.clone()));
    for opened in futures_util::future::join_all(opening).await {
        opened.expect(200);
    }
    assert_eq!(api.rig.count("application").await, 1);
});

both!(
    app_portal_access_is_answered_again_under_its_key_and_stored_sealed,
    async |db| {
        let api = Api::on(db).await;
        let app = application(&api).await;
        let path = format!("{ALL}{app}");
        let first = api.post_once(&path, "key", json!({})).await;
        let again = api.post_once(&path, "key", json!({})).await;
        assert_eq!((first.status, &first.text), (again.status, &again.text));
        let made = "api_token where app_id is not null";
        assert_eq!(api.rig.count(made).await, 1);
        assert_ne!(
            api.post_once(&path, "other", json!({})).await.field("token"),
            first.field("token")
        );
        let token = first.field("token");
        for (table, column) in [("idempotency", "reply"), ("api_token", "hash")] {
            for row in rows(&api.rig.db, &format!("select {column} as text from {table}")).await {
                let text: String = row.try_get("", "text").unwrap();
                assert!(!text.contains(&token) && !text.contains("portal"), "{table}: {text}");
            }
        }
    }
);

both!(
    an_endpoint_asks_for_no_event_type_that_its_caller_does_not_see,
    async |db| {
        let api = Api::on(db).await;
        let app = application(&api).await;
        let hidden = json!({"name": "hidden", "description": "", "featureFlag": "beta"});
        api.post("/event-type", hidden).await.expect(201);
        let (without, with) = (
            token(&api, &app, json!({"featureFlags": ["gamma"]})).await,
            token(&api, &app, json!({"featureFlags": ["beta"]})).await,
        );
        let flagless = api.token_of(&app).await;
        let body = |name: &str| json!({"url": "http://127.0.0.1:1/", "eventTypes": [name]}).to_string();
        let all = format!("/app/{app}/endpoint");
        let item = format!("{all}/e");
        for (method, path, expected) in [("POST", &all, 201), ("PUT", &item, 200), ("PATCH", &item, 200)] {
            for blind in [&without, &flagless] {
                let answer = api.call(blind, method, path, &[], &body("hidden")).await;
                answer.breaks_rule_at("body.eventTypes");
                let unknown = api.call(blind, method, path, &[], &body("none")).await;
                assert_eq!(answer.text, unknown.text.replace("'none'", "'hidden'"));
            }
            for seeing in [&with, &api.token] {
                api.call(seeing, method, path, &[], &body("hidden"))
                    .await
                    .expect(expected);
                let anew = json!({"url": "http://127.0.0.1:1/", "uid": "e"});
                api.put(&item, anew).await;
            }
        }
    }
);

both!(
    app_portal_access_feature_flags_are_what_the_token_sees_of_event_types,
    async |db| {
        let api = Api::on(db).await;
        let app = application(&api).await;
        for (name, flag) in [("a", Value::Null), ("b", json!("beta")), ("c", json!("gamma"))] {
            // Fields that only later SDKs write are ignored.
            let event_type =
                json!({"name": name, "description": "", "featureFlag": flag, "featureFlags": ["x"], "groupName": "g"});
            let made = api.post("/event-type", event_type).await;
            assert_eq!(made.expect(201)["featureFlag"], flag);
        }
        for (body, seen) in [
            (json!({}), "a"),
            (json!({"featureFlags": []}), "a"),
            (json!({"featureFlags": ["beta"]}), "a b"),
            (json!({"featureFlags": ["gamma", "beta", "none"]}), "a b c"),
        ] {
            let token = token(&api, &app, body).await;
            let list = api.call(&token, "GET", "/event-type", &[], "").await;
            let names: Vec<_> = list.expect(200)["data"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|event_type| event_type["name"].as_str())
                .collect();
            assert_eq!(names.join(" "), seen);
            for name in ["a", "b", "c"] {
                let expected = if seen.contains(name) { 200 } else { 404 };
                assert_eq!(
                    status(&api, &token, "GET", &format!("/event-type/{name}")).await,
                    expected,
                    "{seen}: {name}"
                );
            }
        }
        assert_eq!(api.walk("/event-type", 1).await.len(), 3, "the organization sees all");
        let made_by_hand = api.token_of(&app).await;
        let list = api.call(&made_by_hand, "GET", "/event-type", &[], "").await;
        assert_eq!(list.expect(200)["data"].as_array().unwrap().len(), 1);
        api.post(&format!("{ALL}{app}"), json!({"featureFlags": ["no flag"]}))
            .await
            .breaks_rule_at("body.featureFlags.0");
    }
);

both!(
    app_portal_access_capabilities_and_read_only_limit_the_token,
    async |db| {
        let api = Api::on(db).await;
        let app = application(&api).await;
        let endpoint = format!("/app/{app}/endpoint/e");
        let secret = format!("{endpoint}/secret");
        let rotate = format!("{endpoint}/secret/rotate");
        // Whether the token may read the secret, rotate it, and change the endpoint.
        for (body, allowed) in [
            (json!({}), [200, 200, 200]),
            (json!({"capabilities": null, "readOnly": false}), [200, 200, 200]),
            (json!({"capabilities": []}), [403, 403, 403]),
            (json!({"capabilities": ["ViewBase"]}), [403, 403, 403]),
            (json!({"readOnly": true}), [403, 403, 403]),
            (json!({"capabilities": ["ViewEndpointSecret"]}), [200, 403, 403]),
            (
                json!({"capabilities": ["ManageEndpointSecret", "ManageEndpointSecret"]}),
                [200, 200, 403],
            ),
            (
                json!({"capabilities": ["ManageEndpoint", "CreateAttempts"]}),
                [200, 200, 200],
            ),
            (
                json!({"capabilities": ["ManageEndpoint", "ViewEndpointSecret"], "readOnly": true}),
                [200, 403, 403],
            ),
            (json!({"capabilities": ["ManageTransformations"]}), [403, 403, 403]),
        ] {
            let token = token(&api, &app, body.clone()).await;
            let mut got = [0; 3];
            for (place, (method, path)) in [("GET", &secret), ("POST", &rotate), ("PATCH", &endpoint)]
                .into_iter()
                .enumerate()
            {
                got[place] = status(&api, &token, method, path).await;
            }
            assert_eq!(got, allowed, "{body}");
            assert_eq!(status(&api, &token, "GET", &endpoint).await, 200);
            assert_eq!(
                status(&api, &token, "GET", &format!("{endpoint}/secre%74")).await,
                404,
                "no other spelling of the path leads there"
            );
            api.call(&token, "POST", "/auth/logout", &[], "").await.expect(204);
        }
        api.post(&format!("{ALL}{app}"), json!({"capabilities": ["Everything"]}))
            .await
            .breaks_rule_at("body.capabilities.0");
    }
);

both!(
    values_of_headers_are_hidden_from_tokens_that_may_not_manage_endpoints,
    async |db| {
        let api = Api::on(db).await;
        let app = application(&api).await;
        let path = format!("/app/{app}/endpoint/e/headers");
        let headers = json!({"X-Region": "eu", "Authorization": "Basic x"});
        api.put(&path, json!({ "headers": headers })).await.expect(204);
        for (body, shown) in [
            (json!({"readOnly": true}), false),
            (json!({"readOnly": true, "capabilities": ["ManageEndpoint"]}), false),
            (json!({"capabilities": []}), false),
            (
                json!({"capabilities": ["ViewEndpointSecret", "ManageEndpointSecret", "CreateAttempts"]}),
                false,
            ),
            (json!({"capabilities": ["ManageEndpoint"]}), true),
            (json!({}), true),
        ] {
            let token = token(&api, &app, body.clone()).await;
            let seen = api.call(&token, "GET", &path, &[], "").await;
            let expected = match shown {
                true => json!({"headers": {"X-Region": "eu"}, "sensitive": ["Authorization"]}),
                false => json!({"headers": {}, "sensitive": ["Authorization", "X-Region"]}),
            };
            assert_eq!(seen.expect(200), &expected, "{body}");
        }
    }
);

both!(post_logout_answers_204_and_ends_the_calling_token, async |db| {
    let api = Api::on(db).await;
    let app = application(&api).await;
    let path = format!("/app/{app}");
    let (ended, other) = (token(&api, &app, json!({})).await, token(&api, &app, json!({})).await);
    assert_eq!(status(&api, &ended, "GET", &path).await, 200);
    let answer = api.call(&ended, "POST", "/auth/logout", &[], "").await;
    answer.expect(204);
    assert_eq!(answer.text, "");
    assert_eq!(
        status(&api, &ended, "GET", &path).await,
        401,
        "ended at once in this process"
    );
    assert_eq!(
        status(&api, &other, "GET", &path).await,
        200,
        "the other token still works"
    );
});

// Several processes are possible on Postgres only.
postgres_only!(
    post_logout_ends_the_token_on_all_replicas_within_five_seconds,
    async |db| {
        let (api, replica) = (Api::on(db).await, Api::on(db).await);
        let app = application(&api).await;
        let path = format!("/app/{app}");
        let ended = token(&api, &app, json!({})).await;
        assert_eq!(status(&replica, &ended, "GET", &path).await, 200);
        api.call(&ended, "POST", "/auth/logout", &[], "").await.expect(204);
        replica.rig.clock.advance(Duration::from_secs(5));
        assert_eq!(status(&replica, &ended, "GET", &path).await, 401);
    }
);

both!(
    post_logout_with_an_organizations_token_answers_204_and_ends_nothing,
    async |db| {
        let api = Api::on(db).await;
        for token in [api.token.as_str(), ADMIN] {
            api.call(token, "POST", "/auth/logout", &[], "").await.expect(204);
            api.rig.clock.advance(Duration::from_secs(5));
            assert_eq!(status(&api, token, "GET", "/app").await, 200);
        }
        api.call("pr_unknown", "POST", "/auth/logout", &[], "")
            .await
            .refused(401, "authentication_failed");
    }
);

both!(get_auth_token_tells_what_the_token_may_do, async |db| {
    let api = Api::on(db).await;
    let app = application(&api).await;
    let limited = json!({"expiry": 3600, "featureFlags": ["beta"], "capabilities": ["CreateAttempts"]});
    let token = token(&api, &app, limited).await;
    let answer = api.call(&token, "GET", "/auth/token", &[], "").await;
    let expected = json!({
        "applicationId": app, "featureFlags": ["beta"], "capabilities": ["ViewBase", "CreateAttempts"],
        "expiresAt": "2026-01-01T01:00:00.000000Z",
    });
    assert_eq!(answer.expect(200), &expected);
    let own = api.get("/auth/token").await;
    let all = json!({"applicationId": null, "featureFlags": null, "capabilities": null, "expiresAt": null});
    assert_eq!(own.expect(200), &all);
    api.delete(&format!("/app/{app}")).await.expect(204);
    assert_eq!(status(&api, &token, "GET", "/auth/token").await, 404);
    assert_eq!(status(&api, &token, "POST", "/auth/logout").await, 404);
});

both!(tokens_of_applications_are_removed_a_day_after_their_end, async |db| {
    let mut api = Api::on(db).await;
    let app = application(&api).await;
    for expiry in [3600, 7200, 604_800] {
        token(&api, &app, json!({"expiry": expiry})).await;
    }
    api.token_of(&app).await;
    let hour = Duration::from_secs(3600);
    for (hours, left) in [(24, 4), (1, 3), (1, 2), (24 * 7, 1)] {
        api.rig.clock.advance(hour * hours);
        api.rig.prune().await;
        assert_eq!(
            api.rig.count("api_token where app_id is not null").await,
            left,
            "after {hours} hours"
        );
    }
});
