//! Endpoints through the API, with their secrets and custom headers.

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::Shape;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const URL: &str = "https://example.com/hook";

both!(an_endpoint_is_created_with_both_generations_of_names, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    for name in ["a", "b"] {
        api.post("/event-type", json!({"name": name, "description": ""}))
            .await
            .expect(201);
    }
    let new = json!({
        "url": URL, "uid": "e1", "eventTypes": ["b", "a", "b"], "channels": ["x", "y", "x"], "throttleRate": 7,
        "metadata": {"k": "v"}, "description": "d", "version": 3,
    });
    let made = api.post(&format!("/app/{app}/endpoint"), new).await;
    let made = made.expect(201);
    assert!(made["id"].as_str().unwrap().starts_with("ep_"));
    for field in ["eventTypes", "filterTypes"] {
        assert_eq!(made[field], json!(["b", "a"]), "{field}");
    }
    for field in ["throttleRate", "rateLimit"] {
        assert_eq!(made[field], 7, "{field}");
    }
    assert_eq!((&made["channels"], &made["version"]), (&json!(["x", "y"]), &json!(1)));
    assert_eq!((&made["disabled"], &made["description"]), (&json!(false), &json!("d")));
    assert!(made.get("secret").is_none());
    for name in [made["id"].as_str().unwrap(), "e1"] {
        assert_eq!(api.get(&format!("/app/{app}/endpoint/{name}")).await.expect(200), made);
    }
    let old = json!({"url": URL, "filterTypes": ["a"], "rateLimit": 8, "version": 1});
    let old = api.post(&format!("/app/{app}/endpoint"), old).await;
    assert_eq!(
        (&old.expect(201)["eventTypes"], &old.json["throttleRate"]),
        (&json!(["a"]), &json!(8))
    );
});

both!(an_endpoint_belongs_to_its_application, async |db| {
    let api = Api::on(db).await;
    let (first, second) = (api.application("one").await, api.application("two").await);
    let made = api
        .post(&format!("/app/{first}/endpoint"), json!({"url": URL, "uid": "e"}))
        .await;
    let id = made.expect(201)["id"].as_str().unwrap().to_owned();
    for name in ["e", &id] {
        api.get(&format!("/app/{second}/endpoint/{name}"))
            .await
            .refused(404, "not_found");
        api.delete(&format!("/app/{second}/endpoint/{name}"))
            .await
            .refused(404, "not_found");
    }
    api.post(&format!("/app/{second}/endpoint"), json!({"url": URL, "uid": "e"}))
        .await
        .expect(201);
    api.post(&format!("/app/{first}/endpoint"), json!({"url": URL, "uid": "e"}))
        .await
        .refused(409, "conflict");
    api.delete(&format!("/app/{first}")).await.expect(204);
    api.get(&format!("/app/{first}/endpoint/{id}"))
        .await
        .refused(404, "not_found");
});

both!(an_event_type_filter_names_existing_types_only, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    api.post(
        "/event-type",
        json!({"name": "old", "description": "", "archived": true}),
    )
    .await
    .expect(201);
    for (field, name) in [("eventTypes", "none"), ("filterTypes", "none"), ("eventTypes", "old")] {
        let answer = api
            .post(&format!("/app/{app}/endpoint"), json!({"url": URL, field: [name]}))
            .await;
        answer.breaks_rule_at(&format!("body.{field}"));
    }
    api.post(&format!("/app/{app}/endpoint"), json!({"url": URL, "eventTypes": []}))
        .await
        .breaks_rule_at("body.eventTypes");
});

