//! Tokens of an organization over REST: made, listed, changed and revoked by admins, and the last admin that stays.

use std::time::Duration;

use postrider::domain::role::Role;
use postrider::service::token::{Grant, record_uses};
use serde_json::{Value, json};

use crate::api::{ADMIN, Answer, Api};
use crate::harness::rows;

/// Makes a token and returns its id and the token.
async fn made(api: &Api, body: Value) -> (String, String) {
    let made = api.post("/token", body).await;
    made.expect(201);
    (made.field("id"), made.field("token"))
}

async fn status(api: &Api, token: &str, path: &str) -> u16 {
    api.call(token, "GET", path, &[], "").await.status.as_u16()
}

/// Makes all later calls as an organization that has no configured token, with its only token. Returns the id of that.
async fn with_one_admin(api: Api) -> (Api, String) {
    let api = api.acting_for("alone").await;
    let own = api.get("/auth/whoami").await.field("tokenId");
    (api, own)
}

both!(post_token_makes_one_that_is_shown_once, async |db| {
    let api = Api::on(db).await;
    let own = api.get("/auth/whoami").await.field("tokenId");
    let body = json!({"name": "CI", "role": "viewer", "expiresAt": "2026-02-01T01:00:00+01:00"});
    let answer = api.post("/token", body).await;
    let mut shown = answer.expect(201).clone();
    let token = answer.field("token");
    shown.as_object_mut().unwrap().remove("token");
    let expected = json!({
        "id": answer.field("id"), "name": "CI", "role": "viewer", "createdAt": "2026-01-01T00:00:00.000000Z",
        "expiresAt": "2026-02-01T00:00:00.000000Z", "lastUsedAt": null, "createdBy": own,
    });
    assert_eq!(shown, expected);
    assert_eq!(status(&api, &token, "/app").await, 200);
    assert_eq!(status(&api, &token, "/token").await, 403);
    let again = api.get(&format!("/token/{}", answer.field("id"))).await;
    assert_eq!(again.expect(200), &expected);
    assert!(!api.get_text("/token").await.contains(&token));
    api.rig.clock.advance(Duration::from_hours(31 * 24));
    assert_eq!(status(&api, &token, "/app").await, 401);
});

both!(post_token_checks_name_role_and_end, async |db| {
    let api = Api::on(db).await;
    for (change, place) in [
        (json!({"name": ""}), "body.name"),
        (json!({"name": " "}), "body.name"),
        (json!({"name": "a\nb"}), "body.name"),
        (json!({"name": "x".repeat(257)}), "body.name"),
        (json!({"name": null}), "body.name"),
        (json!({"role": "owner"}), "body.role"),
        (json!({"role": "portal"}), "body.role"),
        (json!({"role": null}), "body.role"),
        (json!({"expiresAt": "soon"}), "body.expiresAt"),
        (json!({"expiresAt": "2026-01-01T00:00:00Z"}), "body.expiresAt"),
    ] {
        let mut body = json!({"name": "n", "role": "viewer"});
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        api.post("/token", body).await.breaks_rule_at(place);
    }
    let (id, _) = made(&api, json!({"name": "n", "role": "viewer", "expiresAt": null})).await;
    let path = format!("/token/{id}");
    for (change, place) in [
        (json!({"name": null}), "body.name"),
        (json!({"name": ""}), "body.name"),
        (json!({"role": null}), "body.role"),
        (json!({"role": "Admin"}), "body.role"),
        (json!({"expiresAt": "2025-12-31T00:00:00Z"}), "body.expiresAt"),
    ] {
        api.patch(&path, change).await.breaks_rule_at(place);
    }
});

both!(
    post_token_is_answered_again_under_its_key_and_stored_sealed,
    async |db| {
        let api = Api::on(db).await;
        let body = json!({"name": "n", "role": "admin"});
        let first = api.post_once("/token", "key", body.clone()).await;
        let again = api.post_once("/token", "key", body).await;
        assert_eq!((first.expect(201), &first.text), (again.expect(201), &again.text));
        assert_eq!(api.rig.count("api_token").await, 2);
        let token = first.field("token");
        for (table, column) in [("idempotency", "reply"), ("api_token", "hash")] {
            for row in rows(&api.rig.db, &format!("select {column} as text from {table}")).await {
                let text: String = row.try_get("", "text").unwrap();
                assert!(!text.contains(&token), "{table}: {text}");
            }
        }
    }
);

