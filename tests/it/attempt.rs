//! Attempts through the API: reading one, and listing them by message and by endpoint.

use postrider::domain::id::Prefix;
use postrider::domain::timestamp::Timestamp;
use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{self, Receiver};

struct Sent {
    api: Api,
    app: String,
    /// The ids of the endpoints with the uids `good` and `bad`. `bad` answers 500 and then 404.
    good: String,
    bad: String,
    message: String,
    receivers: [Receiver; 2],
}

/// Sends one message of type `a` on channel `c` with the tag `t`: one attempt at `good`, two at `bad`.
async fn sent(db: &harness::TestDatabase) -> Sent {
    let mut api = Api::on(db).await;
    let receivers = [Receiver::start().await, Receiver::start().await];
    receivers[0].answer(harness::Answer::ok().body("fine"));
    receivers[1].answer(harness::Answer::status(500).body("broken"));
    let app = api.application("app").await;
    let mut ids = Vec::new();
    for (uid, receiver) in ["good", "bad"].into_iter().zip(&receivers) {
        let made = api
            .post(
                &format!("/app/{app}/endpoint"),
                json!({"url": receiver.url(), "uid": uid}),
            )
            .await;
        made.expect(201);
        ids.push(made.field("id"));
    }
    let body = json!({"eventType": "a", "payload": {}, "eventId": "m", "channels": ["c"], "tags": ["t"]});
    let made = api.post(&format!("/app/{app}/msg"), body).await;
    made.expect(202);
    api.rig.drain().await;
    receivers[1].answer(harness::Answer::status(404));
    api.rig.advance(7);
    api.rig.drain().await;
    let bad = ids.pop().unwrap();
    Sent {
        message: made.field("id"),
        good: ids.pop().unwrap(),
        bad,
        api,
        app,
        receivers,
    }
}

/// Inserts 10,050 messages of type `b` with the tag `t` that are newer than all others, each with an attempt at `bad` that
/// succeeded.
async fn many_newer(sent: &Sent) {
    let first = |prefix: Prefix| {
        let id = prefix.first_id_at(Timestamp(harness::START.0 + 86_400_000_000));
        id[..id.len() - 7].to_owned()
    };
    let (message, attempt) = (first(Prefix::Message), first(Prefix::Attempt));
    let numbers = "with recursive n(i) as (select 1000000 union all select i + 1 from n where i < 1010049)";
    for sql in [
        format!(
            "insert into message (app_id, id, event_type, created_at, expires_at) {numbers} \
             select $1, '{message}' || i, 'b' || substr($2, 1, 0), 0, 4000000000000000 from n"
        ),
        format!(
            "insert into attempt (app_id, message_id, id, endpoint_id, url, trigger, delivered, response_status, response, \
             duration_ms, created_at) {numbers} \
             select $1, '{message}' || i, '{attempt}' || i, $2, '', 0, true, 200, '', 1, 0 from n"
        ),
        format!(
            "insert into delivery_result (app_id, message_id, endpoint_id, state, updated_at) {numbers} \
             select $1, '{message}' || i, $2, 0, 0 from n"
        ),
        format!(
            "insert into message_tag (app_id, message_id, tag) {numbers} \
             select $1, '{message}' || i, 't' || substr($2, 1, 0) from n"
        ),
    ] {
        let values = [sent.app.as_str().into(), sent.bad.as_str().into()];
        sent.api.rig.sql(&sql, values).await;
    }
}

both!(
    a_page_looks_through_so_many_rows_however_few_pass_the_filter,
    async |db| {
        let sent = sent(db).await;
        many_newer(&sent).await;
        for (list, rows) in [
            ("attempt/endpoint/bad?status_code_class=400", 1),
            ("attempt/endpoint/bad?status_code_class=400&with_content=false", 1),
            ("attempt/endpoint/bad?status=2", 2),
            ("attempt/endpoint/bad?event_types=a", 2),
            ("attempt/endpoint/bad?channel=c", 2),
            ("attempt/endpoint/bad?tag=t&status=2", 2),
            ("msg?event_types=a", 1),
            ("msg?channel=c", 1),
            ("msg?tag=t&channel=c", 1),
            ("endpoint/bad/msg?event_types=a", 1),
            ("endpoint/bad/msg?channel=c&with_content=false", 1),
            ("endpoint/good/msg?tag=t", 1),
            ("endpoint/bad/msg?tag=t&status=3", 1),
        ] {
            let list = format!("/app/{}/{list}", sent.app);
            let page = sent.api.get(&list).await;
            assert_eq!(page.status, 200, "{list}: {}", page.text);
            let page = page.expect(200);
            assert_eq!((&page["data"], &page["done"]), (&json!([]), &json!(false)), "{list}");
            let next = format!("{list}&iterator={}", page["iterator"].as_str().unwrap());
            let page = sent.api.get(&next).await;
            let page = page.expect(200);
            let found = page["data"].as_array().unwrap().len();
            assert_eq!((found, &page["done"]), (rows, &json!(true)), "{list}");
        }
    }
);

