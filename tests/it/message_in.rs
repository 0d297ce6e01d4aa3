//! Messages with more than a payload: a raw body, a content type, an application, and fields that only the hosted
//! service knows.

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{Answer, Receiver};

/// Creates an application with an endpoint at `receiver`.
async fn reached(api: &Api, receiver: &Receiver) -> String {
    let app = api.application("app").await;
    let endpoint = json!({"url": receiver.url()});
    api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
    app
}

/// Returns a message as the SDKs' `message_in_raw` makes it.
fn raw(body: &str, content_type: Option<&str>) -> Value {
    let mut params = json!({ "rawPayload": body });
    if let Some(content_type) = content_type {
        params["headers"] = json!({ "content-type": content_type });
    }
    json!({"eventType": "a", "payload": {}, "transformationsParams": params})
}

fn body_rule(answer: &crate::api::Answer) -> (String, String) {
    let rule = &answer.expect(422)["detail"][0];
    let loc: Vec<&str> = rule["loc"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    (loc.join("."), rule["type"].as_str().unwrap().to_owned())
}

both!(message_in_raw_payload_is_the_body_verbatim, async |db| {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    let app = reached(&api, &receiver).await;
    let bodies = [
        "<a>\r\n&amp;é</a> ",
        "",
        " {\"n\": 1.10,\t\"n\":2} ",
        "[1]",
        "{broken",
        "null",
    ];
    for body in bodies {
        api.post(&format!("/app/{app}/msg"), raw(body, None)).await.expect(202);
        api.rig.drain().await;
        let arrivals = receiver.arrivals();
        let last = arrivals.last().unwrap();
        assert_eq!(last.text(), body);
        assert_eq!(last.headers["content-type"], "application/json");
    }
    assert_eq!(receiver.count(), bodies.len());
});

both!(a_raw_message_is_signed_and_sent_again_as_it_is, async |db| {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(500));
    let app = reached(&api, &receiver).await;
    let endpoint = api.get(&format!("/app/{app}/endpoint")).await.expect(200)["data"][0]["id"].clone();
    let secret = api
        .get(&format!("/app/{app}/endpoint/{}/secret", endpoint.as_str().unwrap()))
        .await
        .field("key");
    // The second body is too large to travel with its lease.
    let large = "y".repeat(100_000);
    for body in ["no json", large.as_str()] {
        let before = receiver.count();
        let path = format!("/app/{app}/msg?with_content=false");
        api.post(&path, raw(body, Some("text/plain; charset=utf-8")))
            .await
            .expect(202);
        api.rig.drain().await;
        api.rig.advance(7);
        api.rig.drain().await;
        let arrivals = receiver.arrivals().split_off(before);
        assert_eq!(arrivals.len(), 2, "a first attempt and a retry");
        for arrival in arrivals {
            assert_eq!(arrival.headers["content-type"], "text/plain; charset=utf-8");
            assert_eq!(arrival.text(), body);
            assert!(arrival.is_signed_with(&secret));
        }
        api.rig.advance(500);
        api.rig.drain().await;
    }
});

both!(the_payload_of_a_raw_message_is_read_as_an_object, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let path = format!("/app/{app}/msg");
    let deep = format!("{}1{}", r#"{"a":"#.repeat(101), "}".repeat(101));
    let (surrogate, number) = (r#"{"a":"\ud800"}"#, r#"{"a":1e999}"#);
    for (body, shown) in [
        ("<a/>", json!({"rawPayload": "<a/>"})),
        ("[1]", json!({"rawPayload": "[1]"})),
        ("{broken", json!({"rawPayload": "{broken"})),
        (&deep, json!({ "rawPayload": deep })),
        (surrogate, json!({ "rawPayload": surrogate })),
        (number, json!({ "rawPayload": number })),
        (" {\"n\":1} ", json!({"n": 1})),
    ] {
        let made = api.post(&path, raw(body, None)).await;
        assert_eq!(made.expect(202)["payload"], shown);
        let read = api.get(&format!("{path}/{}", made.field("id"))).await;
        assert_eq!(read.expect(200), &made.json);
        assert_eq!(api.get(&path).await.expect(200)["data"][0]["payload"], shown);
    }
    let bare = api.post(&format!("{path}?with_content=false"), raw("x", None)).await;
    assert_eq!(bare.expect(202)["payload"], json!({}));
});

both!(
    transformations_params_headers_content_type_is_the_requests,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        let app = reached(&api, &receiver).await;
        let params =
            json!({"headers": {"Content-Type": "application/cloudevents+json", "x-other": "ignored"}, "later": 1});
        let message = json!({"eventType": "a", "payload": {"k": 1}, "transformationsParams": params});
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
        api.rig.drain().await;
        let arrivals = receiver.arrivals();
        assert_eq!(arrivals[0].headers["content-type"], "application/cloudevents+json");
        assert_eq!(arrivals[0].text(), r#"{"k":1}"#);
        assert!(!arrivals[0].headers.contains_key("x-other"));
    }
);

both!(a_raw_body_or_content_type_that_cannot_be_kept_is_refused, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let path = format!("/app/{app}/msg");
    api.post(&path, raw("a\0b", None))
        .await
        .breaks_rule_at("body.transformationsParams.rawPayload");
    api.post(&path, raw("x", Some("text/plain\r\nx-evil: 1")))
        .await
        .breaks_rule_at("body.transformationsParams.headers.content-type");
    let number = json!({"eventType": "a", "payload": {}, "transformationsParams": {"rawPayload": 1}});
    api.post(&path, number)
        .await
        .breaks_rule_at("body.transformationsParams.rawPayload");
    for (field, list) in [
        ("transformationsParams", json!([null, null])),
        ("application", json!(["a", "b"])),
    ] {
        let listed = json!({"eventType": "a", "payload": {}, field: list});
        let answer = api.post(&path, listed).await;
        answer.breaks_rule_at(&format!("body.{field}"));
    }
    let null = json!({"eventType": "a", "payload": {}, "transformationsParams": null, "application": null});
    api.post(&path, null).await.expect(202);
});

