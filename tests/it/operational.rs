//! Operational webhooks through the API: their endpoints, and the notices of changes of endpoints.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{Receiver, SECRET, START};

const LIST: &str = "/operational-webhook/endpoint";
const URL: &str = "https://example.com/operations";

/// Creates an operational endpoint at the receiver and returns its path.
pub async fn listen(api: &Api, receiver: &Receiver, wanted: Value) -> String {
    let new = json!({"url": receiver.url(), "secret": SECRET, "eventTypes": wanted});
    let made = api.post(LIST, new).await;
    made.expect(201);
    format!("{LIST}/{}", made.field("id"))
}

/// Returns the notices that the receiver got, oldest first. Asserts that each is signed.
pub fn told(receiver: &Receiver) -> Vec<Value> {
    let mut arrivals = receiver.arrivals();
    arrivals.sort_by_key(|arrival| arrival.message_id().to_owned());
    let bodies = arrivals.iter().map(|arrival| {
        assert!(arrival.is_signed_with(SECRET), "{}", arrival.text());
        assert!(arrival.text().starts_with(r#"{"type":""#), "{}", arrival.text());
        serde_json::from_str(arrival.text()).expect("JSON")
    });
    bodies.collect()
}

both!(
    post_get_and_list_operational_webhook_endpoint_with_both_generations_of_names,
    async |db| {
        let api = Api::on(db).await;
        assert_eq!(
            api.get(LIST).await.expect(200)["data"],
            json!([]),
            "there is no operational endpoint yet"
        );
        let new =
            json!({"url": URL, "uid": "ops", "filterTypes": ["endpoint.disabled"], "rateLimit": 5, "channels": ["c"]});
        let made = api.post_once(LIST, "key", new.clone()).await;
        assert!(made.expect(201)["id"].as_str().unwrap().starts_with("ep_"));
        for (field, value) in [
            ("eventTypes", json!(["endpoint.disabled"])),
            ("filterTypes", json!(["endpoint.disabled"])),
            ("throttleRate", json!(5)),
            ("rateLimit", json!(5)),
            ("disabled", json!(false)),
            ("metadata", json!({})),
        ] {
            assert_eq!(made.json[field], value, "{field}");
        }
        assert!(
            made.json.get("channels").is_none(),
            "an operational endpoint has no channels: {}",
            made.text
        );
        assert_eq!(
            api.post_once(LIST, "key", new).await.expect(201),
            &made.json,
            "the repeated key creates nothing"
        );
        for name in ["ops".to_owned(), made.field("id")] {
            assert_eq!(api.get(&format!("{LIST}/{name}")).await.expect(200), &made.json);
        }
        assert_eq!(api.walk(LIST, 1).await, [made.json]);
        api.get(&format!("{LIST}/none")).await.refused(404, "not_found");
        api.post(LIST, json!({"url": URL, "uid": "ops"}))
            .await
            .refused(409, "conflict");
    }
);

both!(an_organization_has_at_most_twenty_operational_endpoints, async |db| {
    let api = Api::on(db).await;
    let new = |at: usize| json!({"url": URL, "uid": format!("ops{at}")});
    // All requests at once, because the first ones create the organization's application together.
    let made = futures_util::future::join_all((0..22).map(|at| api.post(LIST, new(at)))).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(|answer| answer.status == 201);
    assert_eq!((made.len(), refused.len()), (20, 2));
    for answer in refused {
        answer.is_over_limit("an organization has at most 20 operational endpoints; delete one first");
    }
    api.put(&format!("{LIST}/other"), json!({"url": URL}))
        .await
        .refused(400, "limit_reached");
    let path = format!("{LIST}/{}", made[0].field("id"));
    api.put(&path, json!({"url": URL})).await.expect(200);
    api.delete(&path).await.expect(204);
    api.post(LIST, json!({"url": URL})).await.expect(201);
});

both!(put_operational_webhook_endpoint_replaces_or_creates, async |db| {
    let api = Api::on(db).await;
    let fresh = api
        .put(
            &format!("{LIST}/none"),
            json!({"url": URL, "uid": "ops", "description": "d"}),
        )
        .await;
    assert_eq!(fresh.expect(201)["uid"], "ops");
    let put = api.put(&format!("{LIST}/ops"), json!({"url": URL})).await;
    assert_eq!(
        (&put.expect(200)["uid"], &put.json["id"]),
        (&Value::Null, &fresh.json["id"])
    );
});

both!(delete_operational_webhook_endpoint_answers_204, async |db| {
    let api = Api::on(db).await;
    api.post(LIST, json!({"url": URL, "uid": "ops"})).await.expect(201);
    api.delete(&format!("{LIST}/ops")).await.expect(204);
    api.get(&format!("{LIST}/ops")).await.refused(404, "not_found");
    api.delete(&format!("{LIST}/ops")).await.refused(404, "not_found");
});

both!(
    operational_webhook_secret_and_rotate_answer_200_with_the_key,
    async |db| {
        let api = Api::on(db).await;
        let path = format!("{LIST}/ops");
        api.post(LIST, json!({"url": URL, "uid": "ops", "secret": SECRET}))
            .await
            .expect(201);
        assert_eq!(api.get(&format!("{path}/secret")).await.expect(200)["key"], SECRET);
        let rotated = api.post_once(&format!("{path}/secret/rotate"), "key", json!({})).await;
        assert_ne!(rotated.expect(200)["key"], SECRET);
        assert_eq!(
            api.get(&format!("{path}/secret")).await.expect(200)["key"],
            rotated.json["key"]
        );
    }
);

both!(get_and_put_operational_webhook_headers, async |db| {
    let api = Api::on(db).await;
    let path = format!("{LIST}/ops/headers");
    api.post(LIST, json!({"url": URL, "uid": "ops", "headers": {"X-A": "1"}}))
        .await
        .expect(201);
    assert_eq!(
        api.get(&path).await.expect(200),
        &json!({"headers": {"X-A": "1"}, "sensitive": []})
    );
    api.put(&path, json!({"headers": {"Authorization": "a", "X-B": "2"}}))
        .await
        .expect(204);
    assert_eq!(
        api.get(&path).await.expect(200),
        &json!({"headers": {"X-B": "2"}, "sensitive": ["Authorization"]})
    );
    api.put(&path, json!({"headers": {"webhook-id": "x"}}))
        .await
        .breaks_rule_at("body.headers.webhook-id");
});

both!(operational_webhooks_are_for_tokens_of_organizations_alone, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let token = api.token_of(&app).await;
    let item = format!("{LIST}/ops");
    api.post(LIST, json!({"url": URL, "uid": "ops"})).await.expect(201);
    for (method, path) in [
        ("GET", LIST),
        ("POST", LIST),
        ("GET", &item),
        ("PUT", &item),
        ("DELETE", &item),
        ("GET", &format!("{item}/secret")),
        ("POST", &format!("{item}/secret/rotate")),
        ("GET", &format!("{item}/headers")),
        ("PUT", &format!("{item}/headers")),
    ] {
        let answer = api.call(&token, method, path, &[], "{}").await;
        answer.refused(403, "insufficient access");
    }
    let stranger = api.stranger().await;
    api.call(&stranger, "GET", &item, &[], "")
        .await
        .refused(404, "not_found");
});

both!(the_application_of_operational_endpoints_is_invisible, async |db| {
    let api = Api::on(db).await;
    let made = api.post(LIST, json!({"url": URL})).await;
    let endpoint = made.expect(201)["id"].as_str().unwrap().to_owned();
    let app = api.application("visible").await;
    let own = format!("/app/{}", api.org_id);
    assert_eq!(api.rig.count("application").await, 2, "the hidden application exists");
    assert_eq!(api.walk("/app", 1).await.len(), 1);
    let new = json!({"name": "n", "eventType": "e", "payload": {}, "url": URL});
    for path in [own.clone(), format!("{own}/endpoint"), format!("{own}/msg")] {
        api.get(&path).await.refused(404, "not_found");
    }
    for path in ["endpoint", "msg"] {
        api.post(&format!("{own}/{path}"), new.clone())
            .await
            .refused(404, "not_found");
    }
    api.patch(&own, json!({"name": "n"})).await.refused(404, "not_found");
    api.delete(&own).await.refused(404, "not_found");
    api.get(&format!("/app/{app}/endpoint/{endpoint}"))
        .await
        .refused(404, "not_found");
    // A customer's application may have this id as its uid.
    api.post("/app", json!({"name": "n", "uid": api.org_id}))
        .await
        .expect(201);
    assert_eq!(api.get(&own).await.expect(200)["uid"], api.org_id.as_str());
    assert_eq!(api.get(&format!("{own}/endpoint")).await.expect(200)["data"], json!([]));
});

both!(an_operational_filter_names_operational_event_types_only, async |db| {
    let api = Api::on(db).await;
    api.post("/event-type", json!({"name": "order.paid", "description": ""}))
        .await
        .expect(201);
    for field in ["eventTypes", "filterTypes"] {
        for name in ["order.paid", "endpoint.unknown"] {
            api.post(LIST, json!({"url": URL, field: ["endpoint.created", name]}))
                .await
                .breaks_rule_at(&format!("body.{field}"));
        }
    }
    let all = json!([
        "endpoint.created",
        "endpoint.updated",
        "endpoint.deleted",
        "endpoint.disabled",
        "message.attempt.failing",
        "message.attempt.exhausted",
        "message.attempt.recovered",
    ]);
    let made = api.post(LIST, json!({"url": URL, "eventTypes": all})).await;
    assert_eq!(made.expect(201)["eventTypes"], all);
});

both!(
    endpoint_created_updated_disabled_and_deleted_are_told_in_this_order,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        listen(&api, &receiver, Value::Null).await;
        api.post("/app", json!({"name": "a", "uid": "shop"})).await.expect(201);
        let app = api.get("/app/shop").await.field("id");
        let made = api.post("/app/shop/endpoint", json!({"url": URL, "uid": "e"})).await;
        let endpoint = made.expect(201)["id"].as_str().unwrap();
        let path = "/app/shop/endpoint/e";
        api.put(path, json!({"url": URL, "uid": "e"})).await.expect(200);
        api.patch(path, json!({"disabled": true})).await.expect(200);
        api.put(&format!("{path}/headers"), json!({"headers": {}}))
            .await
            .expect(204);
        api.post(&format!("{path}/secret/rotate"), json!({})).await.expect(200);
        api.delete(path).await.expect(204);
        api.rig.drain().await;
        let told = told(&receiver);
        let data = json!({"appId": app, "appUid": "shop", "endpointId": endpoint, "endpointUid": "e"});
        for event in &told {
            let mut wanted = data.clone();
            if event["type"] == "endpoint.disabled" {
                wanted["disabledAt"] = json!(START.to_rfc3339());
                wanted["disabledReason"] = json!("manual");
            }
            assert_eq!(event["data"], wanted);
        }
        let names: Vec<_> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let wanted = "created updated updated disabled updated updated deleted";
        let wanted: Vec<_> = wanted.split(' ').map(|name| format!("endpoint.{name}")).collect();
        assert_eq!(names, wanted);
    }
);

