//! Reading the messages of pollers: which messages, in which order, signed how, and where the next page begins.

use std::time::Duration;

use postrider::domain::id::Prefix;
use ring::digest::{SHA256, digest};
use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::api::Api;
use crate::harness::{DEADLINE, Kind, Shape, TestDatabase, recorded, rows, within};

const DAY: u64 = 86_400;

/// Creates the application `a` with the poller `p`.
async fn one(db: &TestDatabase) -> Api {
    let api = Api::on(db).await;
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    api.post("/app/a/poller", json!({"uid": "p"})).await.expect(201);
    api
}

/// Sends a message with this event id, and returns its id.
async fn send(api: &Api, event_id: &str) -> String {
    let message = json!({"eventType": "t", "eventId": event_id, "payload": {"id": event_id}});
    api.post("/app/a/msg", message).await.field("id")
}

fn event_ids(page: &Value) -> String {
    let ids: Vec<_> = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["eventId"].as_str().unwrap())
        .collect();
    ids.join(" ")
}

/// Polls until a page has these messages: a transaction of another test on the same server may still be open.
pub async fn polled(api: &Api, path: &str, expected: &str) -> Value {
    within(DEADLINE, &format!("{path}: {expected}"), async || {
        let page = api.get(path).await;
        (event_ids(page.expect(200)) == expected).then_some(page.json)
    })
    .await
}

pub fn with(path: &str, page: &Value) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}iterator={}", page["iterator"].as_str().unwrap())
}

both!(
    a_poll_returns_what_came_since_the_poller_s_creation_page_by_page,
    async |db| {
        let api = Api::on(db).await;
        api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
        send(&api, "before").await;
        api.post("/app/a/poller", json!({"uid": "p"})).await.expect(201);
        let path = "/app/a/poller/p";
        let empty = api.get(path).await;
        assert_eq!(empty.expect(200)["data"], json!([]));
        assert_eq!(
            (&empty.json["done"], &empty.json["restarted"]),
            (&json!(true), &json!(false))
        );
        assert!(!empty.field("iterator").is_empty());
        for n in 0..5 {
            send(&api, &format!("m{n}")).await;
        }
        let all = polled(&api, path, "m0 m1 m2 m3 m4").await;
        assert_eq!(all["done"], true);
        assert_eq!(polled(&api, &with(path, &empty.json), "m0 m1 m2 m3 m4").await, all);
        let first = polled(&api, "/app/a/poller/p?limit=2", "m0 m1").await;
        assert_eq!(first["done"], false);
        let second = polled(&api, &with("/app/a/poller/p?limit=2", &first), "m2 m3").await;
        let third = polled(&api, &with("/app/a/poller/p?limit=2", &second), "m4").await;
        assert_eq!((&second["done"], &third["done"]), (&json!(false), &json!(true)));
        let end = polled(&api, &with(path, &third), "").await;
        assert_eq!(
            end["iterator"], third["iterator"],
            "an empty page goes on where it began"
        );
        send(&api, "later").await;
        polled(&api, &with(path, &end), "later").await;
    }
);

