//! Messages through the API: sending, reading, listing.

use serde_json::{Value, json};
use std::time::Duration;

use crate::api::{Answer, Api};
use crate::harness::Receiver;

/// A payload with an order of keys, numbers and escapes that a JSON parser would change.
const ODD: &str = r#"{"z":1,"a":1.10,"n":12345678901234567890123,"u":"\u00e9", "e":1E40}"#;

async fn send(api: &Api, app: &str, body: &str) -> Answer {
    api.call(&api.token, "POST", &format!("/app/{app}/msg"), &[], body)
        .await
}

both!(a_payload_passes_byte_for_byte, async |db| {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    let app = api.application("app").await;
    api.post(&format!("/app/{app}/endpoint"), json!({"url": receiver.url()}))
        .await
        .expect(201);
    let made = send(&api, &app, &format!(r#"{{"eventType":"a.b", "payload" : {ODD} }}"#)).await;
    let kept = format!(r#""payload":{ODD}"#);
    assert_eq!(made.status, 202);
    assert!(made.text.contains(&kept), "{}", made.text);
    let id = made.field("id");
    for path in [format!("/app/{app}/msg/{id}"), format!("/app/{app}/msg")] {
        let read = api.get_text(&path).await;
        assert!(read.contains(&kept), "{read}");
    }
    api.rig.drain().await;
    assert_eq!(receiver.arrivals()[0].text(), ODD);
});

both!(a_message_is_answered_with_what_was_sent, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let body = json!({
        "eventType": "a.b", "payload": {"k": 1}, "eventId": "e1", "channels": ["y", "x", "y"],
        "payloadRetentionPeriod": 5, "tags": ["t"], "unknown": true,
    });
    let made = api.post(&format!("/app/{app}/msg"), body).await;
    let made = made.expect(202);
    assert!(made["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!((&made["eventType"], &made["eventId"]), (&json!("a.b"), &json!("e1")));
    assert_eq!(
        (&made["channels"], &made["payload"]),
        (&json!(["y", "x"]), &json!({"k": 1}))
    );
    assert_eq!(made["timestamp"], "2026-01-01T00:00:00.000000Z");
    for name in [made["id"].as_str().unwrap(), "e1"] {
        assert_eq!(api.get(&format!("/app/{app}/msg/{name}")).await.expect(200), made);
    }
    let bare = api
        .post(
            &format!("/app/{app}/msg?with_content=false"),
            json!({"eventType": "a", "data": {"k": 1}}),
        )
        .await;
    assert_eq!(
        (&bare.expect(202)["payload"], &bare.json["channels"]),
        (&json!({}), &Value::Null)
    );
    let id = bare.field("id");
    assert_eq!(
        api.get(&format!("/app/{app}/msg/{id}")).await.expect(200)["payload"],
        json!({"k": 1})
    );
    let bare = api.get(&format!("/app/{app}/msg/{id}?with_content=false")).await;
    assert_eq!(bare.expect(200)["payload"], json!({}));
});

both!(a_message_is_sent_to_an_application_by_uid, async |db| {
    let api = Api::on(db).await;
    api.post("/app", json!({"name": "a", "uid": "mine"})).await.expect(201);
    let made = api
        .post("/app/mine/msg", json!({"eventType": "a", "payload": {}}))
        .await;
    made.expect(202);
    api.get(&format!("/app/mine/msg/{}", made.field("id")))
        .await
        .expect(200);
    api.post("/app/none/msg", json!({"eventType": "a", "payload": {}}))
        .await
        .refused(404, "not_found");
});

both!(an_event_id_is_taken_once, async |db| {
    let api = Api::on(db).await;
    let (first, second) = (api.application("one").await, api.application("two").await);
    let body = json!({"eventType": "a", "payload": {}, "eventId": "e"});
    api.post(&format!("/app/{first}/msg"), body.clone()).await.expect(202);
    api.post(&format!("/app/{first}/msg"), body.clone())
        .await
        .refused(409, "conflict");
    api.post(&format!("/app/{second}/msg"), body).await.expect(202);
});

both!(a_message_of_another_application_is_not_found, async |db| {
    let api = Api::on(db).await;
    let (first, second) = (api.application("one").await, api.application("two").await);
    let made = api
        .post(
            &format!("/app/{first}/msg"),
            json!({"eventType": "a", "payload": {}, "eventId": "e"}),
        )
        .await;
    made.expect(202);
    for name in [made.field("id"), "e".to_owned()] {
        api.get(&format!("/app/{second}/msg/{name}"))
            .await
            .refused(404, "not_found");
    }
});

both!(a_payload_that_is_gone_is_said_to_be_expired, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let made = api
        .post(
            &format!("/app/{app}/msg"),
            json!({"eventType": "a", "payload": {"k": 1}}),
        )
        .await;
    made.expect(202);
    api.rig.sql("delete from message_content", []).await;
    for (query, payload) in [("", json!({"expired": true})), ("?with_content=false", json!({}))] {
        let read = api.get(&format!("/app/{app}/msg/{}{query}", made.field("id"))).await;
        assert_eq!(read.expect(200)["payload"], payload);
        assert_eq!(
            api.get(&format!("/app/{app}/msg{query}")).await.expect(200)["data"][0]["payload"],
            payload
        );
    }
});

both!(an_application_token_reads_messages_and_sends_none, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let made = api
        .post(&format!("/app/{app}/msg"), json!({"eventType": "a", "payload": {}}))
        .await;
    made.expect(202);
    let token = api.token_of(&app).await;
    for path in [
        format!("/app/{app}/msg"),
        format!("/app/{app}/msg/{}", made.field("id")),
    ] {
        api.call(&token, "GET", &path, &[], "").await.expect(200);
    }
    api.call(&token, "POST", &format!("/app/{app}/msg"), &[], "{}")
        .await
        .refused(403, "insufficient access");
});

async fn event_ids(api: &Api, path: &str) -> Vec<String> {
    let list = api.walk(path, 2).await;
    list.iter()
        .map(|message| message["eventId"].as_str().unwrap().to_owned())
        .collect()
}

/// Creates the messages m0 to m4, a second apart. m1 and m3 have the type `odd`; m3 and m4 have the channel `c`.
async fn five(api: &Api) -> String {
    let app = api.application("app").await;
    for n in 0..5 {
        let event_type = if n % 2 == 1 { "odd" } else { "even" };
        let mut body = json!({"eventType": event_type, "payload": {"n": n}, "eventId": format!("m{n}")});
        if n > 2 {
            body["channels"] = json!(["c", "C_d"]);
        }
        api.post(&format!("/app/{app}/msg"), body).await.expect(202);
        api.rig.clock.advance(Duration::from_secs(1));
    }
    app
}

both!(messages_are_listed_newest_first_and_filtered, async |db| {
    let api = Api::on(db).await;
    let app = five(&api).await;
    for (query, expected) in [
        ("", "m4 m3 m2 m1 m0"),
        ("?channel=c", "m4 m3"),
        ("?channel=C", ""),
        ("?channel=C.d", ""),
        ("?channel=CXd", ""),
        ("?event_types=odd", "m3 m1"),
        ("?event_types=odd,even", "m4 m3 m2 m1 m0"),
        ("?event_types=odd&event_types=none", "m3 m1"),
        ("?event_types[]=odd", "m3 m1"),
        ("?event_types%5B0%5D=odd&event_types%5B1%5D=even&channel=c", "m4 m3"),
        ("?before=2026-01-01T00:00:02Z", "m1 m0"),
        ("?before=2026-01-01T00:00:02.000001Z", "m2 m1 m0"),
        ("?before=2026-01-01T01:00:02%2B01:00", "m1 m0"),
        ("?before=2026-01-01T01:00:02+01:00", "m1 m0"),
        ("?before=2026-01-01T00:00:03Z&after=2026-01-01T00:00:00Z", "m2 m1"),
        ("?with_content=false&expanded_statuses=true", "m4 m3 m2 m1 m0"),
    ] {
        assert_eq!(
            event_ids(&api, &format!("/app/{app}/msg{query}")).await.join(" "),
            expected,
            "{query}"
        );
    }
});

both!(a_lone_after_begins_with_the_oldest, async |db| {
    let api = Api::on(db).await;
    let app = five(&api).await;
    let path = format!("/app/{app}/msg?limit=2&after=2026-01-01T00:00:00Z");
    let page = api.get(&path).await;
    let names = |page: &Value| {
        let data = page["data"].as_array().unwrap().iter();
        data.map(|message| message["eventId"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(page.expect(200)), ["m2", "m1"]);
    assert_eq!(page.json["done"], false);
    let next = api
        .get(&format!(
            "{path}&iterator={}",
            page.json["prevIterator"].as_str().unwrap()
        ))
        .await;
    assert_eq!(names(next.expect(200)), ["m4", "m3"]);
    assert_eq!(next.json["done"], true);
});

both!(a_payload_may_be_nested_a_hundred_levels_deep, async |db| {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    let app = api.application("app").await;
    api.post(&format!("/app/{app}/endpoint"), json!({"url": receiver.url()}))
        .await
        .expect(201);
    let nested = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
    let body = |levels: usize| format!(r#"{{"eventType":"a","payload":{}}}"#, nested(levels));
    let path = format!("/app/{app}/msg?with_content=false");
    for levels in [101, 100_000] {
        let answer = api.call(&api.token, "POST", &path, &[], &body(levels)).await;
        answer.breaks_rule_at("body.payload");
    }
    api.call(&api.token, "POST", &path, &[], &body(100)).await.expect(202);
    api.rig.drain().await;
    assert_eq!(receiver.arrivals()[0].text(), nested(100));
    let list = api.get_text(&format!("/app/{app}/msg")).await;
    let parsed: Value = serde_json::from_str(&list).expect("a parser with the usual limit of 128 levels reads it");
    assert_eq!(parsed["data"][0]["payload"].to_string(), nested(100));
});

both!(a_page_ends_early_where_payloads_are_large, async |db| {
    let api = Api::on(db).await;
    let app = api.application("app").await;
    let path = format!("/app/{app}/msg");
    for n in 0..10 {
        let large = json!({"eventType": "a", "eventId": n.to_string(), "payload": {"k": "x".repeat(500_000)}});
        api.post(&format!("{path}?with_content=false"), large).await.expect(202);
    }
    let all: Vec<String> = (0..10).rev().map(|n| n.to_string()).collect();
    let ids = |page: &Value| -> Vec<String> {
        let rows = page["data"].as_array().unwrap().iter();
        rows.map(|row| row["eventId"].as_str().unwrap().to_owned()).collect()
    };
    let first = api.get(&path).await.expect(200).clone();
    assert_eq!((ids(&first), &first["done"]), (all[..8].to_vec(), &json!(false)));
    let next = format!("{path}?iterator={}", first["iterator"].as_str().unwrap());
    let next = api.get(&next).await.expect(200).clone();
    assert_eq!((ids(&next), &next["done"]), (all[8..].to_vec(), &json!(true)));
    let last = next["iterator"].as_str().unwrap();
    let back = api.get(&format!("{path}?iterator=-{last}")).await.expect(200).clone();
    assert_eq!((ids(&back), &back["done"]), (all[1..9].to_vec(), &json!(false)));
    let without = api.get(&format!("{path}?with_content=false")).await.expect(200).clone();
    assert_eq!(ids(&without), all);
});