both!(an_operational_endpoint_hears_what_its_filter_names, async |db| {
    let mut api = Api::on(db).await;
    let (all, some, off) = (
        Receiver::start().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    listen(&api, &all, Value::Null).await;
    listen(&api, &some, json!(["endpoint.deleted"])).await;
    let disabled = listen(&api, &off, Value::Null).await;
    api.put(&disabled, json!({"url": off.url(), "disabled": true}))
        .await
        .expect(200);
    let app = api.application("app").await;
    let path = format!("/app/{app}/endpoint");
    api.post(&path, json!({"url": URL, "uid": "e"})).await.expect(201);
    api.delete(&format!("{path}/e")).await.expect(204);
    let kept = START.plus(Duration::from_secs(90 * 86_400)).0;
    let contents = format!("message_content where expires_at = {kept}");
    assert_eq!(
        api.rig.count(&contents).await,
        2,
        "a notice is kept as long as any payload"
    );
    assert_eq!(api.rig.drain().await, 3);
    assert_eq!(told(&all).len(), 2);
    let some = told(&some);
    assert_eq!(some.len(), 1);
    assert_eq!(some[0]["type"], "endpoint.deleted");
    assert_eq!(some[0]["data"]["appUid"], Value::Null);
    assert_eq!(off.count(), 0);
});

both!(what_happens_to_operational_endpoints_is_told_to_nobody, async |db| {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    let path = listen(&api, &receiver, Value::Null).await;
    listen(&api, &receiver, Value::Null).await;
    api.put(&path, json!({"url": receiver.url()})).await.expect(200);
    api.delete(&path).await.expect(204);
    assert_eq!(api.rig.drain().await, 0);
    assert_eq!(api.rig.count("message").await, 0);
});

both!(another_organizations_events_are_not_told, async |db| {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    listen(&api, &receiver, Value::Null).await;
    let stranger = api.stranger().await;
    let body = r#"{"name": "a", "uid": "shop"}"#;
    api.call(&stranger, "POST", "/app", &[], body).await.expect(201);
    let body = json!({"url": URL}).to_string();
    api.call(&stranger, "POST", "/app/shop/endpoint", &[], &body)
        .await
        .expect(201);
    assert_eq!(api.rig.drain().await, 0);
});

both!(a_change_whose_event_cannot_be_stored_is_not_made, async |db| {
    let api = Api::on(db).await;
    let receiver = Receiver::start().await;
    listen(&api, &receiver, Value::Null).await;
    let app = api.application("app").await;
    api.rig.refuse(db, "message", "event_type like 'endpoint.%'").await;
    api.post(&format!("/app/{app}/endpoint"), json!({"url": URL}))
        .await
        .refused(500, "server_error");
    assert_eq!(
        api.rig.count("endpoint").await,
        1,
        "only the operational endpoint exists"
    );
});