both!(message_in_application_creates_the_application_of_the_path, async |db| {
    let api = Api::on(db).await;
    let message = json!({
        "eventType": "a", "payload": {},
        "application": {"name": "New", "uid": "new", "metadata": {"k": "v"}, "throttleRate": 5},
    });
    let first = api.post_once("/app/new/msg", "key", message.clone()).await;
    first.expect(202);
    let app = api.get("/app/new").await;
    assert_eq!(
        (&app.expect(200)["name"], &app.json["metadata"]),
        (&json!("New"), &json!({"k": "v"}))
    );
    assert_eq!(app.json["throttleRate"], 5);
    let again = api.post_once("/app/new/msg", "key", message.clone()).await;
    assert_eq!(again.expect(202), &first.json, "the key is repeated");
    api.post("/app/new/msg", message).await.expect(202);
    assert_eq!(api.rig.count("application").await, 1);
    assert_eq!(api.rig.count("message").await, 2);
});

both!(message_in_application_is_ignored_where_there_is_one, async |db| {
    let api = Api::on(db).await;
    let app = api.application("Known").await;
    let message = json!({"eventType": "a", "payload": {}, "application": {"name": "Other", "uid": "other"}});
    api.post(&format!("/app/{app}/msg"), message).await.expect(202);
    assert_eq!(api.get(&format!("/app/{app}")).await.expect(200)["name"], "Known");
    assert_eq!(api.rig.count("application").await, 1);
});

both!(
    message_in_application_uid_missing_or_different_answers_422,
    async |db| {
        let api = Api::on(db).await;
        let with = |application: Value| json!({"eventType": "a", "payload": {}, "application": application});
        for (application, kind) in [
            (json!({"name": "n"}), "application_uid_missing"),
            (json!({"name": "n", "uid": null}), "application_uid_missing"),
            (json!({"name": "n", "uid": "another"}), "application_uid_mismatch"),
        ] {
            let refused = api.post("/app/new/msg", with(application)).await;
            assert_eq!(
                body_rule(&refused),
                ("body.application.uid".to_owned(), kind.to_owned())
            );
        }
        for (application, place) in [
            (json!({"name": "", "uid": "new"}), "body.application.name"),
            (json!({"uid": "new"}), "body.application.name"),
            (json!({"name": "n", "uid": "app_x"}), "body.application.uid"),
            (
                json!({"name": "n", "metadata": {"a": 1}}),
                "body.application.metadata.a",
            ),
        ] {
            api.post("/app/new/msg", with(application)).await.breaks_rule_at(place);
        }
        assert_eq!(api.rig.count("application").await, 0);
        api.post("/app/new/msg", json!({"eventType": "a", "payload": {}}))
            .await
            .refused(404, "not_found");
    }
);

both!(messages_at_once_make_one_application, async |db| {
    let api = Api::on(db).await;
    let message = json!({"eventType": "a", "payload": {}, "application": {"name": "n", "uid": "new"}});
    let posts = (0..10).map(|_| api.post("/app/new/msg", message.clone()));
    for answer in futures_util::future::join_all(posts).await {
        answer.expect(202);
    }
    assert_eq!(api.rig.count("application").await, 1);
    assert_eq!(api.rig.count("message").await, 10);
});

both!(message_in_data_is_an_alias_of_payload, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let path = format!("/app/{app}/msg");
    let made = api.post(&path, json!({"eventType": "a", "data": {"k": 1}})).await;
    assert_eq!(made.expect(202)["payload"], json!({"k": 1}));
    api.post(&path, json!({"eventType": "a", "data": {}, "payload": {}}))
        .await
        .breaks_rule_at("body.payload");
});

both!(
    message_in_deliver_at_and_retention_hours_are_accepted_and_ignored,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        let app = reached(&api, &receiver).await;
        let message = json!({
            "eventType": "a", "payload": {"k": 1}, "deliverAt": "2026-01-01T12:00:00Z", "payloadRetentionHours": 1,
        });
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
        api.rig.drain().await;
        assert_eq!(receiver.count(), 1, "the message is sent at once");
        let kept = "message where expires_at - created_at = 90 * 86400000000";
        assert_eq!(api.rig.count(kept).await, 1);
    }
);

