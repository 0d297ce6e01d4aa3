//! Why an endpoint got a message or not: over the API, and in words by `app why` and `app endpoints`.

use postrider::api::ApiState;
use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{Answer, Program, Receiver, Shape, TestDatabase};
use crate::poll::{polled, with};

/// An application `shop` with one endpoint for each case, and the message `order-1` of type `order.paid`, which was sent
/// to those that wanted it.
struct Setup {
    api: Api,
    customer: Receiver,
    broken: Receiver,
}

/// Creates an endpoint of `shop` with this uid and these further fields.
async fn make(api: &Api, uid: &str, url: String, rest: Value) {
    let mut body = json!({"url": url, "uid": uid});
    body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    api.post("/app/shop/endpoint", body).await.expect(201);
}

async fn setup(db: &TestDatabase) -> Setup {
    let shape = Shape {
        schedule: "5",
        ..Shape::default()
    };
    let mut api = Api::shaped(db, shape, ApiState::BODY_DEADLINE).await;
    let (customer, broken, gone) = (
        Receiver::start().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    broken.answer(Answer::status(500));
    gone.answer(Answer::status(410));
    api.post("/app", json!({"name": "Shop", "uid": "shop"}))
        .await
        .expect(201);
    for name in ["order.paid", "order.shipped"] {
        let event_type = json!({"name": name, "description": ""});
        api.post("/event-type", event_type).await.expect(201);
    }
    make(&api, "gone", gone.url(), json!({})).await;
    api.post("/app/shop/msg", json!({"eventType": "other", "payload": {}}))
        .await
        .expect(202);
    api.rig.drain().await;
    make(&api, "deleted", customer.url(), json!({})).await;
    api.delete("/app/shop/endpoint/deleted").await.expect(204);
    make(&api, "all", customer.url(), json!({})).await;
    make(&api, "broken", broken.url(), json!({})).await;
    make(&api, "typed", customer.url(), json!({"eventTypes": ["order.shipped"]})).await;
    make(&api, "channel", customer.url(), json!({"channels": ["eu"]})).await;
    make(&api, "off", customer.url(), json!({"disabled": true})).await;
    api.rig.advance(1);
    let message = json!({"eventType": "order.paid", "eventId": "order-1", "payload": {}});
    api.post("/app/shop/msg", message).await.expect(202);
    api.rig.advance(1);
    api.post("/app/shop/endpoint", json!({"url": customer.url(), "uid": "later"}))
        .await
        .expect(201);
    api.rig.drain().await;
    Setup { api, customer, broken }
}

/// Returns the row of the endpoint with this uid.
fn at<'a>(answer: &'a crate::api::Answer, uid: &str) -> &'a Value {
    let rows = answer.expect(200)["data"].as_array().unwrap();
    let row = rows.iter().find(|row| row["endpointUid"] == uid);
    row.unwrap_or_else(|| panic!("no {uid}: {}", answer.text))
}

#[track_caller]
fn assert_verdict(answer: &crate::api::Answer, uid: &str, verdict: &str, reason: Value, words: &str) {
    let row = at(answer, uid);
    assert_eq!((&row["verdict"], &row["reason"]), (&verdict.into(), &reason), "{row}");
    assert!(row["text"].as_str().unwrap().contains(words), "{row}");
}

both!(every_endpoint_has_a_verdict_with_its_reason, async |db| {
    let mut setup = setup(db).await;
    let api = &mut setup.api;
    let path = "/app/shop/msg/order-1/explain";
    let told = api.get(path).await;
    assert_eq!(told.expect(200)["eventId"], "order-1");
    assert_eq!(told.json["text"], "At 8 endpoints: 1 delivered, 1 waiting, 6 not sent.");
    assert_verdict(&told, "all", "delivered", Value::Null, "by the first attempt");
    assert_verdict(
        &told,
        "broken",
        "waiting",
        Value::Null,
        "1 attempt has failed; the last answer had status 500.",
    );
    let waits = at(&told, "broken");
    assert_eq!((&waits["attempts"], &waits["lastStatusCode"]), (&json!(1), &json!(500)));
    assert!(waits["nextAttemptAt"].is_string(), "{waits}");
    assert_verdict(
        &told,
        "typed",
        "notSent",
        "eventType".into(),
        "wants only order.shipped.",
    );
    assert_verdict(&told, "channel", "notSent", "channel".into(), "on no channel");
    assert_verdict(
        &told,
        "off",
        "notSent",
        "disabled".into(),
        "a person or a program disabled it",
    );
    assert_verdict(&told, "gone", "notSent", "disabled".into(), "answered 410 Gone");
    assert_verdict(&told, "later", "notSent", "createdLater".into(), "after the message");
    assert_verdict(&told, "deleted", "notSent", "deleted".into(), "before the message");
    for row in told.json["data"].as_array().unwrap() {
        assert!(!row["text"].as_str().unwrap().contains("was changed"), "{row}");
    }
    api.rig.advance(7);
    api.rig.drain().await;
    let told = api.get(path).await;
    assert_verdict(&told, "broken", "failed", Value::Null, "2 attempts have failed");
    assert_eq!((setup.customer.count(), setup.broken.count()), (1, 2));
});

