//! Pages of lists: limit, iterator, direction and end, which are the same for every list, and the size of a page.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{Answer, Receiver};

/// Creates an application with two endpoints and two messages, and two event types. Returns the path of every list.
async fn lists(api: &Api) -> Vec<String> {
    let app = api.application("a").await;
    api.application("b").await;
    for n in 0..2 {
        api.post("/event-type", json!({"name": format!("t{n}"), "description": ""}))
            .await
            .expect(201);
        let endpoint = json!({"url": "http://127.0.0.1:1/", "uid": format!("e{n}")});
        api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
    }
    for n in 0..2 {
        let message = json!({"eventType": "t", "payload": {}, "eventId": format!("m{n}")});
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
    }
    ["/app", "/event-type"]
        .map(str::to_owned)
        .into_iter()
        .chain(["endpoint", "msg", "attempt/msg/m0", "attempt/endpoint/e0"].map(|list| format!("/app/{app}/{list}")))
        .collect()
}

both!(every_list_has_the_same_frame, async |db| {
    let mut api = Api::on(db).await;
    let lists = lists(&api).await;
    for path in &lists[4..] {
        let empty = api.get(path).await;
        let frame = json!({"data": [], "iterator": null, "prevIterator": null, "done": true});
        assert_eq!(empty.expect(200), &frame, "{path}");
    }
    api.rig.drain().await;
    for path in &lists {
        let all = api.get(path).await;
        let all = all.expect(200);
        assert_eq!(
            (&all["done"], all["data"].as_array().unwrap().len()),
            (&json!(true), 2),
            "{path}"
        );
        let first = api.get(&format!("{path}?limit=1")).await;
        let first = first.expect(200);
        assert_eq!(
            (&first["done"], &first["data"][0]),
            (&json!(false), &all["data"][0]),
            "{path}"
        );
        let iterator = first["iterator"].as_str().unwrap();
        assert_eq!(first["prevIterator"], format!("-{iterator}"), "{path}");
        let second = api.get(&format!("{path}?limit=1&iterator={iterator}")).await;
        let second = second.expect(200);
        assert_eq!(
            (&second["done"], &second["data"][0]),
            (&json!(true), &all["data"][1]),
            "{path}"
        );
        let back = second["prevIterator"].as_str().unwrap();
        let back = api.get(&format!("{path}?limit=1&iterator={back}")).await;
        assert_eq!(back.expect(200)["data"][0], all["data"][0], "{path}");
        let past = api
            .get(&format!("{path}?iterator={}", second["iterator"].as_str().unwrap()))
            .await;
        assert_eq!(
            (&past.expect(200)["data"], &past.json["iterator"]),
            (&json!([]), &Value::Null),
            "{path}"
        );
    }
});

both!(a_bad_limit_or_iterator_is_refused_on_every_list, async |db| {
    let api = Api::on(db).await;
    for path in lists(&api).await {
        for limit in ["0", "251", "-1", "99999999999"] {
            api.get(&format!("{path}?limit={limit}"))
                .await
                .breaks_rule_at("query.limit");
        }
        for limit in ["x", "1.5", "1e2", "99999999999999999999999", "%00"] {
            let answer = api.get(&format!("{path}?limit={limit}")).await;
            answer.refused(400, "generic_error");
            assert!(answer.text.contains("limit"), "{}", answer.text);
        }
        for iterator in ["-", ":", ":-", "%20", "a%2Fb", "%27%20or%201=1", "--x"] {
            let answer = api.get(&format!("{path}?iterator={iterator}")).await;
            if [":-", "--x"].contains(&iterator) && path == "/event-type" {
                answer.expect(200);
            } else {
                answer.breaks_rule_at("query.iterator");
            }
        }
        api.get(&format!("{path}?limit=250")).await.expect(200);
    }
});

/// Returns the field `key` of all rows of a list, page by page, following the field `iterator` from `from` on. Asserts
/// that no page has more than 4 MiB of rows.
async fn pages(api: &Api, path: &str, key: &str, iterator: &str, from: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut at = from.to_owned();
    while all.len() < 100 {
        let page = api.get(&format!("{path}&iterator={at}")).await;
        page.expect(200);
        assert!(page.text.len() <= (4 << 20) + 1024, "{} bytes", page.text.len());
        let rows = page.json["data"].as_array().unwrap().iter();
        all.push(rows.map(|row| row[key].as_str().unwrap().to_owned()).collect());
        if page.json["done"] == true {
            return all;
        }
        page.json[iterator].as_str().unwrap().clone_into(&mut at);
    }
    panic!("the list does not end: {all:?}");
}