both!(
    message_in_payload_retention_period_is_5_to_90_days_and_90_by_default,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("app").await;
        let path = format!("/app/{app}/msg");
        for (given, days) in [(json!(5), 5), (json!(90), 90), (json!(null), 90)] {
            let message = json!({"eventType": "a", "payload": {}, "payloadRetentionPeriod": given});
            let id = api.post(&path, message).await.field("id");
            let kept = format!("message where id = '{id}' and expires_at - created_at = {days} * 86400000000");
            assert_eq!(api.rig.count(&kept).await, 1, "{given}");
            let same = "select expires_at from message where id = message_id";
            let kept = format!("message_content where message_id = '{id}' and expires_at = ({same})");
            assert_eq!(api.rig.count(&kept).await, 1, "{given}: the payload itself");
        }
        for refused in [json!(4), json!(91), json!(0), json!(-5), json!("7")] {
            let message = json!({"eventType": "a", "payload": {}, "payloadRetentionPeriod": refused});
            api.post(&path, message)
                .await
                .breaks_rule_at("body.payloadRetentionPeriod");
        }
    }
);

/// Returns the body of a message with this text as its payload.
fn with_payload(field: &str, payload: &str) -> String {
    format!(r#"{{"eventType":"a","{field}":{payload}}}"#)
}

both!(
    message_in_payload_that_an_sdk_s_parser_gives_up_at_is_refused_by_its_rule,
    async |db| {
        let api = Api::on(db).await;
        let path = format!("/app/{}/msg", api.application("app").await);
        let long = format!(r#"{{"a":{}}}"#, "9".repeat(400));
        for (payload, rule) in [
            (r#"{"a":"\ud800"}"#, r"half of a surrogate pair, such as \ud800"),
            (r#"{"a":["\uDC00\uD800"]}"#, "half of a surrogate pair"),
            (r#"{"\udfff":1}"#, "half of a surrogate pair"),
            (r#"{"a":1e999999}"#, "a number beyond the range of a double"),
            (r#"{"a":{"b":[-1.0E+309]}}"#, "a number beyond the range of a double"),
            (&long, "a number beyond the range of a double"),
        ] {
            for field in ["payload", "data"] {
                let body = with_payload(field, payload);
                let answer = api.call(&api.token, "POST", &path, &[], &body).await;
                answer.breaks_rule_at("body.payload");
                let said = answer.json["detail"][0]["msg"].as_str().unwrap();
                assert!(said.contains(rule), "{payload}: {said}");
            }
        }
        assert_eq!(api.rig.count("message").await, 0);
    }
);

both!(
    message_in_payload_that_only_looks_unreadable_is_kept_byte_for_byte,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        let app = reached(&api, &receiver).await;
        let path = format!("/app/{app}/msg");
        let integer = format!(r#"{{"a":{}}}"#, "9".repeat(308));
        let payloads = [
            r#"{"a":"\ud83d\uDE00","b":"\\ud800"}"#,
            r#"{"a":[1e308,-1E+308,1e-999999,0e999999]}"#,
            r#"{"a":"1e999, or: 1e999"}"#,
            &integer,
        ];
        for payload in payloads {
            let body = with_payload("payload", payload);
            let made = api.call(&api.token, "POST", &path, &[], &body).await;
            made.expect(202);
            assert!(made.text.contains(payload), "{}", made.text);
            api.rig.drain().await;
            assert_eq!(receiver.arrivals().last().unwrap().text(), payload);
        }
        let page = api.get_text(&path).await;
        assert!(payloads.iter().all(|payload| page.contains(payload)), "{page}");
        let strict: Result<Value, _> = serde_json::from_str(&page);
        assert_eq!(strict.unwrap()["data"].as_array().unwrap().len(), payloads.len());
    }
);

both!(
    what_an_sdk_s_parser_gives_up_at_is_kept_in_no_other_place_of_a_request,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("app").await;
        let endpoint = r#"{"url":"http://127.0.0.1:1/""#;
        for broken in [r#""\ud800""#, "1e999"] {
            for (path, body) in [
                (
                    "/event-type",
                    format!(r#"{{"name":"t","description":"","schemas":{{"1":{{"default":{broken}}}}}}}"#),
                ),
                ("/event-type", format!(r#"{{"name":"t","description":{broken}}}"#)),
                ("/app", format!(r#"{{"name":"n","metadata":{{"k":{broken}}}}}"#)),
                (
                    &format!("/app/{app}/endpoint"),
                    format!(r#"{endpoint},"description":{broken}}}"#),
                ),
                (
                    &format!("/app/{app}/endpoint"),
                    format!(r#"{endpoint},"headers":{{"a":{broken}}}}}"#),
                ),
            ] {
                let answer = api.call(&api.token, "POST", path, &[], &body).await;
                println!("{body} -> {}", answer.text);
                assert_eq!(answer.expect(422)["code"], "validation_error");
            }
        }
    }
);