both!(
    each_poller_is_told_with_the_consumers_that_have_the_message,
    async |db| {
        let api = Api::on(db).await;
        api.post("/app", json!({"name": "Shop", "uid": "shop"}))
            .await
            .expect(201);
        for name in ["order.paid", "order.shipped"] {
            let event_type = json!({"name": name, "description": ""});
            api.post("/event-type", event_type).await.expect(201);
        }
        for (uid, rest) in [
            ("all", json!({})),
            ("unread", json!({})),
            ("typed", json!({"eventTypes": ["order.shipped"]})),
            ("channel", json!({"channels": ["eu"]})),
            ("off", json!({"disabled": true})),
        ] {
            let mut body = json!({"uid": uid});
            body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            api.post("/app/shop/poller", body).await.expect(201);
        }
        api.rig.advance(1);
        let message = json!({"eventType": "order.paid", "eventId": "order-1", "payload": {}});
        api.post("/app/shop/msg", message).await.expect(202);
        api.rig.advance(1);
        api.post("/app/shop/poller", json!({"uid": "later"})).await.expect(201);
        let consumer = |name: &str| format!("/app/shop/poller/all/consumer/{name}");
        let page = polled(&api, &consumer("quick"), "order-1").await;
        api.get(&with(&consumer("quick"), &page)).await.expect(200);
        polled(&api, &consumer("slow"), "order-1").await;
        let past = json!({"after": "2100-01-01T00:00:00Z"});
        api.post(&format!("{}/seek", consumer("moved")), past).await.expect(200);

        let told = api.get("/app/shop/msg/order-1/explain").await;
        assert_eq!(
            told.expect(200)["text"],
            "The application has no endpoints. Pollers that have it: 2 of 6; consumers that have confirmed it: \
         2 of 3."
        );
        let pollers = told.json["pollers"].as_array().unwrap();
        let of = |uid: &str| pollers.iter().find(|row| row["pollerUid"] == uid).unwrap();
        let consumers = json!([
            {"name": "moved", "confirmed": true}, {"name": "quick", "confirmed": true}, {"name": "slow", "confirmed": false}
        ]);
        assert_eq!(of("all")["consumers"], consumers);
        for (uid, readable, reason, words) in [
            ("all", true, Value::Null, "2 of 3 consumers have confirmed it."),
            ("unread", true, Value::Null, "There is no consumer"),
            ("typed", false, "eventType".into(), "wants only order.shipped."),
            ("channel", false, "channel".into(), "on no channel"),
            ("off", false, "disabled".into(), "The poller is disabled."),
            ("later", false, "createdLater".into(), "after the message"),
        ] {
            let row = of(uid);
            assert_eq!((&row["readable"], &row["reason"]), (&readable.into(), &reason), "{row}");
            let text = row["text"].as_str().unwrap();
            assert!(text.contains(words) && !text.contains("was changed"), "{text}");
        }
        let said = Program::on(db.url()).run(&["why", "shop", "order-1"]).await.ok();
        for words in ["all, poll_", "  not confirmed yet: slow", "  The poller is disabled."] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("not confirmed yet: quick"), "{said}");
    }
);