both!(
    each_message_has_the_fields_of_the_contract_and_headers_that_verify,
    async |db| {
        let shape = Shape {
            clock: postrider::clock::Clock::system(),
            ..Shape::default()
        };
        let api = Api::shaped(db, shape, postrider::api::ApiState::BODY_DEADLINE).await;
        api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
        api.post("/app/a/poller", json!({"uid": "p"})).await.expect(201);
        let text =
            r#"{"eventType":"t","eventId":"m","channels":["c"],"tags":["x"],"payload":{"z":1,"a":1.10,"ü":"\u00e9"}}"#;
        let sent = api.call(&api.token, "POST", "/app/a/msg", &[], text).await;
        let raw = json!({
            "eventType": "t", "eventId": "raw", "payload": {},
            "transformationsParams": {"rawPayload": "no json", "headers": {"content-type": "text/plain"}},
        });
        api.post("/app/a/msg", raw).await.expect(202);
        polled(&api, "/app/a/poller/p", "m raw").await;
        let page = api.get("/app/a/poller/p").await;
        let rows = page.json["data"].as_array().unwrap();
        let mut first = rows[0].clone();
        let headers = first.as_object_mut().unwrap().remove("headers").unwrap();
        assert_eq!(&first, sent.expect(202), "the same fields as everywhere");
        let key = api.get("/app/a/poller/p/secret").await.field("key");
        let payloads = [
            r#"{"z":1,"a":1.10,"ü":"\u00e9"}"#.to_owned(),
            r#"{"rawPayload":"no json"}"#.to_owned(),
        ];
        for (row, payload) in rows.iter().zip(payloads) {
            assert!(page.text.contains(&format!("\"payload\":{payload},")), "{}", page.text);
            let mut map = poem::http::HeaderMap::new();
            for (name, value) in row["headers"].as_object().unwrap() {
                let name = poem::http::HeaderName::try_from(name.as_str()).unwrap();
                map.insert(name, value.as_str().unwrap().parse().unwrap());
            }
            assert_eq!(map["webhook-id"], row["id"].as_str().unwrap());
            Webhook::new(&key)
                .unwrap()
                .verify(payload.as_bytes(), &map)
                .expect("the signature is right");
        }
        let names: Vec<_> = headers.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["webhook-id", "webhook-signature", "webhook-timestamp"]);
        api.post("/app/a/poller/p/secret/rotate", json!({})).await.expect(200);
        let page = api.get("/app/a/poller/p").await;
        let signatures = page.json["data"][0]["headers"]["webhook-signature"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(signatures.split(' ').count(), 2, "the old secret goes on signing");
        api.delete("/app/a/msg/m/content").await.expect(204);
        let page = api.get("/app/a/poller/p").await;
        assert_eq!(page.json["data"][0]["payload"], json!({"expired": true}));
    }
);

both!(a_poller_gets_what_its_filter_wants_while_it_is_enabled, async |db| {
    let api = one(db).await;
    for name in ["t", "u"] {
        let event_type = json!({"name": name, "description": ""});
        api.post("/event-type", event_type).await.expect(201);
    }
    for (uid, more) in [
        ("of-t", json!({"eventTypes": ["t"]})),
        ("of-c", json!({"channels": ["c", "d"]})),
        ("off", json!({"disabled": true})),
    ] {
        let mut poller = more;
        poller["uid"] = json!(uid);
        api.post("/app/a/poller", poller).await.expect(201);
    }
    for (event_id, event_type, channels) in [
        ("1", "t", Value::Null),
        ("2", "u", json!(["c"])),
        ("3", "t", json!(["d", "x"])),
        ("4", "v", json!(["x"])),
    ] {
        let message = json!({"eventType": event_type, "eventId": event_id, "channels": channels, "payload": {}});
        api.post("/app/a/msg", message).await.expect(202);
    }
    polled(&api, "/app/a/poller/p", "1 2 3 4").await;
    polled(&api, "/app/a/poller/of-t", "1 3").await;
    polled(&api, "/app/a/poller/of-c", "2 3").await;
    polled(&api, "/app/a/poller/off", "").await;
    for (query, expected) in [
        ("event_type=t", "1 3"),
        ("event_type=t&limit=1", "1"),
        ("channel=x", "3 4"),
        ("channel=d&event_type=t", "3"),
        ("channel=none", ""),
    ] {
        polled(&api, &format!("/app/a/poller/p?{query}"), expected).await;
    }
    let none = polled(&api, "/app/a/poller/p?channel=none", "").await;
    polled(&api, &with("/app/a/poller/p", &none), "").await;
    api.patch("/app/a/poller/off", json!({"disabled": false}))
        .await
        .expect(200);
    api.patch("/app/a/poller/of-t", json!({"disabled": true}))
        .await
        .expect(200);
    send(&api, "5").await;
    polled(&api, "/app/a/poller/off", "5").await;
    polled(&api, "/app/a/poller/of-t", "1 3").await;
});

both!(
    a_message_without_an_event_id_and_many_at_once_are_polled_too,
    async |db| {
        let api = one(db).await;
        let sends = (0..100).map(|n| {
            api.post(
                "/app/a/msg",
                json!({"eventType": "t", "payload": {"n": n}, "tags": ["x"]}),
            )
        });
        let sent = futures_util::future::join_all(sends).await;
        let mut expected: Vec<_> = sent.iter().map(|answer| answer.field("id")).collect();
        expected.sort();
        let mut found = within(DEADLINE, "all are read", async || {
            let page = api.get("/app/a/poller/p?limit=250").await;
            let rows = page.expect(200)["data"].as_array().unwrap().clone();
            let ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
            (ids.len() == 100).then_some(ids)
        })
        .await;
        found.sort();
        assert_eq!(found, expected);
    }
);