/// Returns the pages of a list. Asserts that it has the same rows backwards.
async fn pages_both_ways(api: &Api, path: &str, key: &str) -> Vec<Vec<String>> {
    let there = pages(api, path, key, "iterator", "").await;
    let last = there.concat().pop().unwrap();
    let back = pages(api, path, key, "prevIterator", &format!("-{last}")).await;
    let mut back: Vec<_> = back.into_iter().rev().flatten().collect();
    back.push(last);
    assert_eq!(there.concat(), back);
    there
}

both!(
    a_page_of_endpoints_ends_at_4_mib_and_reads_no_headers_or_secrets,
    async |db| {
        let mut api = Api::on(db).await;
        let app = api.application("app").await;
        let base = "http://127.0.0.1:1/";
        let largest = json!({
            "url": format!("{base}{}", "x".repeat(2048 - base.len())),
            "description": "\u{b}".repeat(4096),
            "metadata": {"k": "v".repeat(4096 - r#"{"k":""}"#.len())},
        });
        for _ in 0..40 {
            api.post(&format!("/app/{app}/endpoint"), largest.clone())
                .await
                .expect(201);
        }
        let names: Vec<String> = (0..1000).map(|n| format!("{n:0256}")).collect();
        api.rig
            .sql(
                "update endpoint set event_types = $1",
                [json!(names).to_string().into()],
            )
            .await;
        let message = json!({"eventType": names[0], "payload": {}, "eventId": "m"});
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
        api.rig.drain().await;
        api.rig
            .sql("update endpoint set headers = 'none', secrets = 'none'", [])
            .await;
        for list in ["endpoint", "msg/m/endpoint"] {
            let pages = pages_both_ways(&api, &format!("/app/{app}/{list}?limit=250"), "id").await;
            let rows: BTreeSet<_> = pages.concat().into_iter().collect();
            assert_eq!((pages.len(), rows.len()), (6, 40), "{list}");
        }
    }
);

both!(
    a_page_of_event_types_ends_at_4_mib_and_reads_schemas_only_where_asked,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("app").await;
        let title = "x".repeat((256 << 10) - r#"{"1":{"title":""}}"#.len());
        let names: Vec<String> = (0..70).map(|n| format!("t{n:02}")).collect();
        for name in &names {
            let largest =
                json!({"name": name, "description": "\u{b}".repeat(4096), "schemas": {"1": {"title": title}}});
            api.post("/event-type", largest).await.expect(201);
        }
        let with_content = pages_both_ways(&api, "/event-type?with_content=true&limit=250", "name").await;
        assert_eq!((with_content.len(), with_content.concat()), (5, names.clone()));
        api.rig.sql("update event_type set schemas = 'none'", []).await;
        let without = pages_both_ways(&api, "/event-type?limit=250", "name").await;
        assert_eq!(without, std::slice::from_ref(&names));
        let endpoint = json!({"url": "http://127.0.0.1:1/", "eventTypes": names});
        api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
    }
);

both!(
    a_page_of_attempts_ends_at_4_mib_of_what_is_written_and_the_rest_follows,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        // JSON writes each of these bytes as six.
        receiver.answer(Answer::ok().body(vec![1_u8; 20_000]));
        let app = api.application("app").await;
        let endpoint = json!({"url": receiver.url(), "uid": "e"});
        api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
        for _ in 0..40 {
            let message = json!({"eventType": "t", "payload": {}});
            api.post(&format!("/app/{app}/msg"), message).await.expect(202);
        }
        api.rig.drain().await;
        let list = format!("/app/{app}/attempt/endpoint/e?limit=250");
        let written = pages_both_ways(&api, &list, "id").await;
        let rows: BTreeSet<_> = written.concat().into_iter().collect();
        let sizes: Vec<_> = written.iter().map(Vec::len).collect();
        assert_eq!((sizes, rows.len()), (vec![34, 6], 40));
        let without = pages_both_ways(&api, &format!("{list}&with_content=false"), "id").await;
        assert_eq!(without, [written.concat()]);
    }
);

both!(a_page_shows_small_and_large_contents_alike, async |db| {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    let app = api.application("app").await;
    let endpoint = json!({"url": receiver.url(), "uid": "e"});
    api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
    // Up to 4,096 bytes are read together with their row, larger ones afterwards.
    let sizes = [8, 4095, 4096, 4097, 20_000];
    let (mut payloads, mut responses) = (Vec::new(), Vec::new());
    for size in sizes {
        let payload = json!({"a": "x".repeat(size - r#"{"a":""}"#.len())});
        let response = "y".repeat(size);
        receiver.answer(Answer::ok().body(response.clone()));
        let message = json!({"eventType": "t", "payload": payload});
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
        api.rig.drain().await;
        payloads.insert(0, payload);
        responses.insert(0, json!(response));
    }
    let gone = json!({"eventType": "t", "payload": {"a": "gone"}, "eventId": "gone"});
    api.post(&format!("/app/{app}/msg"), gone).await.expect(202);
    api.rig.drain().await;
    api.delete(&format!("/app/{app}/msg/gone/content")).await.expect(204);
    payloads.insert(0, json!({"expired": true}));
    responses.insert(0, responses[0].clone());
    for (list, field, wanted) in [
        ("msg", "payload", &payloads),
        ("endpoint/e/msg", "payload", &payloads),
        ("attempt/endpoint/e", "response", &responses),
    ] {
        let page = api.get(&format!("/app/{app}/{list}")).await;
        let rows = page.expect(200)["data"].as_array().unwrap();
        let shown: Vec<_> = rows.iter().map(|row| row[field].clone()).collect();
        assert_eq!(&shown, wanted, "{list}");
    }
});

both!(
    a_page_of_messages_ends_at_4_mib_of_what_is_written_and_holds_one_at_least,
    async |db| {
        let mut api = Api::on(db).await;
        let app = api.application("app").await;
        let endpoint = json!({"url": "http://127.0.0.1:1/", "uid": "e"});
        api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
        // JSON writes the larger one as 6 MB, the smaller ones as 1.2 MB.
        for size in [1_000_000, 200_000, 200_000, 200_000, 200_000] {
            let raw = "\u{1}".repeat(size);
            let content = json!({"rawPayload": "x".repeat(size)});
            let message = json!({"eventType": "t", "payload": {}, "transformationsParams": content});
            let id = api.post(&format!("/app/{app}/msg"), message).await.field("id");
            let sql = "update message_content set body = $1 where message_id = $2";
            api.rig.sql(sql, [raw.into(), id.into()]).await;
        }
        api.rig.drain().await;
        for list in ["msg", "endpoint/e/msg"] {
            let mut sizes = Vec::new();
            let mut at = String::new();
            loop {
                let page = api.get(&format!("/app/{app}/{list}?limit=250&iterator={at}")).await;
                let rows = page.expect(200)["data"].as_array().unwrap().len();
                assert!(page.text.len() <= (4 << 20) + 1024 || rows == 1, "{}", page.text.len());
                sizes.push(rows);
                if page.json["done"] == true {
                    break;
                }
                page.json["iterator"].as_str().unwrap().clone_into(&mut at);
            }
            assert_eq!(sizes, [3, 1, 1], "{list}: the newest first");
        }
    }
);

both!(
    event_types_whose_names_begin_with_a_dash_come_once_in_either_direction,
    async |db| {
        let api = Api::on(db).await;
        let names = ["-", "--b", "-a", "a", "b"];
        for name in names {
            let event_type = json!({"name": name, "description": ""});
            api.post("/event-type", event_type).await.expect(201);
        }
        let pages = pages_both_ways(&api, "/event-type?limit=1", "name").await;
        assert_eq!(pages, names.map(|name| [name]));
    }
);

both!(an_iterator_of_another_list_is_refused, async |db| {
    let api = Api::on(db).await;
    let lists = lists(&api).await;
    for (path, iterator) in [
        (&lists[0], "msg_x"),
        (&lists[2], "app_x"),
        (&lists[3], "-ep_x"),
        (&lists[4], "msg_x"),
    ] {
        api.get(&format!("{path}?iterator={iterator}"))
            .await
            .breaks_rule_at("query.iterator");
    }
});