both!(what_was_changed_since_is_judged_by_today_and_told_so, async |db| {
    let setup = setup(db).await;
    let change = async |uid: &str, change: Value| {
        let path = format!("/app/shop/endpoint/{uid}");
        setup.api.patch(&path, change).await.expect(200);
    };
    change("off", json!({"disabled": false})).await;
    change("typed", json!({"eventTypes": null})).await;
    change("channel", json!({"disabled": true})).await;
    let told = setup.api.get("/app/shop/msg/order-1/explain").await;
    for uid in ["off", "typed"] {
        assert_verdict(&told, uid, "notSent", Value::Null, "would get it");
        assert_verdict(&told, uid, "notSent", Value::Null, "was changed at");
    }
    // It was disabled after the message, so that is not the reason.
    assert_verdict(&told, "channel", "notSent", "channel".into(), "was changed at");
});

both!(
    a_message_shows_from_its_acceptance_on_and_without_endpoints_too,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("a").await;
        let explain = async |kind: &str| {
            let message = json!({"eventType": kind, "payload": {}});
            let id = api.post(&format!("/app/{app}/msg"), message).await.field("id");
            api.get(&format!("/app/{app}/msg/{id}/explain")).await
        };
        let told = explain("a").await;
        assert_eq!(told.expect(200)["text"], "The application has no endpoints.");
        assert_eq!(told.json["data"], json!([]));
        api.post("/event-type", json!({"name": "a", "description": ""}))
            .await
            .expect(201);
        let endpoints = format!("/app/{app}/endpoint");
        for (uid, types) in [("all", Value::Null), ("typed", json!(["a"]))] {
            let endpoint = json!({"url": "http://127.0.0.1:9/", "uid": uid, "eventTypes": types});
            api.post(&endpoints, endpoint).await.expect(201);
        }
        let told = explain("misspelt").await;
        assert_verdict(&told, "all", "sending", Value::Null, "The first attempt is under way.");
        assert_verdict(
            &told,
            "typed",
            "notSent",
            "eventType".into(),
            "No event type has this name",
        );
    }
);

both!(what_ended_without_an_attempt_says_what_stopped_it, async |db| {
    let mut api = Api::on(db).await;
    let app = api.application("a").await;
    // The fast path takes no large body: a claim does, and finds what has changed.
    let payload = json!({"text": "x".repeat(70_000)});
    for uid in ["disabled", "deleted", "expunged"] {
        let endpoint = json!({"url": "http://127.0.0.1:9/", "uid": uid, "channels": [uid]});
        let made = api.post(&format!("/app/{app}/endpoint"), endpoint).await.field("id");
        let message = json!({"eventType": "t", "eventId": uid, "channels": [uid], "payload": payload});
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
        api.rig.advance(1);
        let endpoint = format!("/app/{app}/endpoint/{made}");
        let changed = match uid {
            "disabled" => api.patch(&endpoint, json!({"disabled": true})).await,
            "deleted" => api.delete(&endpoint).await,
            _ => api.delete(&format!("/app/{app}/msg/{uid}/content")).await,
        };
        assert!(changed.status.is_success(), "{}", changed.text);
        let path = format!("/app/{app}/msg/{uid}/explain");
        let told = api.get(&path).await;
        assert_verdict(&told, uid, "waiting", Value::Null, "It will not be sent:");
        api.rig.drain().await;
        let reason = if uid == "expunged" { "noPayload" } else { uid };
        let told = api.get(&path).await;
        assert_verdict(&told, uid, "notSent", reason.into(), "not sent when its turn came");
    }
});

both!(pages_of_endpoints_go_on_past_those_that_are_left_out, async |db| {
    let api = Api::on(db).await;
    let app = api.application("a").await;
    let list = format!("/app/{app}/endpoint");
    let make = async |uid: &str| {
        api.post(
            &list,
            json!({"url": "http://127.0.0.1:9/", "uid": uid, "channels": ["none"]}),
        )
        .await
        .expect(201);
    };
    make("first").await;
    make("second").await;
    let message = api
        .post(&format!("/app/{app}/msg"), json!({"eventType": "t", "payload": {}}))
        .await;
    api.rig.advance(1);
    // Created after the message and deleted: nothing is said of it.
    for _ in 0..3 {
        make("brief").await;
        api.delete(&format!("{list}/brief")).await.expect(204);
    }
    let path = format!("/app/{app}/msg/{}/explain", message.field("id"));
    for limit in [1, 2, 250] {
        let rows = api.walk(&path, limit).await;
        let uids: Vec<_> = rows.iter().map(|row| row["endpointUid"].as_str().unwrap()).collect();
        assert_eq!(uids, ["second", "first"], "{limit} a page");
    }
});

