//! Event types through the API.

use serde_json::{Value, json};

use crate::api::Api;

fn schemas() -> Value {
    json!({"1": {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}}})
}

both!(an_event_type_is_created_and_read_back, async |db| {
    let api = Api::on(db).await;
    let body = json!({"name": "user.created", "description": "", "schemas": schemas(), "featureFlag": "beta"});
    let made = api.post("/event-type", body).await;
    let made = made.expect(201);
    assert_eq!(made["schemas"], schemas());
    assert_eq!((&made["archived"], &made["deprecated"]), (&json!(false), &json!(false)));
    assert_eq!(made["featureFlag"], "beta");
    assert_eq!(api.get("/event-type/user.created").await.expect(200), made);
    let again = json!({"name": "user.created", "description": "d"});
    api.post("/event-type", again).await.refused(409, "event_type_exists");
    api.get("/event-type/other").await.refused(404, "not_found");
});

both!(schemas_are_kept_as_they_came, async |db| {
    let api = Api::on(db).await;
    let schemas = r#"{"1":{"type":"object","examples":[{"total":1.10,"id":12345678901234567890}],"maximum":1.0}}"#;
    let token = api.token.clone();
    let body = format!(r#"{{"name": "a", "description": "", "schemas": {schemas}}}"#);
    let made = api.call(&token, "POST", "/event-type", &[], &body).await;
    made.expect(201);
    for answer in [made, api.get("/event-type/a").await] {
        assert!(answer.text.contains(schemas), "{}", answer.text);
    }
    let app = api.application("app").await;
    let endpoint = json!({"url": "http://127.0.0.1:1/", "uid": "e"});
    api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
    let path = format!("/app/{app}/endpoint/e/send-example");
    let sent = api.post(&path, json!({"eventType": "a"})).await;
    sent.expect(202);
    let example = r#""payload":{"total":1.10,"id":12345678901234567890}"#;
    assert!(sent.text.contains(example), "{}", sent.text);
});

both!(deleting_archives_and_creating_brings_back, async |db| {
    let api = Api::on(db).await;
    api.post("/event-type", json!({"name": "a", "description": "first"}))
        .await
        .expect(201);
    api.delete("/event-type/a").await.expect(204);
    assert_eq!(
        api.get("/event-type/a").await.expect(200)["archived"],
        true,
        "an archived event type can still be read"
    );
    assert_eq!(api.get("/event-type").await.expect(200)["data"], json!([]));
    let archived = api.get("/event-type?include_archived=true").await;
    assert_eq!(archived.expect(200)["data"][0]["name"], "a");
    let back = api
        .post("/event-type", json!({"name": "a", "description": "second"}))
        .await;
    assert_eq!(
        (&back.expect(201)["description"], &back.json["archived"]),
        (&json!("second"), &json!(false))
    );
});

both!(expunging_removes_for_good, async |db| {
    let api = Api::on(db).await;
    api.post("/event-type", json!({"name": "a", "description": ""}))
        .await
        .expect(201);
    api.delete("/event-type/a?expunge=true").await.expect(204);
    api.get("/event-type/a").await.refused(404, "not_found");
    api.delete("/event-type/a").await.refused(404, "not_found");
    api.delete("/event-type/a?expunge=true").await.refused(404, "not_found");
});

both!(an_event_type_is_replaced_or_created_by_put, async |db| {
    let api = Api::on(db).await;
    let made = api
        .put(
            "/event-type/a",
            json!({"description": "d", "schemas": schemas(), "deprecated": true}),
        )
        .await;
    assert_eq!(
        (&made.expect(201)["name"], &made.json["deprecated"]),
        (&json!("a"), &json!(true))
    );
    let replaced = api.put("/event-type/a", json!({"description": "e"})).await;
    assert_eq!(
        (&replaced.expect(200)["schemas"], &replaced.json["deprecated"]),
        (&Value::Null, &json!(false))
    );
});

both!(an_event_type_is_patched, async |db| {
    let api = Api::on(db).await;
    api.put(
        "/event-type/a",
        json!({"description": "d", "schemas": schemas(), "featureFlag": "f"}),
    )
    .await
    .expect(201);
    let kept = api.patch("/event-type/a", json!({"description": "e"})).await;
    assert_eq!(
        (&kept.expect(200)["schemas"], &kept.json["featureFlag"]),
        (&schemas(), &json!("f"))
    );
    let cleared = api
        .patch(
            "/event-type/a",
            json!({"schemas": null, "featureFlag": null, "archived": true}),
        )
        .await;
    assert_eq!(
        (&cleared.expect(200)["schemas"], &cleared.json["featureFlag"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&cleared.json["archived"], &cleared.json["description"]),
        (&json!(true), &json!("e"))
    );
    api.patch("/event-type/a", json!({"archived": null}))
        .await
        .breaks_rule_at("body.archived");
    api.patch("/event-type/b", json!({})).await.refused(404, "not_found");
});

both!(
    event_types_are_listed_by_name_and_without_content_unless_asked,
    async |db| {
        let api = Api::on(db).await;
        for name in ["b", "a.z", "B", "a", "a_z", "c"] {
            let body = json!({"name": name, "description": "", "schemas": schemas()});
            api.post("/event-type", body).await.expect(201);
        }
        let listed = api.walk("/event-type", 2).await;
        let names: Vec<_> = listed
            .iter()
            .map(|event_type| event_type["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            ["B", "a", "a.z", "a_z", "b", "c"],
            "sorted by bytes on every database"
        );
        assert_eq!(listed[0]["schemas"], Value::Null);
        let full = api.get("/event-type?with_content=true&order=descending").await;
        assert_eq!(
            (&full.expect(200)["data"][0]["schemas"], &full.json["data"][0]["name"]),
            (&schemas(), &json!("B"))
        );
        let page = api.get("/event-type?limit=2&iterator=-b").await;
        let page: Vec<_> = page.expect(200)["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event_type| event_type["name"].clone())
            .collect();
        assert_eq!(page, ["a.z", "a_z"]);
    }
);

both!(an_application_token_reads_event_types_only, async |db| {
    let api = Api::on(db).await;
    api.post("/event-type", json!({"name": "a", "description": ""}))
        .await
        .expect(201);
    let app = api.application("app").await;
    let token = api.token_of(&app).await;
    for path in ["/event-type", "/event-type/a"] {
        api.call(&token, "GET", path, &[], "").await.expect(200);
    }
    for (method, path) in [
        ("POST", "/event-type"),
        ("PUT", "/event-type/a"),
        ("PATCH", "/event-type/a"),
        ("DELETE", "/event-type/a"),
    ] {
        api.call(&token, method, path, &[], "{}")
            .await
            .refused(403, "insufficient access");
    }
});
