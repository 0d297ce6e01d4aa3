//! Roles of an organization's tokens: what each may do beyond the table that tests/it/rights.rs holds, and what it sees.

use poem::http::StatusCode;
use postrider::domain::role::Role;
use postrider::service::token::Grant;
use serde_json::{Value, json};

use crate::api::{ADMIN, Answer, Api};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Creates a token with this role.
async fn with_role(api: &Api, role: Role) -> String {
    let grant = Grant {
        role,
        ..Grant::default()
    };
    api.token(grant).await
}

/// Creates the application `a` with the endpoint `e`, which has custom headers.
async fn prepared(api: &Api) {
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    let endpoint = json!({"url": "http://127.0.0.1:9/", "uid": "e", "secret": SECRET, "headers": {"X-Shop": "berlin", "X-Api-Key": "hidden"}});
    api.post("/app/a/endpoint", endpoint.clone()).await.expect(201);
    let operational = json!({"url": "http://127.0.0.1:9/", "uid": "o", "secret": SECRET});
    api.post("/operational-webhook/endpoint", operational).await.expect(201);
    let headers = json!({"headers": {"X-Shop": "berlin"}});
    api.put("/operational-webhook/endpoint/o/headers", headers)
        .await
        .expect(204);
}

#[track_caller]
fn refused(answer: &Answer, detail: &str) {
    answer.refused(403, "insufficient access");
    assert!(answer.field("detail").contains(detail), "{}", answer.text);
}

both!(tokens_without_a_role_and_the_configured_one_are_admin_s, async |db| {
    let api = Api::on(db).await;
    prepared(&api).await;
    for token in [ADMIN, api.token.as_str()] {
        let secret = api.call(token, "GET", "/app/a/endpoint/e/secret", &[], "").await;
        assert_eq!(secret.expect(200)["key"], SECRET);
    }
});

both!(
    an_operator_switches_endpoints_and_changes_nothing_else_of_them,
    async |db| {
        let api = Api::on(db).await;
        prepared(&api).await;
        let operator = with_role(&api, Role::Operator).await;
        let patch = async |body: Value| {
            let body = body.to_string();
            api.call(&operator, "PATCH", "/app/a/endpoint/e", &[], &body).await
        };
        for disabled in [true, false] {
            // Fields that no endpoint has are ignored, as for all callers.
            let done = patch(json!({"disabled": disabled, "version": 7})).await;
            assert_eq!(done.expect(200)["disabled"], disabled);
        }
        for (field, value) in [
            ("url", json!("http://127.0.0.1:1/")),
            ("description", json!("d")),
            ("uid", Value::Null),
            ("throttleRate", json!(1)),
            ("rateLimit", json!(1)),
            ("eventTypes", Value::Null),
            ("filterTypes", Value::Null),
            ("channels", json!(["c"])),
            ("metadata", json!({})),
        ] {
            refused(&patch(json!({field: value.clone()})).await, "`disabled`");
            refused(&patch(json!({"disabled": true, field: value})).await, "`disabled`");
        }
        refused(&patch(json!({})).await, "`disabled`");
        let endpoint = api.get("/app/a/endpoint/e").await;
        let endpoint = endpoint.expect(200);
        assert_eq!(
            (&endpoint["url"], &endpoint["disabled"]),
            (&json!("http://127.0.0.1:9/"), &json!(false))
        );
    }
);

#[test]
fn every_field_that_a_patch_of_an_endpoint_knows_is_tested_here() {
    let document: Value = serde_json::from_str(&postrider::api::document()).unwrap();
    let known = document["components"]["schemas"]["EndpointPatch"]["properties"].as_object();
    assert_eq!(known.unwrap().len(), 10);
}

both!(
    only_admins_see_secrets_and_a_viewer_sees_no_value_of_a_header,
    async |db| {
        let api = Api::on(db).await;
        prepared(&api).await;
        for (role, values) in [
            (Role::Admin, json!({"X-Shop": "berlin"})),
            (Role::Operator, json!({"X-Shop": "berlin"})),
            (Role::Viewer, json!({})),
        ] {
            let token = with_role(&api, role).await;
            for endpoint in ["/app/a/endpoint/e", "/operational-webhook/endpoint/o"] {
                let headers = api.call(&token, "GET", &format!("{endpoint}/headers"), &[], "").await;
                assert_eq!(headers.expect(200)["headers"], values, "{role:?} {endpoint}");
                assert!(!headers.text.contains("hidden"));
                let secret = api.call(&token, "GET", &format!("{endpoint}/secret"), &[], "").await;
                match role {
                    Role::Admin => assert_eq!(secret.expect(200)["key"], SECRET),
                    _ => refused(&secret, "this needs a token with the role admin"),
                }
            }
        }
    }
);