both!(an_attempt_tells_what_was_tried_and_answered, async |db| {
    let sent = sent(db).await;
    let path = format!("/app/{}/attempt/endpoint/good", sent.app);
    let list = sent.api.get(&path).await;
    let list = list.expect(200)["data"].as_array().unwrap().clone();
    assert_eq!(list.len(), 1);
    let attempt = &list[0];
    assert!(attempt["id"].as_str().unwrap().starts_with("atmpt_"));
    assert_eq!(
        (&attempt["msgId"], &attempt["endpointId"]),
        (&json!(sent.message), &json!(sent.good))
    );
    assert_eq!(
        (&attempt["status"], &attempt["statusText"]),
        (&json!(0), &json!("success"))
    );
    assert_eq!(
        (&attempt["responseStatusCode"], &attempt["response"]),
        (&json!(200), &json!("fine"))
    );
    assert_eq!(
        (&attempt["triggerType"], &attempt["url"]),
        (&json!(0), &json!(sent.receivers[0].url()))
    );
    assert!(attempt["responseDurationMs"].is_i64() && attempt["timestamp"].is_string());
    assert_eq!(attempt["nextAttempt"], Value::Null);
    let failed = sent.api.get(&format!("/app/{}/attempt/endpoint/bad", sent.app)).await;
    assert!(failed.expect(200)["data"][0]["nextAttempt"].as_str().unwrap() > attempt["timestamp"].as_str().unwrap());
    let id = attempt["id"].as_str().unwrap();
    for message in [sent.message.as_str(), "m"] {
        let read = sent
            .api
            .get(&format!("/app/{}/msg/{message}/attempt/{id}", sent.app))
            .await;
        let mut read = read.expect(200).clone();
        let headers = read.as_object_mut().unwrap().remove("requestHeaders");
        assert!(headers.is_some_and(|headers| headers.is_array()));
        assert_eq!(&read, attempt);
    }
    sent.api
        .get(&format!("/app/{}/msg/m/attempt/atmpt_none", sent.app))
        .await
        .refused(404, "not_found");
});

both!(attempts_are_listed_newest_first_and_filtered, async |db| {
    let sent = sent(db).await;
    let Sent { app, good, bad, .. } = &sent;
    let by_message = format!("/app/{app}/attempt/msg/m");
    let by_endpoint = format!("/app/{app}/attempt/endpoint/{bad}");
    for (path, expected) in [
        (by_message.clone(), "404 500 200"),
        (format!("{by_message}?status=0"), "200"),
        (format!("{by_message}?status=2"), "404 500"),
        (format!("{by_message}?status=1"), ""),
        (format!("{by_message}?status=3"), ""),
        (format!("{by_message}?status_code_class=400"), "404"),
        (format!("{by_message}?status_code_class=500"), "500"),
        (format!("{by_message}?status_code_class=0"), ""),
        (format!("{by_message}?endpoint_id={good}"), "200"),
        (format!("{by_message}?endpoint_id=bad"), "404 500"),
        (format!("{by_message}?channel=c&event_types=a,b"), "404 500 200"),
        (format!("{by_message}?channel=d"), ""),
        (format!("{by_message}?event_types[]=b"), ""),
        (format!("{by_message}?before=2026-01-01T00:00:01Z&status=2"), "500"),
        (format!("{by_message}?after=2026-01-01T00:00:01Z"), "404"),
        (by_endpoint.clone(), "404 500"),
        (
            format!("{by_endpoint}?status=2&status_code_class=500&channel=c&event_types=a"),
            "500",
        ),
        (format!("{by_endpoint}?channel=d"), ""),
        (format!("{by_endpoint}?before=2026-01-01T00:00:01Z"), "500"),
    ] {
        let list = sent.api.walk(&path, 1).await;
        let mut codes: Vec<_> = list
            .iter()
            .map(|attempt| attempt["responseStatusCode"].to_string())
            .collect();
        if path == by_message || path.contains("channel=c&event_types=a,b") {
            // The two first attempts have the same instant, so their order is not defined.
            codes[1..].sort_by(|a, b| b.cmp(a));
        }
        assert_eq!(codes.join(" "), expected, "{path}");
    }
    let bare = sent.api.get(&format!("{by_message}?with_content=false")).await;
    for attempt in bare.expect(200)["data"].as_array().unwrap() {
        assert_eq!(attempt["response"], "{}");
    }
});

