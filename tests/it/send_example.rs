//! `send-example`: which example is sent, to which endpoint, and what is refused.

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::Receiver;

/// Creates an application with the endpoints `this` (whose filter takes nothing that is sent here), `other` and `off`
/// (disabled), and the event types `with`, `without` and `bare`.
async fn endpoints(api: &Api, receiver: &Receiver) -> String {
    let app = api.application("app").await;
    let schema = json!({"1": {"examples": [{"n": 1}, {"n": 2}, "no object"]}, "2": {"examples": [{"n": 9}]}});
    for (name, schemas) in [
        ("with", schema),
        ("without", json!({"1": {"type": "object"}})),
        ("bare", Value::Null),
    ] {
        let event_type = json!({"name": name, "description": "", "schemas": schemas});
        api.post("/event-type", event_type).await.expect(201);
    }
    for (uid, more) in [
        ("this", json!({"eventTypes": ["bare"], "channels": ["c"]})),
        ("other", json!({})),
        ("off", json!({"disabled": true})),
    ] {
        let mut endpoint = json!({"url": format!("{}{uid}", receiver.url()), "uid": uid});
        endpoint
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
    }
    app
}

both!(
    post_send_example_sends_the_built_in_svix_ping_to_that_endpoint_alone,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        let app = endpoints(&api, &receiver).await;
        let path = format!("/app/{app}/endpoint/this/send-example");
        let sent = api.post(&path, json!({"eventType": "svix.ping"})).await;
        assert_eq!(sent.expect(202)["payload"], json!({"success": true}));
        assert_eq!(sent.json["eventType"], "svix.ping");
        let read = api.get(&format!("/app/{app}/msg/{}", sent.field("id"))).await;
        assert_eq!(read.expect(200), &sent.json);
        api.rig.drain().await;
        let arrivals = receiver.arrivals();
        assert_eq!(arrivals.len(), 1);
        assert_eq!(
            (arrivals[0].path.as_str(), arrivals[0].text()),
            ("/this", r#"{"success":true}"#)
        );
        assert_eq!(arrivals[0].message_id(), sent.field("id"));
    }
);

both!(
    post_send_example_takes_the_first_example_of_schema_1_or_the_one_asked_for,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        let app = endpoints(&api, &receiver).await;
        let path = format!("/app/{app}/endpoint/other/send-example");
        for (body, text) in [
            (json!({"eventType": "with"}), r#"{"n":1}"#),
            (json!({"eventType": "with", "exampleIndex": null}), r#"{"n":1}"#),
            (json!({"eventType": "with", "exampleIndex": 1}), r#"{"n":2}"#),
        ] {
            api.post(&path, body).await.expect(202);
            api.rig.drain().await;
            assert_eq!(receiver.arrivals().last().unwrap().text(), text);
        }
        assert_eq!(receiver.count(), 3);
    }
);

both!(
    post_send_example_without_an_example_answers_400_and_of_an_unknown_type_404,
    async |db| {
        let api = Api::on(db).await;
        let receiver = Receiver::start().await;
        let app = endpoints(&api, &receiver).await;
        let path = format!("/app/{app}/endpoint/this/send-example");
        for body in [
            json!({"eventType": "without"}),
            json!({"eventType": "bare"}),
            json!({"eventType": "with", "exampleIndex": 2}),
            json!({"eventType": "with", "exampleIndex": 3}),
        ] {
            api.post(&path, body).await.refused(400, "invalid_scheme");
        }
        for (path, event_type) in [
            (path.clone(), "unknown"),
            (format!("/app/{app}/endpoint/unknown/send-example"), "svix.ping"),
            ("/app/unknown/endpoint/this/send-example".to_owned(), "svix.ping"),
        ] {
            let body = json!({"eventType": event_type});
            api.post(&path, body).await.refused(404, "not_found");
        }
        api.post(&path, json!({"eventType": "with", "exampleIndex": -1}))
            .await
            .breaks_rule_at("body.exampleIndex");
        api.post(&path, json!({})).await.breaks_rule_at("body.eventType");
        assert_eq!(api.rig.count("message").await, 0);
    }
);

both!(post_send_example_to_a_disabled_endpoint_sends_nothing, async |db| {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    let app = endpoints(&api, &receiver).await;
    let path = format!("/app/{app}/endpoint/off/send-example?with_content=false");
    let sent = api.post(&path, json!({"eventType": "svix.ping"})).await;
    assert_eq!(sent.expect(202)["payload"], json!({}));
    assert_eq!(api.rig.drain().await, 0);
});

both!(
    post_send_example_is_for_tokens_of_the_application_with_create_attempts_too,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        let app = endpoints(&api, &receiver).await;
        let hidden =
            json!({"name": "hidden", "description": "", "featureFlag": "beta", "schemas": {"1": {"examples": [{}]}}});
        api.post("/event-type", hidden).await.expect(201);
        let link = async |access: Value| {
            let link = api.post(&format!("/auth/app-portal-access/{app}"), access).await;
            link.field("token")
        };
        let path = format!("/app/{app}/endpoint/this/send-example");
        let send = async |token: &str, event_type: &str| {
            let body = json!({"eventType": event_type}).to_string();
            api.call(token, "POST", &path, &[], &body).await
        };
        for access in [json!({}), json!({"capabilities": ["CreateAttempts"]})] {
            let token = link(access).await;
            send(&token, "svix.ping").await.expect(202);
            send(&token, "hidden").await.refused(404, "not_found");
        }
        for access in [json!({"readOnly": true}), json!({"capabilities": ["ManageEndpoint"]})] {
            let refused = send(&link(access).await, "svix.ping").await;
            refused.refused(403, "insufficient access");
        }
        let seeing = link(json!({"featureFlags": ["beta"]})).await;
        send(&seeing, "hidden").await.expect(202);
        api.rig.drain().await;
        assert_eq!(receiver.count(), 3);
    }
);
