//! Access by token: without a token, with a wrong one, with tokens of an organization, of an application, and of the
//! admin.

use poem::Request;
use serde_json::json;
use std::time::Duration;

use postrider::domain::role::Role;
use postrider::domain::token::hash;
use postrider::service::token::{Grant, record_uses, record_uses_until};
use tokio_util::sync::CancellationToken;

use crate::api::{ADMIN, Api, BY_HAND};
use crate::harness::{DEADLINE, START, rows, within};

both!(a_request_without_a_good_token_is_refused, async |db| {
    let api = Api::on(db).await;
    let good = format!("Bearer {}", api.token);
    for header in [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer pr_wrong",
        &good[..good.len() - 1],
        &good[7..],
    ] {
        let request = Request::builder()
            .uri_str("/api/v1/app")
            .header("authorization", header)
            .finish();
        let answer = api.send(request).await;
        answer.refused(401, "authentication_failed");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    api.send(Request::builder().uri_str("/api/v1/app").finish())
        .await
        .refused(401, "authentication_failed");
});

both!(the_token_is_looked_at_before_the_body, async |db| {
    let api = Api::on(db).await;
    api.call("pr_wrong", "POST", "/app", &[], "no json")
        .await
        .refused(401, "authentication_failed");
});

both!(the_scheme_is_read_in_any_case, async |db| {
    let api = Api::on(db).await;
    let header = format!("bearer {}", api.token);
    let request = Request::builder()
        .uri_str("/api/v1/app")
        .header("authorization", header)
        .finish();
    api.send(request).await.expect(200);
});

both!(the_admin_token_acts_for_its_organization, async |db| {
    let api = Api::on(db).await;
    let id = api.application("mine").await;
    assert_eq!(
        api.call(ADMIN, "GET", &format!("/app/{id}"), &[], "").await.expect(200)["id"],
        id.as_str()
    );
});

both!(another_organization_sees_nothing, async |db| {
    let api = Api::on(db).await;
    let id = api.application("mine").await;
    let stranger = api.stranger().await;
    for method in ["GET", "DELETE"] {
        api.call(&stranger, method, &format!("/app/{id}"), &[], "")
            .await
            .refused(404, "not_found");
    }
    assert_eq!(
        api.call(&stranger, "GET", "/app", &[], "").await.expect(200)["data"],
        json!([])
    );
});

both!(an_applications_token_is_for_that_application_alone, async |db| {
    let api = Api::on(db).await;
    let (own, other) = (api.application("own").await, api.application("other").await);
    let token = api.token_of(&own).await;
    assert_eq!(
        api.call(&token, "GET", &format!("/app/{own}"), &[], "")
            .await
            .expect(200)["id"],
        own.as_str()
    );
    api.call(&token, "GET", &format!("/app/{other}"), &[], "")
        .await
        .refused(404, "not_found");
    for (method, path) in [("GET", "/app"), ("POST", "/app")] {
        api.call(&token, method, path, &[], "{}")
            .await
            .refused(403, "insufficient access");
    }
    for method in ["PUT", "PATCH", "DELETE"] {
        api.call(&token, method, &format!("/app/{own}"), &[], "{}")
            .await
            .refused(403, "insufficient access");
    }
});

both!(the_token_of_a_deleted_application_finds_nothing, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let token = api.token_of(&app).await;
    api.post("/event-type", json!({"name": "t", "description": ""}))
        .await
        .expect(201);
    let paths = [
        "/event-type".to_owned(),
        "/event-type/t".to_owned(),
        format!("/app/{app}"),
    ];
    for path in &paths {
        api.call(&token, "GET", path, &[], "").await.expect(200);
    }
    api.delete(&format!("/app/{app}")).await.expect(204);
    for path in &paths {
        api.call(&token, "GET", path, &[], "").await.refused(404, "not_found");
    }
});