both!(
    get_token_lists_the_organization_s_own_tokens_by_limit_iterator_and_order,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("app").await;
        api.token_of(&app).await;
        api.stranger().await;
        let (second, _) = made(&api, json!({"name": "second", "role": "viewer"})).await;
        let (gone, _) = made(&api, json!({"name": "gone", "role": "viewer"})).await;
        api.delete(&format!("/token/{gone}")).await.expect(204);
        let end = json!({"name": "third", "role": "sender", "expiresAt": "2026-01-01T00:00:01Z"});
        let (third, _) = made(&api, end).await;
        let own = api.get("/auth/whoami").await.field("tokenId");
        api.rig.clock.advance(Duration::from_secs(60));
        let ids = async |query: &str| -> Vec<String> {
            let all = api.walk(&format!("/token{query}"), 2).await;
            all.iter()
                .map(|token| token["id"].as_str().unwrap().to_owned())
                .collect()
        };
        let oldest_first = vec![own, second, third];
        let newest_first: Vec<_> = oldest_first.iter().rev().cloned().collect();
        assert_eq!(ids("").await, oldest_first);
        assert_eq!(ids("?order=descending").await, newest_first);
        api.get("/token?iterator=app_x").await.breaks_rule_at("query.iterator");
        api.get("/token?limit=251").await.breaks_rule_at("query.limit");
    }
);

