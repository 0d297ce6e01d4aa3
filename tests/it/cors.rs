//! Pages of other origins call the API from a browser. `.ci/cors.py` does it in a real one.

use poem::Request;
use poem::http::HeaderMap;
use postrider::api::ApiState;
use serde_json::Value;

use crate::api::{Answer, Api};
use crate::harness::{Proxy, Shape};

const PAGE: (&str, &str) = ("origin", "https://portal.example");

/// Sends what a browser sends, without a token, before a page's request with this method.
async fn preflight(api: &Api, method: &str, path: &str) -> Answer {
    let request = Request::builder()
        .method(poem::http::Method::OPTIONS)
        .uri_str(path)
        .header(PAGE.0, PAGE.1)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", "authorization,content-type");
    api.send(request.finish()).await
}

/// Asserts that a page of any origin may read a response.
#[track_caller]
fn is_readable(headers: &HeaderMap) {
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-expose-headers", "retry-after, x-request-id"),
    ] {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{headers:?}");
    }
    assert!(!headers.contains_key("access-control-allow-credentials"), "{headers:?}");
}

/// Returns how many headers for browsers a response has.
fn count(headers: &HeaderMap) -> usize {
    let names = headers.keys();
    names
        .filter(|name| name.as_str().starts_with("access-control-"))
        .count()
}

both!(a_browser_may_ask_without_a_token_for_every_operation, async |db| {
    let api = Api::on(db).await;
    let document: Value = serde_json::from_str(&postrider::api::document()).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let answer = preflight(&api, &method.to_uppercase(), path).await;
            assert_eq!((answer.status.as_u16(), &*answer.text), (204, ""), "{method} {path}");
            is_readable(&answer.headers);
            for (name, value) in [
                ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE"),
                (
                    "access-control-allow-headers",
                    "authorization, content-type, idempotency-key, svix-req-id, svix-retry-count, user-agent, x-request-id",
                ),
                ("access-control-max-age", "7200"),
            ] {
                assert_eq!(answer.headers[name], value, "{method} {path}");
            }
        }
    }
});

both!(a_request_with_the_method_options_alone_is_a_405, async |db| {
    let api = Api::on(db).await;
    for headers in [&[PAGE][..], &[("access-control-request-method", "GET")]] {
        let answer = api.call(&api.token, "OPTIONS", "/app", headers, "").await;
        answer.refused(405, "method_not_allowed");
        assert_eq!(answer.headers["allow"], "GET, HEAD, POST");
    }
});

both!(a_page_of_another_origin_may_read_every_response, async |db| {
    let api = Api::on(db).await;
    let large = format!(r#"{{"name": "{}"}}"#, "x".repeat(3 << 20));
    let limited = api.token_of(&api.application("limited").await).await;
    for (token, method, path, body, status) in [
        (&*api.token, "POST", "/app", r#"{"name": "a", "uid": "a"}"#, 201),
        (&api.token, "GET", "/app/a", "", 200),
        (
            &api.token,
            "POST",
            "/app/a/msg",
            r#"{"eventType": "t", "payload": {}}"#,
            202,
        ),
        (&api.token, "GET", "/openapi.json", "", 200),
        (&api.token, "GET", "/app?limit=x", "", 400),
        ("no token", "POST", "/app", "{}", 401),
        (&limited, "POST", "/app", "{}", 403),
        (&api.token, "GET", "/app/none", "", 404),
        (&api.token, "GET", "/no-such-route", "", 404),
        (&api.token, "PUT", "/app", "{}", 405),
        (&api.token, "POST", "/app", r#"{"name": "a", "uid": "a"}"#, 409),
        (&api.token, "POST", "/app", &large, 413),
        (&api.token, "POST", "/app", "{", 422),
        (&api.token, "GET", "/environment/export", "", 501),
        (&api.token, "DELETE", "/app/a", "", 204),
    ] {
        let answer = api.call(token, method, path, &[PAGE], body).await;
        answer.expect(status);
        is_readable(&answer.headers);
    }
});

postgres_only!(a_page_may_read_that_the_database_is_away, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let url = Some(proxy.url(db.url()));
    let shape = Shape {
        url,
        ..Shape::default()
    };
    let api = Api::shaped(db, shape, ApiState::BODY_DEADLINE).await;
    proxy.lead_to("postgresql://127.0.0.1:1/nowhere").await;
    proxy.cut();
    let answer = api.call(&api.token, "GET", "/app", &[PAGE], "").await;
    answer.refused(503, "unavailable");
    is_readable(&answer.headers);
    assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
});

both!(
    responses_to_other_programs_and_pages_beside_the_api_have_no_such_headers,
    async |db| {
        let api = Api::on(db).await;
        let answer = api.get("/app").await;
        answer.expect(200);
        assert_eq!(count(&answer.headers), 0, "{:?}", answer.headers);
        for path in ["/docs", "/portal", "/livez", "/metrics", "/none"] {
            let page = api.fetch(path, &[PAGE]).await;
            assert_eq!(page.header("access-control-allow-origin"), "", "{path}");
            let answer = preflight(&api, "GET", path).await;
            assert!(
                [404, 405].contains(&answer.status.as_u16()),
                "{path}: {}",
                answer.status
            );
            assert_eq!(count(&answer.headers), 0, "{path}: {:?}", answer.headers);
        }
    }
);
