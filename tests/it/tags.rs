//! Tags of messages: given when a message is sent, shown with it, removed with it, and used by lists.
//! `reads.rs` has the filter of each list.

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{Kind, Receiver, Rig, TestDatabase, recorded};

/// Creates the application `a` with the endpoint `e`.
async fn prepared(db: &TestDatabase) -> (Api, Receiver) {
    let (api, receiver) = (Api::on(db).await, Receiver::start().await);
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    let endpoint = json!({"url": receiver.url(), "uid": "e"});
    api.post("/app/a/endpoint", endpoint).await.expect(201);
    (api, receiver)
}

fn tagged(event_id: &str, tags: Value) -> Value {
    json!({"eventType": "t", "eventId": event_id, "payload": {}, "tags": tags})
}

both!(a_message_has_its_tags_wherever_it_is_shown, async |db| {
    let (mut api, _receiver) = prepared(db).await;
    for (event_id, given, kept) in [
        ("m1", json!(["b", "ä ü/1", "a", "b"]), json!(["a", "b", "ä ü/1"])),
        ("m2", json!([]), json!(null)),
        ("m3", json!(null), json!(null)),
    ] {
        let made = api.post("/app/a/msg", tagged(event_id, given)).await;
        assert_eq!(made.expect(202)["tags"], kept);
        api.rig.drain().await;
        assert_eq!(
            api.get(&format!("/app/a/msg/{event_id}")).await.expect(200)["tags"],
            kept
        );
        for list in ["/app/a/msg", "/app/a/msg?with_content=false", "/app/a/endpoint/e/msg"] {
            let page = api.get(list).await;
            let newest = &page.expect(200)["data"][0];
            assert_eq!(
                (&newest["eventId"], &newest["tags"]),
                (&json!(event_id), &kept),
                "{list}"
            );
        }
    }
});

both!(a_message_has_at_most_ten_tags_of_256_characters, async |db| {
    let (api, _receiver) = prepared(db).await;
    let named = |count: usize| (0..count).map(|n| format!("tag {n}")).collect::<Vec<_>>();
    for tags in [json!(named(10)), json!(["ä".repeat(256)]), json!(vec!["a"; 100])] {
        let message = json!({"eventType": "t", "payload": {}, "tags": tags});
        api.post("/app/a/msg", message).await.expect(202);
    }
    for tags in [
        json!(named(11)),
        json!(["ä".repeat(257)]),
        json!([""]),
        json!(["a\nb"]),
        json!("a"),
    ] {
        let message = json!({"eventType": "t", "payload": {}, "tags": tags});
        api.post("/app/a/msg", message).await.breaks_rule_at("body.tags");
    }
    assert_eq!(api.rig.count("message").await, 3);
});

both!(tags_are_stored_whatever_else_the_batch_has, async |db| {
    let (api, _receiver) = prepared(db).await;
    api.post("/app", json!({"name": "b", "uid": "b"})).await.expect(201);
    for (app, wanted) in [("a", "with an endpoint"), ("b", "without one")] {
        let message = || json!({"eventType": "t", "payload": {}, "tags": [wanted]});
        let path = format!("/app/{app}/msg");
        let plain = api.post(&path, message()).await.field("id");
        let keyed = api.post_once(&path, wanted, message()).await.field("id");
        let found = api.walk(&format!("{path}?tag={}", wanted.replace(' ', "+")), 1).await;
        let found: Vec<_> = found.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(found, [keyed, plain], "{wanted}");
    }
});

both!(the_same_key_with_other_tags_is_another_message, async |db| {
    let (api, _receiver) = prepared(db).await;
    let message = |tags: Value| json!({"eventType": "t", "payload": {}, "tags": tags});
    let first = api.post_once("/app/a/msg", "k", message(json!(["b", "a"]))).await;
    first.expect(202);
    let again = api.post_once("/app/a/msg", "k", message(json!(["a", "b"]))).await;
    assert_eq!((again.status.as_u16(), &again.text), (202, &first.text));
    for tags in [json!(["a"]), json!(null), json!(["a", "c"])] {
        let other = api.post_once("/app/a/msg", "k", message(tags)).await;
        other.refused(409, "conflict");
    }
    let path = format!("/app/a/msg/{}/content", first.field("id"));
    api.delete(&path).await.expect(204);
    let again = api.post_once("/app/a/msg", "k", message(json!(["a", "b"]))).await;
    assert_eq!(
        again.expect(202)["id"],
        first.json["id"],
        "a payload that was removed counts as equal"
    );
});