both!(attempts_at_an_unknown_endpoint_are_not_found, async |db| {
    let sent = sent(db).await;
    let Sent { api, app, .. } = &sent;
    let other = api.application("other").await;
    let endpoint = json!({"url": "http://127.0.0.1:1/", "uid": "elsewhere"});
    let elsewhere = api.post(&format!("/app/{other}/endpoint"), endpoint).await.field("id");
    for unknown in ["none", "ep_none", "%00", "", "elsewhere", &elsewhere] {
        let path = format!("/app/{app}/attempt/msg/m?endpoint_id={unknown}");
        api.get(&path).await.refused(404, "not_found");
    }
    api.get(&format!("/app/{app}/msg/m/endpoint/none/attempt"))
        .await
        .refused(404, "not_found");
    api.delete(&format!("/app/{app}/endpoint/bad")).await.expect(204);
    api.get(&format!("/app/{app}/attempt/msg/m?endpoint_id=bad"))
        .await
        .refused(404, "not_found");
});

both!(no_answer_is_status_code_0_with_the_reason, async |db| {
    let mut api = Api::on(db).await;
    let app = api.application("app").await;
    api.post(
        &format!("/app/{app}/endpoint"),
        json!({"url": "http://127.0.0.1:1/", "uid": "e"}),
    )
    .await
    .expect(201);
    api.post(&format!("/app/{app}/msg"), json!({"eventType": "a", "payload": {}}))
        .await
        .expect(202);
    api.rig.drain().await;
    let list = api
        .get(&format!("/app/{app}/attempt/endpoint/e?status_code_class=0"))
        .await;
    let attempt = &list.expect(200)["data"][0];
    assert_eq!(
        (&attempt["responseStatusCode"], &attempt["status"]),
        (&json!(0), &json!(2))
    );
    assert_eq!(attempt["statusText"], "fail");
    assert!(!attempt["response"].as_str().unwrap().is_empty());
});

both!(
    attempts_stay_readable_by_message_when_their_endpoint_is_gone,
    async |db| {
        let sent = sent(db).await;
        let Sent { api, app, bad, .. } = &sent;
        api.delete(&format!("/app/{app}/endpoint/{bad}")).await.expect(204);
        api.get(&format!("/app/{app}/attempt/endpoint/{bad}"))
            .await
            .refused(404, "not_found");
        let list = api.get(&format!("/app/{app}/attempt/msg/m?endpoint_id={bad}")).await;
        assert_eq!(list.expect(200)["data"].as_array().unwrap().len(), 2);
    }
);

both!(attempts_of_another_application_are_not_found, async |db| {
    let sent = sent(db).await;
    let Sent {
        api,
        app,
        good,
        message,
        ..
    } = &sent;
    let other = api.application("other").await;
    let token = api.token_of(app).await;
    let all = api.get(&format!("/app/{app}/attempt/msg/m")).await;
    let id = all.json["data"][0]["id"].as_str().unwrap().to_owned();
    for rest in [
        format!("attempt/msg/{message}"),
        format!("attempt/endpoint/{good}"),
        format!("msg/{message}/attempt/{id}"),
    ] {
        api.get(&format!("/app/{other}/{rest}")).await.refused(404, "not_found");
        api.call(&token, "GET", &format!("/app/{app}/{rest}"), &[], "")
            .await
            .expect(200);
        api.call(&token, "GET", &format!("/app/{other}/{rest}"), &[], "")
            .await
            .refused(404, "not_found");
    }
    assert_eq!(
        api.get(&format!("/app/{app}/attempt/msg/m?iterator=none")).await.json["code"],
        json!("validation_error")
    );
    let _: Value = all.json;
});