both!(put_replaces_an_endpoint_and_keeps_its_secret, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let new = json!({"url": URL, "uid": "e", "channels": ["c"], "secret": SECRET, "headers": {"X-Own": "1"}});
    let made = api.post(&format!("/app/{app}/endpoint"), new).await;
    let path = format!("/app/{app}/endpoint/{}", made.expect(201)["id"].as_str().unwrap());
    let put = api.put(&path, json!({"url": "https://example.com/other"})).await;
    assert_eq!(
        (&put.expect(200)["uid"], &put.json["channels"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(put.json["url"], "https://example.com/other");
    assert_eq!(api.get(&format!("{path}/secret")).await.expect(200)["key"], SECRET);
    assert_eq!(
        api.get(&format!("{path}/headers")).await.expect(200)["headers"],
        json!({"X-Own": "1"})
    );
    let fresh = api
        .put(&format!("/app/{app}/endpoint/new"), json!({"url": URL, "uid": "own"}))
        .await;
    assert_eq!(fresh.expect(201)["uid"], "own");
});

both!(patch_changes_what_is_given, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    api.post("/event-type", json!({"name": "a", "description": ""}))
        .await
        .expect(201);
    let new = json!({"url": URL, "uid": "e", "eventTypes": ["a"], "channels": ["c"], "throttleRate": 3, "metadata": {"k": "v"}});
    api.post(&format!("/app/{app}/endpoint"), new).await.expect(201);
    let path = format!("/app/{app}/endpoint/e");
    let kept = api.patch(&path, json!({"disabled": true})).await;
    assert_eq!(
        (&kept.expect(200)["disabled"], &kept.json["eventTypes"]),
        (&json!(true), &json!(["a"]))
    );
    let cleared = api
        .patch(
            &path,
            json!({"filterTypes": null, "channels": null, "rateLimit": null, "metadata": {}}),
        )
        .await;
    assert_eq!(
        (&cleared.expect(200)["eventTypes"], &cleared.json["channels"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&cleared.json["throttleRate"], &cleared.json["metadata"]),
        (&Value::Null, &json!({}))
    );
    for field in ["url", "description", "disabled"] {
        api.patch(&path, json!({ field: null }))
            .await
            .breaks_rule_at(&format!("body.{field}"));
    }
    for (older, wrong) in [("filterTypes", json!([])), ("rateLimit", json!(0))] {
        let both = json!({"url": URL, "eventTypes": null, "throttleRate": 5, older: wrong});
        for answer in [api.put(&path, both.clone()).await, api.patch(&path, both).await] {
            answer.breaks_rule_at(&format!("body.{older}"));
        }
    }
    api.patch(&path, json!({"filterTypes": ["none"]}))
        .await
        .breaks_rule_at("body.filterTypes");
    api.patch(&path, json!({"url": "ftp://x"}))
        .await
        .breaks_rule_at("body.url");
});

both!(
    only_an_organization_hears_of_the_setting_that_allows_a_target,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("app").await;
        let path = format!("/app/{app}/endpoint");
        let endpoint = api.post(&path, json!({"url": URL})).await.field("id");
        let one = format!("{path}/{endpoint}");
        let body = json!({"url": "http://10.1.2.3/"}).to_string();
        let rule = "address 10.1.2.3 is not public and must not be called";
        let whole = format!("{rule}; POSTRIDER_ALLOW_TARGETS can allow it");
        for (token, rule) in [(&api.token_of(&app).await, rule), (&api.token, whole.as_str())] {
            for (method, path) in [("POST", &path), ("PUT", &one), ("PATCH", &one)] {
                let refused = api.call(token, method, path, &[], &body).await;
                refused.breaks_rule_at("body.url");
                assert_eq!(refused.expect(422)["detail"][0]["msg"], rule, "{method}");
            }
        }
        let refused = api
            .call(&api.token, "POST", "/operational-webhook/endpoint", &[], &body)
            .await;
        assert_eq!(refused.expect(422)["detail"][0]["msg"], whole);
    }
);

both!(an_application_has_no_more_endpoints_than_the_limit, async |db| {
    let shape = Shape {
        most_endpoints: 3,
        ..Shape::default()
    };
    let api = Api::shaped(db, shape, postrider::api::ApiState::BODY_DEADLINE).await;
    let (app, other) = (api.application("app").await, api.application("other").await);
    let path = format!("/app/{app}/endpoint");
    let at_once = (0..8).map(|n| api.post(&path, json!({"url": URL, "uid": format!("e{n}")})));
    let answers = futures_util::future::join_all(at_once).await;
    let refused = answers.iter().filter(|answer| answer.status == 400);
    assert_eq!(
        refused.map(|answer| answer.refused(400, "limit_reached")).count(),
        5,
        "three of the eight were created"
    );
    let kept = answers.iter().find(|answer| answer.status == 201).unwrap().field("uid");
    api.put(&format!("{path}/new"), json!({"url": URL}))
        .await
        .refused(400, "limit_reached");
    api.put(&format!("{path}/{kept}"), json!({"url": URL, "uid": kept}))
        .await
        .expect(200);
    api.post(&format!("/app/{other}/endpoint"), json!({"url": URL}))
        .await
        .expect(201);
    api.delete(&format!("{path}/{kept}")).await.expect(204);
    api.put(&format!("{path}/new"), json!({"url": URL})).await.expect(201);
    api.post(&path, json!({"url": URL}))
        .await
        .is_over_limit("an application has at most 3 endpoints; delete one first");
});

both!(a_deleted_endpoint_is_gone_and_its_uid_free, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let made = api
        .post(&format!("/app/{app}/endpoint"), json!({"url": URL, "uid": "e"}))
        .await;
    let path = format!("/app/{app}/endpoint/{}", made.expect(201)["id"].as_str().unwrap());
    api.delete(&path).await.expect(204);
    for gone in [path.clone(), format!("{path}/secret"), format!("{path}/headers")] {
        api.get(&gone).await.refused(404, "not_found");
    }
    api.delete(&path).await.refused(404, "not_found");
    api.post(&format!("/app/{app}/endpoint"), json!({"url": URL, "uid": "e"}))
        .await
        .expect(201);
    assert_eq!(api.walk(&format!("/app/{app}/endpoint"), 1).await.len(), 1);
});