both!(a_revoked_token_works_no_longer_than_five_seconds, async |db| {
    let api = Api::on(db).await;
    let made = postrider::service::token::create(&api.rig.store, &BY_HAND, &api.org_id, Grant::default()).await;
    let (text, row) = made.unwrap();
    api.call(&text, "GET", "/app", &[], "").await.expect(200);
    postrider::service::token::revoke(&api.rig.store, &BY_HAND, &row.id)
        .await
        .unwrap();
    api.rig.clock.advance(Duration::from_secs(5));
    api.call(&text, "GET", "/app", &[], "")
        .await
        .refused(401, "authentication_failed");
});

both!(an_expired_token_is_refused_at_once, async |db| {
    let api = Api::on(db).await;
    let end = api.rig.clock.now().plus(Duration::from_secs(1));
    let grant = Grant {
        expires_at: Some(end),
        ..Grant::default()
    };
    let text = api.token(grant).await;
    api.call(&text, "GET", "/app", &[], "").await.expect(200);
    api.rig.clock.advance(Duration::from_secs(1));
    api.call(&text, "GET", "/app", &[], "")
        .await
        .refused(401, "authentication_failed");
});

both!(the_last_use_of_a_token_is_kept_to_the_minute, async |db| {
    let api = Api::on(db).await;
    let store = &api.rig.store;
    let used_at = async || {
        let found = rows(&api.rig.db, "select last_used_at from api_token").await;
        let at: Option<i64> = found[0].try_get("", "last_used_at").unwrap();
        at.map(|at| at - START.unix_micros())
    };
    record_uses(store).await.unwrap();
    assert_eq!(used_at().await, None);
    for (after, minute) in [(90, 60), (20, 60), (20, 120)] {
        api.rig.advance(after);
        api.get("/app").await.expect(200);
        record_uses(store).await.unwrap();
        assert_eq!(used_at().await, Some(minute * 1_000_000));
    }
    api.rig.advance(10);
    api.get("/app").await.expect(200);
    assert_eq!(store.token_uses().take(), [], "the minute is recorded already");
});

both!(uses_of_tokens_are_recorded_every_minute_and_at_the_stop, async |db| {
    let api = Api::on(db).await;
    let stop = CancellationToken::new();
    let recording = tokio::spawn(record_uses_until(api.rig.store.for_background(), stop.clone()));
    let recorded = async || api.rig.count("api_token where last_used_at is not null").await;
    api.get("/app").await.expect(200);
    within(DEADLINE, "the use is recorded", async || {
        api.rig.advance(60);
        (recorded().await == 1).then_some(())
    })
    .await;
    let other = api.token(Grant::default()).await;
    api.call(&other, "GET", "/app", &[], "").await.expect(200);
    stop.cancel();
    recording.await.unwrap();
    assert_eq!(recorded().await, 2);
});

both!(
    a_token_with_a_role_is_unknown_to_versions_from_before_roles,
    async |db| {
        let api = Api::on(db).await;
        let grant = Grant {
            role: Role::Viewer,
            ..Grant::default()
        };
        let viewer = api.token(grant).await;
        api.call(&viewer, "GET", "/app", &[], "").await.expect(200);
        let found_before = async |token: &str| {
            let found_by = format!("api_token where hash = '{}'", hash(token));
            api.rig.count(&found_by).await
        };
        assert_eq!((found_before(&api.token).await, found_before(&viewer).await), (1, 0));
    }
);

both!(health_needs_no_token, async |db| {
    let api = Api::on(db).await;
    for (path, status) in [
        ("/api/v1/health", 200),
        ("/api/v1/health/ping", 204),
        ("/api/v1/health/", 200),
    ] {
        api.send(Request::builder().uri_str(path).finish()).await.expect(status);
        let head = Request::builder()
            .method(poem::http::Method::HEAD)
            .uri_str(path)
            .finish();
        assert_eq!(api.send(head).await.text, "");
    }
});