both!(an_example_for_one_endpoint_is_not_polled, async |db| {
    let api = one(db).await;
    let endpoint = json!({"url": "http://127.0.0.1:9/", "uid": "e"});
    api.post("/app/a/endpoint", endpoint).await.expect(201);
    let example = json!({"eventType": "svix.ping"});
    api.post("/app/a/endpoint/e/send-example", example).await.expect(202);
    send(&api, "m").await;
    polled(&api, "/app/a/poller/p", "m").await;
});

both!(
    a_query_of_a_poll_that_breaks_a_rule_is_refused_with_its_name,
    async |db| {
        let api = one(db).await;
        for (query, place) in [
            ("limit=0", "query.limit"),
            ("limit=251", "query.limit"),
            ("wait=26", "query.wait"),
            ("wait=-1", "query.wait"),
            ("iterator=msg_1", "query.iterator"),
            ("iterator=a.0123abcd.1.x", "query.iterator"),
        ] {
            for path in ["/app/a/poller/p", "/app/a/poller/p/consumer/c"] {
                api.get(&format!("{path}?{query}")).await.breaks_rule_at(place);
            }
        }
        for name in ["event_type", "channel"] {
            let answer = api.get(&format!("/app/a/poller/p?{name}=a%20b")).await;
            answer.breaks_rule_at(&format!("query.{name}"));
        }
        for query in ["limit=x", "wait=x", "after=x"] {
            api.get(&format!("/app/a/poller/p?{query}"))
                .await
                .refused(400, "generic_error");
        }
        api.get("/app/a/poller/p/consumer/ä")
            .await
            .breaks_rule_at("path.consumer_id");
        let seek = json!({"after": "2026-01-01T00:00:00Z"});
        api.post("/app/a/poller/p/consumer/ä/seek", seek)
            .await
            .breaks_rule_at("path.consumer_id");
    }
);

both!(
    a_consumer_confirms_a_page_by_its_iterator_and_gets_it_again_without,
    async |db| {
        let api = one(db).await;
        for n in 0..5 {
            send(&api, &format!("m{n}")).await;
        }
        let path = "/app/a/poller/p/consumer/c?limit=2";
        let first = polled(&api, path, "m0 m1").await;
        polled(&api, path, "m0 m1").await;
        let second = polled(&api, &with(path, &first), "m2 m3").await;
        polled(&api, path, "m2 m3").await;
        polled(&api, "/app/a/poller/p/consumer/d", "m0 m1 m2 m3 m4").await;
        let last = polled(&api, &with(path, &second), "m4").await;
        let end = polled(&api, &with(path, &last), "").await;
        assert_eq!(end["done"], true);
        polled(&api, path, "").await;
        let listed = api.get("/app/a/poller/p/consumer").await;
        let rows = listed.expect(200)["data"].as_array().unwrap();
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row["name"].clone(), row["waiting"].clone()))
            .collect();
        assert_eq!(shown, [(json!("c"), json!(0)), (json!("d"), json!(5))]);
        assert_eq!(rows[0]["iterator"], last["iterator"]);
        assert_eq!(rows[0]["waitingSince"], Value::Null);
        let oldest = api.get("/app/a/msg/m0").await.field("timestamp");
        assert_eq!(rows[1]["waitingSince"], oldest);
    }
);

both!(a_consumer_that_is_deleted_begins_again, async |db| {
    let api = one(db).await;
    for n in 0..3 {
        send(&api, &format!("m{n}")).await;
    }
    let path = "/app/a/poller/p/consumer/c";
    let read = polled(&api, path, "m0 m1 m2").await;
    polled(&api, &with(path, &read), "").await;
    api.delete("/app/a/poller/p/consumer/other").await.expect(404);
    api.delete("/app/a/poller/p/consumer/ä")
        .await
        .breaks_rule_at("path.consumer_id");
    api.delete(path).await.expect(204);
    api.delete(path).await.expect(404);
    let left = api.walk("/app/a/poller/p/consumer", 250).await;
    assert_eq!(left, Vec::<Value>::new());
    let entries = api.walk("/audit?operation=v1.poller.consumer.delete", 250).await;
    assert_eq!(entries.len(), 1);
    let told = &entries[0]["after"];
    assert_eq!((&told["consumer"], &told["iterator"]), (&json!("c"), &read["iterator"]));
    polled(&api, path, "m0 m1 m2").await;
});