both!(endpoints_are_listed_newest_first, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    for n in 0..5 {
        api.post(
            &format!("/app/{app}/endpoint"),
            json!({"url": URL, "uid": format!("e{n}")}),
        )
        .await
        .expect(201);
    }
    let uids = |list: Vec<Value>| {
        list.iter()
            .map(|endpoint| endpoint["uid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        uids(api.walk(&format!("/app/{app}/endpoint"), 2).await),
        ["e4", "e3", "e2", "e1", "e0"]
    );
    let up = api.walk(&format!("/app/{app}/endpoint?order=ascending"), 5).await;
    assert_eq!(uids(up), ["e0", "e1", "e2", "e3", "e4"]);
});

both!(a_private_target_is_refused_by_name_of_the_field, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    for url in [
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://[::1]/",
        "/relative",
        "",
        "http://user:pw@example.com/",
    ] {
        api.post(&format!("/app/{app}/endpoint"), json!({ "url": url }))
            .await
            .breaks_rule_at("body.url");
    }
    api.post(&format!("/app/{app}/endpoint"), json!({"url": "http://127.0.0.1:9/"}))
        .await
        .expect(201);
});

both!(a_secret_is_made_where_none_is_given, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let made = api.post(&format!("/app/{app}/endpoint"), json!({"url": URL})).await;
        let id = made.expect(201)["id"].as_str().unwrap().to_owned();
        let key = api.get(&format!("/app/{app}/endpoint/{id}/secret")).await.expect(200)["key"].clone();
        assert!(key.as_str().unwrap().starts_with("whsec_"));
        keys.push(key);
    }
    assert_ne!(keys[0], keys[1]);
});

