//! The API document: it is committed, follows its rules and is complete. Also the pages that show it.

use std::collections::BTreeSet;

use poem::Request;
use serde_json::Value;

use crate::api::Api;

fn document() -> Value {
    serde_json::from_str(&postrider::api::document()).expect("JSON")
}

/// Returns every operation with its method and path.
fn operations(document: &Value) -> Vec<(String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let each = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap();
        methods
            .iter()
            .map(move |(method, operation)| (format!("{method} {path}"), operation.clone()))
    });
    each.collect()
}

fn committed(name: &str) -> String {
    let path = format!("{}/openapi/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_default()
}

#[test]
fn the_committed_document_is_the_programs_own() {
    let same = committed("openapi.json") == postrider::api::document();
    assert!(same, "renew the file: cargo run -- openapi > openapi/openapi.json");
}

#[test]
fn every_operation_has_an_id_of_its_own_a_summary_and_a_tag() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"]
            .as_str()
            .unwrap_or_else(|| panic!("{name} has no id"));
        assert!(id.starts_with("v1."), "{name}: {id}");
        let plain: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
        assert!(
            ids.insert(plain),
            "{name}: another id differs from {id} in punctuation only"
        );
        assert!(
            operation["summary"].is_string() && operation["tags"].is_array(),
            "{name}"
        );
    }
    assert!(ids.len() >= 29, "{}", ids.len());
}

#[test]
fn every_failure_has_the_one_error_schema_and_every_body_one_media_type() {
    let document = document();
    for (name, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let Some(content) = response["content"].as_object() else {
                continue;
            };
            assert_eq!(
                content.keys().collect::<Vec<_>>(),
                ["application/json"],
                "{name} {status}"
            );
            if !status.starts_with('2') {
                let schema = &content["application/json"]["schema"];
                assert_eq!(schema["$ref"], "#/components/schemas/ErrorOut", "{name} {status}");
            }
        }
        if let Some(content) = operation["requestBody"]["content"].as_object() {
            assert_eq!(content.keys().collect::<Vec<_>>(), ["application/json"], "{name}");
        }
        let open = name.contains("/health") || name.ends_with("/console-session");
        assert_eq!(operation["security"].is_array(), !open, "{name}");
    }
}

#[test]
fn every_operation_with_a_token_says_which_roles_and_capabilities_may_call_it() {
    let roles = ["admin", "operator", "viewer", "sender"];
    for (name, operation) in operations(&document()) {
        let listed = operation["x-roles"].as_array();
        assert_eq!(listed.is_some(), operation["security"].is_array(), "{name}");
        for role in listed.into_iter().flatten() {
            let role = role.as_str().unwrap();
            assert!(roles.contains(&role), "{name}: {role}");
            let text = operation["description"].as_str().unwrap();
            assert!(text.contains(&format!("`{role}`")), "{name}: {text}");
        }
        let capabilities = operation["x-capabilities"].as_array();
        assert!(capabilities.is_none_or(|list| !list.is_empty()), "{name}");
    }
}

#[test]
fn only_posts_take_an_idempotency_key_and_all_of_them_do() {
    for (name, operation) in operations(&document()) {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let takes = parameters
            .iter()
            .any(|parameter| parameter["name"] == "idempotency-key" && parameter["in"] == "header");
        // A key belongs to a token, and this one brings a code that works once.
        let is_sign_in = name == "post /api/v1/auth/console-session";
        assert_eq!(takes, name.starts_with("post ") && !is_sign_in, "{name}");
    }
}

#[test]
fn requests_have_no_defaults_and_formats_are_signed() {
    let text = postrider::api::document();
    for word in [
        "\"default\": null",
        "uint",
        "charset",
        ".0,",
        "\"readOnly\": false",
        "\"writeOnly\": false",
    ] {
        assert!(!text.contains(word), "{word}");
    }
    assert_eq!(document()["openapi"], "3.0.3");
}

both!(
    the_document_and_its_pages_are_served_without_anything_inline,
    async |db| {
        let api = Api::on(db).await;
        let json = api.fetch("/openapi.json", &[]).await;
        assert_eq!(
            (json.header("content-type"), json.text()),
            ("application/json", postrider::api::document())
        );
        let yaml = api.fetch("/openapi.yaml", &[]).await;
        assert_eq!(yaml.status, 404, "JSON is YAML");
        let page = api.fetch("/docs", &[]).await;
        let html = page.text();
        assert!(page.header("content-type").starts_with("text/html"), "{html}");
        for inline in ["<script>", "<style", "style=", "onload", "://"] {
            assert!(!html.contains(inline), "{inline}: {html}");
        }
        let policy = page.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(api.fetch("/docs/", &[]).await.text(), html);
        for (path, media_type, word) in [
            ("/docs/ui.js", "text/javascript", "SwaggerUIBundle"),
            ("/docs/ui.css", "text/css", ".swagger-ui"),
            ("/docs/start.js", "text/javascript", "/openapi.json"),
        ] {
            assert!(html.contains(path), "{path}");
            let file = api.fetch(path, &[]).await;
            assert_eq!(file.header("content-type"), media_type);
            assert!(file.text().contains(word), "{path}");
        }
        let unknown = Request::builder().uri_str("/docs/other").finish();
        api.send(unknown).await.refused(404, "not_found");
    }
);

both!(the_document_is_below_the_api_s_path_too_for_anyone, async |db| {
    let api = Api::on(db).await;
    let json = api.fetch("/api/v1/openapi.json", &[]).await;
    assert_eq!(json.text(), postrider::api::document());
    assert_eq!(
        (json.header("content-type"), json.header("cache-control")),
        ("application/json", "no-store")
    );
    api.call(&api.token, "POST", "/openapi.json", &[], "{}")
        .await
        .refused(405, "method_not_allowed");
});