both!(
    a_seek_moves_a_consumer_to_the_first_message_that_is_not_before_an_instant,
    async |db| {
        let api = one(db).await;
        let mut instants = Vec::new();
        for n in 0..4 {
            send(&api, &format!("m{n}")).await;
            instants.push(api.get(&format!("/app/a/msg/m{n}")).await.field("timestamp"));
            api.rig.advance(10);
        }
        polled(&api, "/app/a/poller/p", "m0 m1 m2 m3").await;
        let seek = async |after: &str| {
            let path = "/app/a/poller/p/consumer/c/seek";
            api.post(path, json!({ "after": after })).await.expect(200).clone()
        };
        for (after, expected) in [
            (instants[2].as_str(), "m2 m3"),
            (instants[0].as_str(), "m0 m1 m2 m3"),
            ("1970-01-01T00:00:00Z", "m0 m1 m2 m3"),
            ("1960-01-01T00:00:00Z", "m0 m1 m2 m3"),
            ("2026-01-01T00:00:25Z", "m3"),
            ("2300-01-01T00:00:00Z", ""),
        ] {
            let place = seek(after).await;
            polled(&api, "/app/a/poller/p/consumer/c", expected).await;
            polled(&api, &with("/app/a/poller/p", &place), expected).await;
            polled(&api, &format!("/app/a/poller/p?after={after}"), expected).await;
        }
        send(&api, "later").await;
        polled(&api, "/app/a/poller/p/consumer/c", "later").await;
        let entries = api.walk("/audit?operation=v1.message.poller.consumer-seek", 250).await;
        assert_eq!(entries.len(), 6);
        assert_eq!(entries[0]["after"]["consumer"], "c");
    }
);

both!(
    a_seek_in_a_young_application_skips_no_message_before_one_that_was_committed_late,
    async |db| {
        let api = one(db).await;
        send(&api, "late").await;
        api.rig.advance(200);
        send(&api, "new").await;
        let after = api.get("/app/a/msg/new").await.field("timestamp");
        // As if the first message's commit had been tried for 200 s, and had come behind that of the second one.
        let exchange = "update poll_item set tx = (select min(tx) + max(tx) from poll_item) - tx";
        assert_eq!(api.rig.sql(exchange, []).await, 2);
        polled(&api, "/app/a/poller/p", "new late").await;
        polled(&api, &format!("/app/a/poller/p?after={after}"), "new late").await;
        let seek = json!({ "after": after });
        api.post("/app/a/poller/p/consumer/c/seek", seek).await.expect(200);
        polled(&api, "/app/a/poller/p/consumer/c", "new late").await;
    }
);

both!(
    a_seek_skips_no_message_before_thousands_that_were_committed_late,
    async |db| {
        let api = one(db).await;
        let found = rows(&api.rig.db, "select number from poller").await;
        let poller: i64 = found[0].try_get("", "number").expect("a number");
        let now = api.rig.clock.now();
        let id = |seconds, micros| {
            let at = now.plus(Duration::from_secs(seconds) + Duration::from_micros(micros));
            Prefix::Message.first_id_at(at)
        };
        let row = |number: u64, id: &str| format!("({poller}, {}, '{id}')", (1_u64 << 48) + number);
        let mut items: Vec<_> = (80..200).map(|second| row(second, &id(second, 0))).collect();
        // As if a process had tried its batch again for two minutes, while another one stored its messages.
        items.extend((0..3_000).map(|micros| row(400, &id(200, micros))));
        items.push(row(300, &id(300, 0)));
        items.push(row(500, &id(600, 0)));
        let sql = format!(
            "insert into poll_item (poller_number, tx, message_id) values {}",
            items.join(", ")
        );
        api.rig.sql(&sql, []).await;
        let after = now.plus(Duration::from_secs(300)).to_rfc3339();
        let seek = api.post("/app/a/poller/p/consumer/c/seek", json!({ "after": after }));
        let place = seek.await.field("iterator");
        let expected = format!(".{}.{}", (1_u64 << 48) + 300, id(300, 0));
        assert!(place.ends_with(&expected), "{place}, and not {expected}");
    }
);