both!(
    rotating_answers_the_new_secret_and_keeps_the_old_one_for_a_while,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("app").await;
        api.post(
            &format!("/app/{app}/endpoint"),
            json!({"url": URL, "uid": "e", "secret": SECRET}),
        )
        .await
        .expect(201);
        let path = format!("/app/{app}/endpoint/e/secret");
        let made = api.post(&format!("{path}/rotate"), json!({})).await;
        let made = made.expect(200)["key"].as_str().unwrap().to_owned();
        assert!(made.starts_with("whsec_") && made != SECRET);
        assert_eq!(api.get(&path).await.expect(200)["key"], made.as_str());
        let given = api
            .post(
                &format!("{path}/rotate"),
                json!({"key": SECRET, "gracePeriodSeconds": 0}),
            )
            .await;
        assert_eq!(given.expect(200)["key"], SECRET);
        let once = api.post_once(&format!("{path}/rotate"), "k", json!({})).await;
        let twice = api.post_once(&format!("{path}/rotate"), "k", json!({})).await;
        assert_eq!(
            once.expect(200),
            twice.expect(200),
            "a repeated request does not rotate again"
        );
    }
);

both!(no_secret_lies_in_the_database_in_clear, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let path = format!("/app/{app}/endpoint");
    api.post(&path, json!({"url": URL, "uid": "e", "secret": SECRET}))
        .await
        .expect(201);
    let rotated = api.post_once(&format!("{path}/e/secret/rotate"), "k", json!({})).await;
    let rotated = rotated.expect(200)["key"].as_str().unwrap().to_owned();
    for (table, column) in [("endpoint", "secrets"), ("idempotency", "reply")] {
        for row in crate::harness::rows(&api.rig.db, &format!("select {column} as stored from {table}")).await {
            let text: String = row.try_get("", "stored").unwrap();
            for secret in [SECRET, rotated.as_str()] {
                assert!(!text.contains(&secret["whsec_".len()..]), "{table}.{column}");
            }
        }
    }
});

both!(custom_headers_are_set_changed_and_hidden, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let new = json!({"url": URL, "uid": "e", "headers": {"X-Plain": "1", "Authorization": "Bearer s"}});
    api.post(&format!("/app/{app}/endpoint"), new).await.expect(201);
    let path = format!("/app/{app}/endpoint/e/headers");
    let shown = api.get(&path).await.expect(200).clone();
    assert_eq!(
        shown,
        json!({"headers": {"X-Plain": "1"}, "sensitive": ["Authorization"]})
    );
    let patch = json!({"headers": {"x-plain": "2", "X-New": "3"}, "deleteHeaders": ["authorization"]});
    api.patch(&path, patch).await.expect(204);
    let shown = api.get(&path).await.expect(200).clone();
    assert_eq!(
        shown,
        json!({"headers": {"X-New": "3", "x-plain": "2"}, "sensitive": []})
    );
    api.patch(&path, json!({"headers": {"X-New": null}})).await.expect(204);
    assert_eq!(api.get(&path).await.expect(200)["headers"], json!({"x-plain": "2"}));
    api.put(&path, json!({"headers": {"A": "b"}})).await.expect(204);
    assert_eq!(api.get(&path).await.expect(200)["headers"], json!({"A": "b"}));
    for name in ["content-length", "Webhook-Id", "svix-id", "a b", ""] {
        api.put(&path, json!({"headers": {name: "x"}}))
            .await
            .breaks_rule_at(&format!("body.headers.{name}"));
        api.patch(&path, json!({"headers": {name: "x"}}))
            .await
            .breaks_rule_at(&format!("body.headers.{name}"));
    }
});

both!(an_application_token_manages_its_own_endpoints, async |db| {
    let api = Api::on(db).await;
    let (own, other) = (api.application("own").await, api.application("other").await);
    let token = api.token_of(&own).await;
    let body = json!({"url": URL, "uid": "e"}).to_string();
    api.call(&token, "POST", &format!("/app/{own}/endpoint"), &[], &body)
        .await
        .expect(201);
    api.call(&token, "GET", &format!("/app/{own}/endpoint/e/secret"), &[], "")
        .await
        .expect(200);
    api.call(&token, "DELETE", &format!("/app/{own}/endpoint/e"), &[], "")
        .await
        .expect(204);
    api.call(&token, "POST", &format!("/app/{other}/endpoint"), &[], &body)
        .await
        .refused(404, "not_found");
    api.call(&token, "GET", &format!("/app/{other}/endpoint"), &[], "")
        .await
        .refused(404, "not_found");
});