both!(tags_are_removed_with_the_payload_and_with_the_message, async |db| {
    let (mut api, _receiver) = prepared(db).await;
    for event_id in ["m1", "m2"] {
        let message = tagged(event_id, json!(["t", event_id]));
        api.post("/app/a/msg", message).await.expect(202);
    }
    api.rig.drain().await;
    api.delete("/app/a/msg/m1/content").await.expect(204);
    assert_eq!(api.get("/app/a/msg/m1").await.expect(200)["tags"], json!(null));
    let left = api.walk("/app/a/msg?tag=t", 250).await;
    assert_eq!((left.len(), &left[0]["eventId"]), (1, &json!("m2")));
    assert_eq!(api.rig.count("message_tag").await, 2);
    api.rig.advance(181 * 86_400);
    api.rig.prune().await;
    assert_eq!(api.rig.count("message").await, 0);
    assert_eq!(api.rig.count("message_tag").await, 0);
});

both!(a_tag_finds_messages_of_its_own_application_alone, async |db| {
    let (mut api, receiver) = prepared(db).await;
    api.post("/app", json!({"name": "b", "uid": "b"})).await.expect(201);
    let endpoint = json!({"url": receiver.url(), "uid": "e"});
    api.post("/app/b/endpoint", endpoint).await.expect(201);
    for app in ["a", "b"] {
        let message = tagged(&format!("of-{app}"), json!(["shared"]));
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
    }
    api.rig.drain().await;
    for app in ["a", "b"] {
        for list in [format!("/app/{app}/msg"), format!("/app/{app}/endpoint/e/msg")] {
            let found = api.walk(&format!("{list}?tag=shared"), 250).await;
            assert_eq!(found.len(), 1, "{list}");
            assert_eq!(found[0]["eventId"], format!("of-{app}"), "{list}");
        }
        let attempts = api
            .walk(&format!("/app/{app}/attempt/endpoint/e?tag=shared"), 250)
            .await;
        assert_eq!(attempts.len(), 1);
    }
});

both!(attempts_are_found_by_a_tag_of_many_messages, async |db| {
    let (mut api, _receiver) = prepared(db).await;
    for (event_id, tags) in [("m1", json!(["t"])), ("m2", json!(["u"])), ("m3", json!(["t"]))] {
        api.post("/app/a/msg", tagged(event_id, tags)).await.expect(202);
        api.rig.drain().await;
    }
    // Other messages of the tag, which were never sent to the endpoint.
    let many = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1100) \
                insert into message_tag (app_id, message_id, tag) select app_id, 'msg_' || i, 't' from n, message \
                where event_id = 'm1'";
    api.rig.sql(many, []).await;
    let expected = [
        api.get("/app/a/msg/m3").await.field("id"),
        api.get("/app/a/msg/m1").await.field("id"),
    ];
    for limit in [1, 250] {
        let found = api.walk("/app/a/attempt/endpoint/e?tag=t", limit).await;
        let found: Vec<_> = found.iter().map(|row| row["msgId"].as_str().unwrap()).collect();
        assert_eq!(found, expected, "by {limit}");
    }
});

both!(a_batch_without_tags_is_stored_as_if_there_were_none, async |db| {
    let (_, statements) = recorded(async || {
        let rig = Rig::on(db).await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", "http://127.0.0.1:9/").await;
        for _ in 0..3 {
            rig.intake.accept(rig.message(&app, "{}")).await.expect("a message");
        }
    });
    assert!(statements.iter().any(|sql| sql.contains("insert into message ")));
    assert!(
        !statements.iter().any(|sql| sql.contains("message_tag")),
        "{statements:#?}"
    );
});

both!(tags_cost_no_statement_on_postgres_and_one_on_sqlite, async |db| {
    let (_, statements) = recorded(async || {
        let rig = Rig::on(db).await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", "http://127.0.0.1:9/").await;
        let mut message = rig.message(&app, "{}");
        message.tags = vec!["x".to_owned(), "y".to_owned()];
        rig.intake.accept(message).await.expect("a message");
    });
    let of_tags: Vec<_> = statements.iter().filter(|sql| sql.contains("message_tag")).collect();
    assert_eq!(of_tags.len(), 1, "{of_tags:#?}");
    let with_its_message = of_tags[0].contains("insert into message ");
    assert_eq!(with_its_message, db.kind() == Kind::Postgres, "{of_tags:#?}");
});