both!(
    a_poller_has_100_consumers_and_unused_ones_go_after_30_days,
    async |db| {
        let mut api = one(db).await;
        for n in 0..100 {
            api.get(&format!("/app/a/poller/p/consumer/c{n}")).await.expect(200);
        }
        let sentence = "a poller has at most 100 consumers; delete one, or wait until one was not used for 30 days";
        let more = api.get("/app/a/poller/p/consumer/more").await;
        more.is_over_limit(sentence);
        let seek = json!({"after": "2026-01-01T00:00:00Z"});
        let more = api.post("/app/a/poller/p/consumer/more/seek", seek).await;
        more.is_over_limit(sentence);
        api.rig.advance(29 * DAY);
        api.get("/app/a/poller/p/consumer/c7").await.expect(200);
        api.rig.advance(2 * DAY);
        api.rig.prune().await;
        let left = api.walk("/app/a/poller/p/consumer", 250).await;
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0]["name"], "c7");
        api.get("/app/a/poller/p/consumer/more").await.expect(200);
    }
);

both!(
    rows_go_with_their_messages_and_a_cursor_from_before_misses_nothing_new,
    async |db| {
        let mut api = one(db).await;
        for n in 0..3 {
            send(&api, &format!("m{n}")).await;
        }
        let first = polled(&api, "/app/a/poller/p?limit=1", "m0").await;
        let all = polled(&api, "/app/a/poller/p", "m0 m1 m2").await;
        polled(&api, "/app/a/poller/p/consumer/c", "m0 m1 m2").await;
        api.rig.advance(200 * DAY);
        api.rig.prune().await;
        assert_eq!(api.rig.count("poll_item").await, 0);
        assert_eq!(api.rig.count("message").await, 0);
        for page in [&first, &all] {
            let empty = polled(&api, &with("/app/a/poller/p", page), "").await;
            assert_eq!(empty["restarted"], true, "its place is gone");
        }
        send(&api, "new").await;
        for page in [&first, &all] {
            let read = polled(&api, &with("/app/a/poller/p", page), "new").await;
            let next = polled(&api, &with("/app/a/poller/p", &read), "").await;
            assert_eq!(next["restarted"], false);
        }
        polled(&api, "/app/a/poller/p", "new").await;
    }
);

both!(
    rows_of_a_deleted_poller_go_though_nothing_else_is_left_of_their_messages,
    async |db| {
        let mut api = one(db).await;
        send(&api, "m").await;
        api.delete("/app/a/poller/p").await.expect(204);
        // As if a janitor that had lost its turn had kept the rows locked, while another one removed all the others.
        for table in ["message_content", "message"] {
            api.rig.sql(&format!("delete from {table}"), []).await;
        }
        api.rig.advance(180 * DAY);
        api.rig.prune().await;
        assert_eq!(api.rig.count("poll_item").await, 1);
        api.rig.advance(1);
        api.rig.prune().await;
        assert_eq!(api.rig.count("poll_item").await, 0);
    }
);

both!(
    a_place_of_a_database_that_was_put_back_is_left_with_messages_again_and_none_missing,
    async |db| {
        let api = one(db).await;
        send(&api, "kept").await;
        polled(&api, "/app/a/poller/p", "kept").await;
        send(&api, "lost").await;
        let page = polled(&api, "/app/a/poller/p", "kept lost").await;
        // As after a copy of the files of an earlier state: no sign of it but that rows are missing, and numbers that are
        // used a second time.
        let sql = "delete from poll_item where message_id in (select id from message where event_id = 'lost')";
        assert_eq!(api.rig.sql(sql, []).await, 1);
        if db.kind() == Kind::Sqlite {
            api.rig.sql("update poll_epoch set last = 1", []).await;
        }
        send(&api, "new").await;
        if db.kind() == Kind::Postgres {
            for (event_id, back) in [("new", 20), ("kept", 40)] {
                let sql = format!(
                    "update poll_item set tx = tx - {back} where message_id in (select id from message where event_id = '{event_id}')"
                );
                assert_eq!(api.rig.sql(&sql, []).await, 1);
            }
        }
        let again = polled(&api, &with("/app/a/poller/p", &page), "kept new").await;
        assert_eq!(again["restarted"], true);
        let end = polled(&api, &with("/app/a/poller/p", &again), "").await;
        assert_eq!(end["restarted"], false);
    }
);