both!(tokens_are_shown_to_admins_of_their_organization_alone, async |db| {
    let api = Api::on(db).await;
    let (id, _) = made(&api, json!({"name": "n", "role": "viewer"})).await;
    let app = api.application("app").await;
    let link = api.post(&format!("/auth/app-portal-access/{app}"), json!({})).await;
    let found = rows(&api.rig.db, "select id from api_token where app_id is not null").await;
    let of_link: String = found[0].try_get("", "id").unwrap();
    link.expect(200);
    let stranger = api.stranger().await;
    for (token, id) in [
        (&stranger, &id),
        (&api.token, &of_link),
        (&api.token, &"tok_none".to_owned()),
    ] {
        for method in ["GET", "PATCH", "DELETE"] {
            let path = format!("/token/{id}");
            api.call(token, method, &path, &[], r#"{"name": "x"}"#)
                .await
                .refused(404, "not_found");
        }
    }
    assert_eq!(api.get(&format!("/token/{id}")).await.expect(200)["name"], "n");
});

both!(patch_token_changes_name_role_and_end_at_once, async |db| {
    let api = Api::on(db).await;
    let (id, token) = made(&api, json!({"name": "n", "role": "viewer"})).await;
    let patch = async |body: Value| api.patch(&format!("/token/{id}"), body).await;
    assert_eq!(status(&api, &token, "/token").await, 403);
    for (role, tokens, applications) in [("admin", 200, 200), ("sender", 403, 403), ("operator", 403, 200)] {
        assert_eq!(patch(json!({"role": role})).await.expect(200)["role"], role);
        assert_eq!(status(&api, &token, "/token").await, tokens, "{role}");
        assert_eq!(status(&api, &token, "/app").await, applications, "{role}");
    }
    let named = patch(json!({"name": "m"})).await;
    assert_eq!(
        (&named.expect(200)["name"], &named.json["role"]),
        (&json!("m"), &json!("operator"))
    );
    patch(json!({"expiresAt": "2026-01-01T00:01:00Z"})).await.expect(200);
    api.rig.clock.advance(Duration::from_secs(60));
    assert_eq!(status(&api, &token, "/app").await, 401);
    assert_eq!(
        patch(json!({"expiresAt": null})).await.expect(200)["expiresAt"],
        Value::Null
    );
    assert_eq!(status(&api, &token, "/app").await, 200);
    assert_eq!(patch(json!({})).await.expect(200)["name"], "m");
});

both!(delete_token_revokes_it_at_once, async |db| {
    let api = Api::on(db).await;
    let (id, token) = made(&api, json!({"name": "n", "role": "viewer"})).await;
    assert_eq!(status(&api, &token, "/app").await, 200);
    api.delete(&format!("/token/{id}")).await.expect(204);
    assert_eq!(status(&api, &token, "/app").await, 401);
    api.get(&format!("/token/{id}")).await.refused(404, "not_found");
    api.delete(&format!("/token/{id}")).await.refused(404, "not_found");
});

both!(
    the_last_valid_admin_is_not_revoked_demoted_or_given_an_end,
    async |db| {
        let (api, own) = with_one_admin(Api::on(db).await).await;
        let path = format!("/token/{own}");
        let later = "2026-02-01T00:00:00Z";
        let answers = async || {
            [
                api.patch(&path, json!({"role": "viewer"})).await,
                api.patch(&path, json!({"name": "n", "expiresAt": later})).await,
                api.delete(&path).await,
            ]
        };
        // Tokens that are no admin's, or no longer one's, do not count.
        made(&api, json!({"name": "n", "role": "operator"})).await;
        let (gone, _) = made(&api, json!({"name": "n", "role": "admin"})).await;
        api.delete(&format!("/token/{gone}")).await.expect(204);
        let soon = json!({"name": "n", "role": "admin", "expiresAt": "2026-01-01T00:00:01Z"});
        made(&api, soon).await;
        api.rig.clock.advance(Duration::from_secs(1));
        for answer in answers().await {
            answer.refused(409, "conflict");
            assert!(answer.field("detail").contains("last valid token"), "{}", answer.text);
        }
        assert_eq!(
            api.get(&path).await.expect(200)["name"],
            Value::Null,
            "nothing was changed"
        );
        api.patch(&path, json!({"name": "n", "role": "admin", "expiresAt": null}))
            .await
            .expect(200);

        let (_, other) = made(&api, json!({"name": "n", "role": "admin"})).await;
        api.patch(&path, json!({"expiresAt": later})).await.expect(200);
        api.delete(&path).await.expect(204);
        assert_eq!(status(&api, &other, "/token").await, 200);
    }
);

both!(an_admin_s_end_may_be_put_off_though_it_is_the_last_one, async |db| {
    let (api, own) = with_one_admin(Api::on(db).await).await;
    let (other, token) = made(
        &api,
        json!({"name": "n", "role": "admin", "expiresAt": "2026-02-01T00:00:00Z"}),
    )
    .await;
    api.delete(&format!("/token/{own}")).await.expect(204);
    let patch = async |end: Value| {
        let body = json!({"expiresAt": end}).to_string();
        api.call(&token, "PATCH", &format!("/token/{other}"), &[], &body).await
    };
    patch(json!("2026-01-31T00:00:00Z")).await.refused(409, "conflict");
    patch(json!("2026-02-02T00:00:00Z")).await.expect(200);
    patch(Value::Null).await.expect(200);
});

both!(two_admins_that_revoke_each_other_at_once_leave_one, async |db| {
    let (api, own) = with_one_admin(Api::on(db).await).await;
    for _ in 0..5 {
        let (other, token) = made(&api, json!({"name": "n", "role": "admin"})).await;
        let (delete, patch) = (format!("/token/{other}"), format!("/token/{own}"));
        let (first, second): (Answer, Answer) = tokio::join!(
            api.delete(&delete),
            api.call(&token, "PATCH", &patch, &[], r#"{"role": "viewer"}"#)
        );
        let left = "api_token where role = 0 and revoked_at is null and app_id is null and org_id = ";
        assert_eq!(api.rig.count(&format!("{left}'{}'", api.org_id)).await, 1);
        if !first.status.is_success() {
            second.expect(200);
            return;
        }
        assert!([401, 409].contains(&second.status.as_u16()), "{}", second.text);
    }
});

both!(the_configured_token_counts_as_an_admin, async |db| {
    let api = Api::on(db).await;
    let own = api.get("/auth/whoami").await.field("tokenId");
    api.patch(&format!("/token/{own}"), json!({"role": "viewer"}))
        .await
        .expect(200);
    assert_eq!(status(&api, &api.token, "/token").await, 403);
    let made = api
        .call(ADMIN, "POST", "/token", &[], r#"{"name": "n", "role": "admin"}"#)
        .await;
    assert_eq!(made.expect(201)["createdBy"], "admin");
});

both!(a_last_use_is_shown, async |db| {
    let api = Api::on(db).await;
    let own = api.get("/auth/whoami").await.field("tokenId");
    record_uses(&api.rig.store).await.unwrap();
    let shown = api.get(&format!("/token/{own}")).await;
    assert_eq!(shown.expect(200)["lastUsedAt"], "2026-01-01T00:00:00.000000Z");
});

both!(get_whoami_says_whose_the_token_is, async |db| {
    let api = Api::on(db).await;
    let whoami = async |token: &str| api.call(token, "GET", "/auth/whoami", &[], "").await;
    let configured = whoami(ADMIN).await;
    assert_eq!(
        configured.expect(200),
        &json!({"organizationId": api.org_id, "tokenId": "admin", "name": "admin", "role": "admin", "expiresAt": null})
    );
    for role in [Role::Admin, Role::Operator, Role::Viewer] {
        let end = api.rig.clock.now().plus(Duration::from_secs(3600));
        let grant = Grant {
            name: Some("CI"),
            role,
            expires_at: Some(end),
            ..Grant::default()
        };
        let answer = whoami(&api.token(grant).await).await;
        let expected = json!({
            "organizationId": api.org_id, "tokenId": answer.field("tokenId"), "name": "CI", "role": role.name(),
            "expiresAt": "2026-01-01T01:00:00.000000Z",
        });
        assert_eq!(answer.expect(200), &expected);
    }
    let app = api.application("app").await;
    let path = format!("/auth/app-portal-access/{app}");
    let link = api
        .post(&path, json!({"readOnly": true, "expiry": 3600}))
        .await
        .field("token");
    let answer = whoami(&link).await;
    let expected = json!({
        "organizationId": api.org_id, "tokenId": answer.field("tokenId"), "name": null, "role": "portal", "appId": app,
        "capabilities": ["ViewBase"], "expiresAt": "2026-01-01T01:00:00.000000Z",
    });
    assert_eq!(answer.expect(200), &expected);
    api.delete(&format!("/app/{app}")).await.expect(204);
    whoami(&link).await.refused(404, "not_found");
});