both!(
    app_why_says_the_same_in_words_from_the_database_and_from_a_server,
    async |db| {
        let setup = setup(db).await;
        let address = format!("http://{}", setup.api.listen().await);
        let program = Program::on(db.url());
        let local = program.run(&["why", "shop", "order-1"]).await.ok();
        let remote = Program::bare()
            .env("POSTRIDER_URL", &address)
            .env("POSTRIDER_TOKEN", &setup.api.token);
        assert_eq!(remote.run(&["why", "shop", "order-1"]).await.ok(), local);
        for words in [
            "order-1, msg_",
            "At 8 endpoints: 1 delivered, 1 waiting, 6 not sent.",
            "gone, ep_",
            "  not sent: The endpoint is disabled since",
            "  not sent: The message is of type order.paid, and the endpoint wants only order.shipped.",
        ] {
            assert!(local.contains(words), "{words}: {local}");
        }
        let line = program.run(&["why", "shop", "order-2"]).await.failed(1);
        assert!(line.contains("message not found"), "{line}");
        let line = remote.run(&["why", "other", "order-1"]).await.failed(1);
        assert!(line.contains("404: application not found"), "{line}");
        let line = program.run(&["why", "other", "order-1"]).await.failed(1);
        assert!(line.contains("application \"other\" not found"), "{line}");
        let line = remote
            .without("POSTRIDER_TOKEN")
            .run(&["why", "shop", "order-1"])
            .await
            .failed(1);
        assert!(line.contains("POSTRIDER_TOKEN"), "{line}");
    }
);

both!(a_uid_of_several_organizations_needs_the_organization, async |db| {
    let api = Api::on(db).await;
    let other = api.stranger().await;
    for token in [&api.token, &other] {
        let app = json!({"name": "n", "uid": "shop"}).to_string();
        api.call(token, "POST", "/app", &[], &app).await.expect(201);
        let message = json!({"eventType": "t", "eventId": "m", "payload": {}}).to_string();
        api.call(token, "POST", "/app/shop/msg", &[], &message)
            .await
            .expect(202);
    }
    let program = Program::on(db.url());
    let line = program.run(&["why", "shop", "m"]).await.failed(1);
    assert!(line.contains("--organization"), "{line}");
    let words = program
        .run(&["why", "shop", "m", "--organization", "strangers"])
        .await
        .ok();
    assert!(words.contains("The application has no endpoints."), "{words}");
});

both!(
    app_endpoints_failing_lists_what_fails_or_is_disabled_of_all_applications,
    async |db| {
        let mut setup = setup(db).await;
        setup.api.rig.advance(7);
        setup.api.rig.drain().await;
        let address = format!("http://{}", setup.api.listen().await);
        let other = setup.api.post("/app", json!({"name": "Other"})).await.field("id");
        let endpoint = json!({"url": "https://other.example/", "disabled": true});
        setup
            .api
            .post(&format!("/app/{other}/endpoint"), endpoint)
            .await
            .expect(201);
        let program = Program::on(db.url());
        let local = program.run(&["endpoints", "--failing"]).await.ok();
        let remote = Program::bare()
            .env("POSTRIDER_URL", &address)
            .env("POSTRIDER_TOKEN", &setup.api.token);
        assert_eq!(remote.run(&["endpoints", "--failing"]).await.ok(), local);
        let lines: Vec<_> = local.lines().collect();
        assert_eq!(lines.len(), 4, "{local}");
        for (line, (state, words)) in lines.iter().zip([
            ("disabled (gone) since ", "(shop)  ep_"),
            ("failing since ", "(broken)  http://"),
            ("disabled (manual) since ", "(off)"),
            ("disabled (manual) since ", "https://other.example/"),
        ]) {
            assert!(
                line.starts_with(state) && line.contains(words),
                "{state}{words}: {line}"
            );
        }
        let all = program.run(&["endpoints"]).await.ok();
        assert_eq!(
            all.lines().filter(|line| line.starts_with("works  ")).count(),
            4,
            "{all}"
        );
    }
);