postgres_only!(a_cursor_of_an_earlier_epoch_goes_on_with_what_came_later, async |db| {
    let api = one(db).await;
    send(&api, "1").await;
    let first = polled(&api, "/app/a/poller/p", "1").await;
    send(&api, "2").await;
    let second = polled(&api, "/app/a/poller/p", "1 2").await;
    // As after a dump was restored in another cluster: the rows and their numbers are those of the old one, the numbers of
    // new transactions are smaller.
    api.rig
        .sql("update poll_epoch set identity = 'another cluster'", [])
        .await;
    api.rig.sql("update poll_item set tx = tx + 1000000000", []).await;
    // The mark of the other cluster's epoch, as it stands in iterators from there.
    let known = api.get("/app/a/poller/p").await.field("iterator");
    let mark = known.split('.').nth(1).expect("a mark").to_owned();
    let as_there = |page: &Value| {
        let text = page["iterator"].as_str().unwrap();
        let parts: Vec<_> = text.split('.').collect();
        let tx: i64 = parts[2].parse::<i64>().unwrap() + 1_000_000_000;
        json!({"iterator": format!("a.{mark}.{tx}.{}", parts[3])})
    };
    send(&api, "3").await;
    polled(&api, "/app/a/poller/p", "1 2 3").await;
    polled(&api, &with("/app/a/poller/p", &as_there(&first)), "2 3").await;
    let end = polled(&api, &with("/app/a/poller/p", &as_there(&second)), "3").await;
    assert_eq!(end["restarted"], false);
    // An iterator of an epoch that this database has never had.
    let unknown = polled(&api, &with("/app/a/poller/p", &second), "1 2 3").await;
    assert_eq!(unknown["restarted"], true);
    let epochs = api.rig.count("poll_epoch").await;
    assert_eq!(epochs, 2);
});

/// Returns a page with an iterator as the epoch with this identity has given it.
fn page_of(identity: &str, tx: i64, message_id: &str) -> Value {
    let hash = digest(&SHA256, identity.as_bytes());
    let mark: String = hash.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"iterator": format!("a.{mark}.{tx}.{message_id}")})
}

