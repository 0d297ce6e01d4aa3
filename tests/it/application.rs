//! Applications through the API: create, read, replace, change, delete, list; idempotency keys.

use serde_json::{Value, json};

use crate::api::Api;

both!(an_application_is_created_and_read_back_by_id_and_uid, async |db| {
    let api = Api::on(db).await;
    let body = json!({"name": "Acme", "uid": "acme-1", "throttleRate": 10, "metadata": {"plan": "gold"}, "more": [1]});
    let made = api.post("/app", body).await;
    let made = made.expect(201);
    assert!(made["id"].as_str().unwrap().starts_with("app_"));
    assert_eq!((&made["name"], &made["uid"]), (&json!("Acme"), &json!("acme-1")));
    assert_eq!((&made["throttleRate"], &made["rateLimit"]), (&json!(10), &json!(10)));
    assert_eq!(made["metadata"], json!({"plan": "gold"}));
    assert_eq!(made["createdAt"], "2026-01-01T00:00:00.000000Z");
    for name in [made["id"].as_str().unwrap(), "acme-1"] {
        assert_eq!(api.get(&format!("/app/{name}")).await.expect(200), made);
    }
    assert_eq!(
        api.get("/app/acme-1/").await.expect(200),
        made,
        "a trailing slash is allowed"
    );
});

both!(a_uid_is_taken_once_and_free_after_deletion, async |db| {
    let api = Api::on(db).await;
    let first = api.post("/app", json!({"name": "a", "uid": "x"})).await;
    let first = first.expect(201)["id"].clone();
    api.post("/app", json!({"name": "b", "uid": "x"}))
        .await
        .refused(409, "conflict");
    let same = api
        .post("/app?get_if_exists=true", json!({"name": "b", "uid": "x"}))
        .await;
    assert_eq!((&same.expect(200)["id"], &same.json["name"]), (&first, &json!("a")));
    api.delete("/app/x").await.expect(204);
    api.get("/app/x").await.refused(404, "not_found");
    api.get(&format!("/app/{}", first.as_str().unwrap()))
        .await
        .refused(404, "not_found");
    let second = api.post("/app", json!({"name": "b", "uid": "x"})).await;
    assert_ne!(second.expect(201)["id"], first);
});

both!(put_replaces_everything_or_creates, async |db| {
    let api = Api::on(db).await;
    let made = api
        .put(
            "/app/unknown",
            json!({"name": "n", "uid": "own", "metadata": {"a": "b"}}),
        )
        .await;
    assert_eq!(made.expect(201)["uid"], "own", "the path's name is not taken as uid");
    let id = made.json["id"].as_str().unwrap();
    let replaced = api.put("/app/own", json!({"name": "m", "rateLimit": 5})).await;
    let replaced = replaced.expect(200);
    assert_eq!(replaced["id"], id);
    assert_eq!((&replaced["uid"], &replaced["metadata"]), (&Value::Null, &json!({})));
    assert_eq!(replaced["throttleRate"], 5);
    api.post("/app", json!({"name": "o", "uid": "taken"})).await.expect(201);
    api.put(&format!("/app/{id}"), json!({"name": "m", "uid": "taken"}))
        .await
        .refused(409, "conflict");
});

both!(patch_keeps_what_is_absent_and_clears_what_is_null, async |db| {
    let api = Api::on(db).await;
    let body = json!({"name": "n", "uid": "u", "throttleRate": 9, "metadata": {"a": "1", "b": "2"}});
    api.post("/app", body).await.expect(201);
    let kept = api.patch("/app/u", json!({})).await;
    assert_eq!(
        (&kept.expect(200)["name"], &kept.json["throttleRate"]),
        (&json!("n"), &json!(9))
    );
    let changed = api
        .patch("/app/u", json!({"throttleRate": null, "metadata": {"c": "3"}}))
        .await;
    assert_eq!(
        (&changed.expect(200)["throttleRate"], &changed.json["metadata"]),
        (&Value::Null, &json!({"c": "3"}))
    );
    let cleared = api.patch("/app/u", json!({"uid": null, "name": "m"})).await;
    assert_eq!(
        (&cleared.expect(200)["uid"], &cleared.json["name"]),
        (&Value::Null, &json!("m"))
    );
    let id = cleared.json["id"].as_str().unwrap();
    api.patch(&format!("/app/{id}"), json!({"name": null}))
        .await
        .breaks_rule_at("body.name");
    api.patch("/app/u", json!({"name": "x"}))
        .await
        .refused(404, "not_found");
});

both!(an_idempotency_key_creates_once, async |db| {
    let api = Api::on(db).await;
    let first = api.post_once("/app", "k1", json!({"name": "a"})).await;
    let again = api.post_once("/app", "k1", json!({"name": "a"})).await;
    assert_eq!((first.status, &first.text), (again.status, &again.text));
    let other = api.post_once("/app", "k2", json!({"name": "a"})).await;
    assert_ne!(other.expect(201)["id"], first.json["id"]);
    let other_uri = api
        .post_once("/app?get_if_exists=true", "k1", json!({"name": "a"}))
        .await;
    assert_ne!(
        other_uri.expect(201)["id"],
        first.json["id"],
        "the URI belongs to the key"
    );
    assert_eq!(api.get("/app").await.expect(200)["data"].as_array().unwrap().len(), 3);
});

both!(a_refused_request_frees_its_idempotency_key, async |db| {
    let api = Api::on(db).await;
    api.post("/app", json!({"name": "a", "uid": "x"})).await.expect(201);
    api.post_once("/app", "k", json!({"name": "b", "uid": "x"}))
        .await
        .refused(409, "conflict");
    api.delete("/app/x").await.expect(204);
    let made = api.post_once("/app", "k", json!({"name": "b", "uid": "x"})).await;
    assert_eq!(made.expect(201)["name"], "b");
});

both!(applications_are_listed_in_pages_both_ways, async |db| {
    let api = Api::on(db).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(json!(api.application(&format!("app {n}")).await));
    }
    let listed: Vec<_> = api.walk("/app", 2).await.iter().map(|app| app["id"].clone()).collect();
    assert_eq!(listed, ids, "oldest first");
    let down: Vec<_> = api
        .walk("/app?order=descending", 2)
        .await
        .iter()
        .map(|app| app["id"].clone())
        .collect();
    assert!(down.iter().eq(ids.iter().rev()));
    let second = api
        .get(&format!("/app?limit=2&iterator={}", ids[1].as_str().unwrap()))
        .await;
    let second = second.expect(200).clone();
    assert_eq!((&second["data"][0]["id"], &second["done"]), (&ids[2], &json!(false)));
    let back = api
        .get(&format!(
            "/app?limit=2&iterator={}",
            second["prevIterator"].as_str().unwrap()
        ))
        .await;
    let back = back.expect(200);
    assert_eq!(
        (&back["data"][0]["id"], &back["data"][1]["id"]),
        (&ids[0], &ids[1]),
        "a page before an iterator has the list's order"
    );
    assert_eq!(back["done"], true, "there is nothing before this page");
});

both!(get_if_exists_at_once_creates_one, async |db| {
    let api = Api::on(db).await;
    let body = json!({"name": "a", "uid": "x"});
    let requests = (0..8).map(|_| api.post("/app?get_if_exists=true", body.clone()));
    let answers = futures_util::future::join_all(requests).await;
    let ids: Vec<_> = answers.iter().map(|answer| answer.field("id")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 201]);
});