both!(
    links_of_operators_and_viewers_only_read_and_show_no_secrets,
    async |db| {
        let api = Api::on(db).await;
        prepared(&api).await;
        for role in [Role::Operator, Role::Viewer] {
            let token = with_role(&api, role).await;
            let open = async |path: &str, body: Value| {
                let body = body.to_string();
                api.call(&token, "POST", &format!("/auth/{path}"), &[], &body).await
            };
            for (path, body) in [
                ("app-portal-access/a", json!({})),
                ("app-portal-access/a", json!({"readOnly": false})),
                ("app-portal-access/a", json!({"capabilities": ["ViewBase"]})),
                ("dashboard-access/a", json!({})),
            ] {
                let link = open(path, body).await.field("token");
                let may = api.call(&link, "GET", "/auth/token", &[], "").await;
                assert_eq!(may.expect(200)["capabilities"], json!(["ViewBase"]));
                api.call(&link, "GET", "/app/a/endpoint/e", &[], "").await.expect(200);
                for (method, path) in [
                    ("GET", "/app/a/endpoint/e/secret"),
                    ("PATCH", "/app/a/endpoint/e"),
                    ("POST", "/app/a/endpoint/e/recover"),
                ] {
                    api.call(&link, method, path, &[], "{}")
                        .await
                        .refused(403, "insufficient access");
                }
                let headers = api.call(&link, "GET", "/app/a/endpoint/e/headers", &[], "").await;
                assert_eq!(headers.expect(200)["headers"], json!({}));
            }
            for more in ["ViewEndpointSecret", "ManageEndpoint", "CreateAttempts"] {
                let body = json!({"readOnly": more == "ViewEndpointSecret", "capabilities": ["ViewBase", more]});
                refused(&open("app-portal-access/a", body).await, "ViewBase");
            }
            let brings = json!({"application": {"name": "New", "uid": "new"}});
            let made = open("app-portal-access/new", brings.clone()).await;
            refused(&made, "creates no application");
            api.get("/app/new").await.refused(404, "not_found");
            let unknown = open("app-portal-access/new", json!({})).await;
            unknown.refused(404, "not_found");
            let known = json!({"application": {"name": "Ignored", "uid": "a"}});
            open("app-portal-access/a", known).await.expect(200);
        }
    }
);

both!(a_sender_sends_to_applications_that_exist_and_creates_none, async |db| {
    let api = Api::on(db).await;
    prepared(&api).await;
    let sender = with_role(&api, Role::Sender).await;
    let send = async |app: &str, application: Value| {
        let body = json!({"eventType": "t", "payload": {}, "application": application}).to_string();
        api.call(&sender, "POST", &format!("/app/{app}/msg"), &[], &body).await
    };
    send("a", Value::Null).await.expect(202);
    send("a", json!({"name": "a", "uid": "a"})).await.expect(202);
    send("new", Value::Null).await.refused(404, "not_found");
    refused(
        &send("new", json!({"name": "n", "uid": "new"})).await,
        "creates no application",
    );
    api.get("/app/new").await.refused(404, "not_found");
    let admins = api.post(
        "/app/new/msg",
        json!({"eventType": "t", "payload": {}, "application": {"name": "n", "uid": "new"}}),
    );
    admins.await.expect(202);
    let list = api.call(&sender, "GET", "/app", &[], "").await;
    refused(&list, "this needs a token with the role admin or operator or viewer");
});

both!(a_role_is_refused_before_the_path_is_looked_at, async |db| {
    let api = Api::on(db).await;
    prepared(&api).await;
    let viewer = with_role(&api, Role::Viewer).await;
    let delete = async |path: &str| api.call(&viewer, "DELETE", path, &[], "").await;
    let (known, unknown) = (delete("/app/a").await, delete("/app/none").await);
    assert_eq!(known.status, StatusCode::FORBIDDEN);
    assert_eq!(known.text, unknown.text);
});