postgres_only!(
    a_database_that_comes_back_to_a_cluster_gets_a_larger_epoch_than_all_before,
    async |db| {
        let api = one(db).await;
        send(&api, "1").await;
        let second = send(&api, "2").await;
        polled(&api, "/app/a/poller/p", "1 2").await;
        // As after a dump to another cluster, where the second message was sent, and a dump back from there.
        let tx = (2 << 48) | 7;
        let moved = format!("update poll_item set tx = {tx} where message_id = '{second}'");
        assert_eq!(api.rig.sql(&moved, []).await, 1);
        let there = "insert into poll_epoch (number, identity, last) values (2, 'another cluster', 0)";
        assert_eq!(api.rig.sql(there, []).await, 1);
        send(&api, "3").await;
        let message = json!({"eventType": "t", "payload": {}});
        api.post("/app/a/msg", message).await.expect(202);
        let read = page_of("another cluster", tx, &second);
        let page = within(DEADLINE, "both messages can be read", async || {
            let page = api.get(&with("/app/a/poller/p", &read)).await.expect(200).clone();
            (page["data"].as_array().unwrap().len() == 2).then_some(page)
        })
        .await;
        assert_eq!(page["data"][0]["eventId"], "3");
        assert_eq!(page["restarted"], false);
        let found = rows(&api.rig.db, "select number from poll_epoch order by number").await;
        let numbers: Vec<i64> = found.iter().map(|row| row.try_get("", "number").unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }
);

both!(
    a_number_of_an_epoch_that_has_no_room_in_a_place_is_refused,
    async |db| {
        let connection = db.connect().await;
        let of = |number: i64| {
            format!("insert into poll_epoch (number, identity, last) values ({number}, 'another cluster', 0)")
        };
        let refused = connection.execute_unprepared(&of(1 << 15)).await;
        assert!(refused.is_err(), "32768 << 48 is no number of 64 bits");
        connection
            .execute_unprepared(&of((1 << 15) - 1))
            .await
            .expect("the last one");
    }
);

postgres_only!(a_place_of_an_earlier_epoch_whose_row_is_missing_is_lost, async |db| {
    let api = one(db).await;
    send(&api, "kept").await;
    let lost = send(&api, "lost").await;
    polled(&api, "/app/a/poller/p", "kept lost").await;
    send(&api, "new").await;
    // As after the files of an earlier state were copied back, so that numbers are used a second time in the same
    // epoch, and a failover after that.
    let find = format!("select tx from poll_item where message_id = '{lost}'");
    let tx: i64 = rows(&api.rig.db, &find).await[0].try_get("", "tx").unwrap();
    for sql in [
        format!("delete from poll_item where message_id = '{lost}'"),
        format!("update poll_item set tx = {tx} - 1 where tx > {tx}"),
        "update poll_epoch set identity = 'the timeline before'".to_owned(),
    ] {
        assert_eq!(api.rig.sql(&sql, []).await, 1, "{sql}");
    }
    let read = page_of("the timeline before", tx, &lost);
    let again = polled(&api, &with("/app/a/poller/p", &read), "kept new").await;
    assert_eq!(again["restarted"], true);
    let end = polled(&api, &with("/app/a/poller/p", &again), "").await;
    assert_eq!(end["restarted"], false);
});

postgres_only!(
    a_message_that_is_committed_late_is_not_skipped_though_its_id_is_older,
    async |db| {
        let api = one(db).await;
        send(&api, "first").await;
        let start = polled(&api, "/app/a/poller/p", "first").await;
        let app = api.get("/app/a").await.field("id");
        let poller = api.get("/app/a/poller/p/settings").await.field("id");
        let late = db.connect().await;
        let late = late.begin().await.expect("a transaction");
        let early_id = api.rig.clock.new_id(Prefix::Message);
        for sql in [
            format!(
                "insert into message (app_id, id, event_type, event_id, created_at, expires_at) \
             values ('{app}', '{early_id}', 't', 'late', 0, 4000000000000000)"
            ),
            format!(
                "insert into poll_item (poller_number, tx, message_id) select p.number, \
             (e.number << 48) | pg_current_xact_id()::text::int8, '{early_id}' from poll_epoch e, poller p \
             where p.id = '{poller}'"
            ),
        ] {
            late.execute_unprepared(&sql).await.expect(&sql);
        }
        api.rig.advance(1);
        send(&api, "second").await;
        // A cursor over ids reads on to the second message, and is behind the late one when that becomes visible.
        let by_id = async |after: &str| {
            let sql = format!("select id, event_id from message where app_id = '{app}' and id > '{after}' order by id");
            let found = rows(&api.rig.db, &sql).await;
            found
                .iter()
                .map(|row| {
                    (
                        row.try_get::<String>("", "id").unwrap(),
                        row.try_get::<String>("", "event_id").unwrap(),
                    )
                })
                .collect::<Vec<_>>()
        };
        let naive = by_id("").await;
        let names: Vec<_> = naive.iter().map(|row| row.1.as_str()).collect();
        assert_eq!(names, ["first", "second"]);
        let page = api.get(&with("/app/a/poller/p", &start)).await;
        assert_eq!(
            event_ids(page.expect(200)),
            "",
            "nothing is read past a transaction that is open"
        );
        late.commit().await.expect("a commit");
        assert_eq!(by_id(&naive[1].0).await, [], "a cursor over ids has skipped it");
        polled(&api, &with("/app/a/poller/p", &start), "late second").await;
    }
);

postgres_only!(
    a_session_that_knows_the_cluster_names_the_epoch_as_one_that_asks_for_it,
    async |db| {
        let api = one(db).await;
        // Each connection of the intake asks first and knows it then. Where one answer is not the other, the next statement
        // begins an epoch.
        for _ in 0..6 {
            let message = || json!({"eventType": "t", "payload": {}});
            let sends = (0..20).map(|_| api.post("/app/a/msg", message()));
            for answer in futures_util::future::join_all(sends).await {
                answer.expect(202);
            }
        }
        assert_eq!(api.rig.count("poll_item").await, 120);
        assert_eq!(api.rig.count("poll_epoch").await, 1);
    }
);

postgres_only!(
    an_ordinary_role_reads_the_identity_of_the_cluster_or_another_if_that_was_revoked,
    async |db| {
        let connection = db.connect().await;
        let role = format!("plain_{}", std::process::id());
        let identity = async || {
            let found = rows(
                &connection,
                "select poll_identity() as identity, timeline_id from pg_control_checkpoint()",
            )
            .await;
            let timeline: i32 = found[0].try_get("", "timeline_id").unwrap();
            let identity: String = found[0].try_get("", "identity").unwrap();
            assert!(
                identity.ends_with(&format!(".{timeline:08X}")),
                "{identity} in timeline {timeline}"
            );
            identity
        };
        let of_the_owner = identity().await;
        // As in a new session, which keeps the name of the cluster from its first call on.
        let forget = "reset all".to_owned();
        for sql in [
            format!("create role {role}"),
            forget.clone(),
            format!("set role {role}"),
        ] {
            connection.execute_unprepared(&sql).await.expect(&sql);
        }
        assert_eq!(identity().await, of_the_owner);
        for sql in [
            "reset role".to_owned(),
            "revoke execute on function pg_control_system() from public".to_owned(),
            forget,
            format!("set role {role}"),
        ] {
            connection.execute_unprepared(&sql).await.expect(&sql);
        }
        let other = identity().await;
        assert!(other != of_the_owner && other.contains('/'), "{other}");
        for sql in ["reset role".to_owned(), format!("drop role {role}")] {
            connection.execute_unprepared(&sql).await.expect(&sql);
        }
    }
);

both!(large_payloads_end_a_page_early, async |db| {
    let api = one(db).await;
    for n in 0..10 {
        let large = json!({"eventType": "t", "eventId": n.to_string(), "payload": {"k": "x".repeat(500_000)}});
        api.post("/app/a/msg?with_content=false", large).await.expect(202);
    }
    // The last two may be held back for a moment, and then the page is the end.
    let first = within(DEADLINE, "a page that was cut", async || {
        let page = polled(&api, "/app/a/poller/p", "0 1 2 3 4 5 6 7").await;
        (page["done"] == false).then_some(page)
    })
    .await;
    let rest = polled(&api, &with("/app/a/poller/p", &first), "8 9").await;
    assert_eq!(rest["done"], true);
});

both!(
    a_sparse_filter_looks_through_a_bounded_number_of_messages_a_page,
    async |db| {
        let api = one(db).await;
        let sends = (0..1_100).map(|n| api.post("/app/a/msg", json!({"eventType": "t", "payload": {"n": n}})));
        for answer in futures_util::future::join_all(sends).await {
            answer.expect(202);
        }
        let message = json!({"eventType": "rare", "eventId": "m", "payload": {}});
        api.post("/app/a/msg", message).await.expect(202);
        let path = "/app/a/poller/p?event_type=rare";
        let first = within(DEADLINE, "a page that is empty and not done", async || {
            let page = api.get(path).await.expect(200).clone();
            (page["data"] == json!([]) && page["done"] == json!(false)).then_some(page)
        })
        .await;
        polled(&api, &with(path, &first), "m").await;
        // A poll that waits does not stop there.
        assert_eq!(event_ids(api.get(&format!("{path}&wait=25")).await.expect(200)), "m");
    }
);

both!(
    what_a_message_costs_an_application_without_pollers_is_what_it_was,
    async |db| {
        let ((), statements) = recorded(async || {
            let api = Api::on(db).await;
            api.post("/app", json!({"name": "b", "uid": "b"})).await.expect(201);
            api.post("/app/b/msg", json!({"eventType": "t", "payload": {}}))
                .await
                .expect(202);
            api.post("/app/b/msg", json!({"eventType": "t", "eventId": "m", "payload": {}}))
                .await
                .expect(202);
        });
        for sql in statements.iter().filter(|sql| !sql.starts_with("select")) {
            assert!(!sql.contains("poll_item") && !sql.contains("poll_epoch"), "{sql}");
        }
        assert!(
            !statements.iter().any(|sql| sql.contains("join poller")),
            "pollers are not read"
        );
    }
);
