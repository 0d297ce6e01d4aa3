//! Results through the API: an endpoint's messages and a message's endpoints, each with its state there.

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{self, Receiver, TestDatabase};

/// Creates the application `a` with the endpoints `e` and `f`, and the messages m0 to m4, a second apart, all tried at
/// both endpoints. m1 and m3 have the type `odd`; m3 and m4 have the channel `c`. At `e`, m0 was delivered, m1 failed
/// for good, m2 was delivered by the second attempt, and m3 and m4 wait.
async fn five(db: &TestDatabase) -> (Api, [Receiver; 2]) {
    let mut api = Api::on(db).await;
    let receivers = [Receiver::start().await, Receiver::start().await];
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    for (uid, receiver) in ["e", "f"].into_iter().zip(&receivers) {
        let endpoint = json!({"url": receiver.url(), "uid": uid, "metadata": {"k": "v"}, "throttleRate": 65535});
        api.post("/app/a/endpoint", endpoint).await.expect(201);
    }
    for n in 0..5 {
        let event_type = if n % 2 == 1 { "odd" } else { "even" };
        let mut body = json!({"eventType": event_type, "payload": {"n": n}, "eventId": format!("m{n}")});
        if n > 2 {
            body["channels"] = json!(["c"]);
        }
        receivers[0].answer(harness::Answer::status(if n == 0 { 200 } else { 500 }));
        api.post("/app/a/msg", body).await.expect(202);
        api.rig.drain().await;
        if n == 1 {
            // The schedule of m1 is used up.
            for seconds in [7, 400] {
                api.rig.advance(seconds);
                api.rig.drain().await;
            }
        }
        if n == 2 {
            receivers[0].answer(harness::Answer::ok());
            api.rig.advance(7);
            api.rig.drain().await;
        }
        api.rig.advance(1);
    }
    (api, receivers)
}

fn event_ids(rows: &[Value]) -> String {
    let ids: Vec<_> = rows.iter().map(|row| row["eventId"].as_str().unwrap()).collect();
    ids.join(" ")
}

async fn instant_of(api: &Api, message: &str) -> String {
    api.get(&format!("/app/a/msg/{message}")).await.field("timestamp")
}

both!(
    get_endpoint_msg_lists_the_messages_tried_there_newest_first_by_each_parameter,
    async |db| {
        let (api, _receivers) = five(db).await;
        let (m1, m2, m3) = (
            instant_of(&api, "m1").await,
            instant_of(&api, "m2").await,
            instant_of(&api, "m3").await,
        );
        for (query, expected) in [
            (String::new(), "m4 m3 m2 m1 m0"),
            ("?status=0".to_owned(), "m2 m0"),
            ("?status=1".to_owned(), ""),
            ("?status=2".to_owned(), "m1"),
            ("?status=3".to_owned(), "m4 m3"),
            ("?status=4".to_owned(), ""),
            ("?channel=c".to_owned(), "m4 m3"),
            ("?channel=d".to_owned(), ""),
            ("?event_types=odd".to_owned(), "m3 m1"),
            ("?event_types=odd,even".to_owned(), "m4 m3 m2 m1 m0"),
            ("?event_types=odd&event_types=none".to_owned(), "m3 m1"),
            ("?event_types[]=odd".to_owned(), "m3 m1"),
            ("?event_types%5B0%5D=odd&status=3&channel=c".to_owned(), "m3"),
            (format!("?before={m2}"), "m1 m0"),
            (format!("?before={m3}&after={m1}"), "m2"),
            (format!("?before={m3}&status=0"), "m2 m0"),
            (
                "?with_content=false&expanded_statuses=true".to_owned(),
                "m4 m3 m2 m1 m0",
            ),
        ] {
            for limit in [1, 2, 250] {
                let list = api.walk(&format!("/app/a/endpoint/e/msg{query}"), limit).await;
                assert_eq!(event_ids(&list), expected, "{query} by {limit}");
            }
        }
        api.get("/app/a/endpoint/e/msg?status=5")
            .await
            .breaks_rule_at("query.status");
        api.get("/app/a/endpoint/e/msg?status=x")
            .await
            .refused(400, "generic_error");
        api.get("/app/a/endpoint/none/msg").await.refused(404, "not_found");
    }
);

both!(get_endpoint_msg_with_a_lone_after_begins_with_the_oldest, async |db| {
    let (api, _receivers) = five(db).await;
    let path = format!("/app/a/endpoint/e/msg?limit=2&after={}", instant_of(&api, "m0").await);
    let page = api.get(&path).await;
    assert_eq!(event_ids(page.expect(200)["data"].as_array().unwrap()), "m2 m1");
    assert_eq!(page.json["done"], false);
    let back = page.json["prevIterator"].as_str().unwrap();
    let next = api.get(&format!("{path}&iterator={back}")).await;
    assert_eq!(event_ids(next.expect(200)["data"].as_array().unwrap()), "m4 m3");
    assert_eq!(next.json["done"], true);
});

both!(get_endpoint_msg_tells_the_message_and_its_state_there, async |db| {
    let (mut api, receivers) = five(db).await;
    let list = api.get("/app/a/endpoint/e/msg").await;
    let row = |n: usize| list.json["data"][4 - n].clone();
    for (n, status, text) in [(0, 0, "success"), (1, 2, "fail"), (2, 0, "success"), (3, 3, "sending")] {
        assert_eq!(
            (&row(n)["status"], &row(n)["statusText"]),
            (&json!(status), &json!(text))
        );
        assert_eq!(row(n)["nextAttempt"].is_string(), status == 3, "{}", row(n));
        let mut message = api.get(&format!("/app/a/msg/m{n}")).await.expect(200).clone();
        for name in ["status", "statusText", "nextAttempt"] {
            message[name] = row(n)[name].clone();
        }
        assert_eq!(row(n), message);
    }
    let bare = api.get("/app/a/endpoint/e/msg?with_content=false").await;
    assert_eq!(bare.expect(200)["data"][0]["payload"], json!({}));
    api.delete("/app/a/msg/m4/content").await.expect(204);
    let expunged = api.get("/app/a/endpoint/e/msg").await;
    assert_eq!(expunged.expect(200)["data"][0]["payload"], json!({"expired": true}));
    receivers[0].answer(harness::Answer::ok());
    api.rig.advance(10);
    api.rig.drain().await;
    let later = api.get("/app/a/endpoint/e/msg").await;
    let statuses: Vec<_> = later.expect(200)["data"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&statuses[0]["status"], &statuses[0]["nextAttempt"]),
        (&json!(2), &Value::Null)
    );
    assert_eq!(statuses[1]["status"], 0);
});

both!(
    get_endpoint_msg_ends_a_page_early_where_payloads_are_large,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        let app = api.application("app").await;
        let endpoint = json!({"url": receiver.url(), "uid": "e"});
        api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
        for n in 0..10 {
            let large = json!({"eventType": "a", "eventId": n.to_string(), "payload": {"k": "x".repeat(500_000)}});
            let path = format!("/app/{app}/msg?with_content=false");
            api.post(&path, large).await.expect(202);
        }
        api.rig.drain().await;
        let path = format!("/app/{app}/endpoint/e/msg");
        let first = api.get(&path).await;
        let first = first.expect(200);
        assert_eq!(
            (event_ids(first["data"].as_array().unwrap()).as_str(), &first["done"]),
            ("9 8 7 6 5 4 3 2", &json!(false))
        );
        let rest = api
            .get(&format!("{path}?iterator={}", first["iterator"].as_str().unwrap()))
            .await;
        assert_eq!(event_ids(rest.expect(200)["data"].as_array().unwrap()), "1 0");
    }
);

both!(
    get_msg_endpoint_lists_the_endpoints_tried_oldest_first_deleted_ones_too,
    async |db| {
        let (api, _receivers) = five(db).await;
        let untried = json!({"url": "http://127.0.0.1:1/", "uid": "g"});
        api.post("/app/a/endpoint", untried).await.expect(201);
        let mut expected = Vec::new();
        for (uid, status, text) in [("e", 3, "sending"), ("f", 0, "success")] {
            let mut endpoint = api.get(&format!("/app/a/endpoint/{uid}")).await.expect(200).clone();
            endpoint.as_object_mut().unwrap().remove("metadata");
            endpoint["status"] = json!(status);
            endpoint["statusText"] = json!(text);
            expected.push(endpoint);
        }
        api.delete("/app/a/endpoint/f").await.expect(204);
        let list = api.get("/app/a/msg/m3/endpoint").await;
        let mut found = list.expect(200)["data"].as_array().unwrap().clone();
        for row in &mut found {
            let next = row.as_object_mut().unwrap().remove("nextAttempt").unwrap();
            assert_eq!(next.is_string(), row["uid"] == "e");
        }
        assert_eq!(found, expected);
        for limit in [1, 2] {
            let walked = api.walk("/app/a/msg/m3/endpoint", limit).await;
            let uids: Vec<_> = walked.iter().map(|row| row["uid"].as_str().unwrap()).collect();
            assert_eq!(uids, ["e", "f"]);
        }
        let first = list.json["data"][0]["id"].as_str().unwrap();
        let second = list.json["data"][1]["id"].as_str().unwrap();
        let rest = api.get(&format!("/app/a/msg/m3/endpoint?iterator={first}")).await;
        assert_eq!(rest.expect(200)["data"][0]["id"], second);
        let back = api.get(&format!("/app/a/msg/m3/endpoint?iterator=-{second}")).await;
        assert_eq!(back.expect(200)["data"][0]["id"], first);
        api.get("/app/a/msg/none/endpoint").await.refused(404, "not_found");
    }
);

both!(results_of_another_application_are_not_found, async |db| {
    let (api, _receivers) = five(db).await;
    let other = api.application("other").await;
    let (message, endpoint) = (
        api.get("/app/a/msg/m0").await.field("id"),
        api.get("/app/a/endpoint/e").await.field("id"),
    );
    let app = api.get("/app/a").await.field("id");
    let token = api.token_of(&app).await;
    for rest in [
        format!("endpoint/{endpoint}/msg"),
        format!("msg/{message}/endpoint"),
        format!("endpoint/{endpoint}/stats"),
    ] {
        api.get(&format!("/app/{other}/{rest}")).await.refused(404, "not_found");
        api.call(&token, "GET", &format!("/app/a/{rest}"), &[], "")
            .await
            .expect(200);
        api.call(&token, "GET", &format!("/app/{other}/{rest}"), &[], "")
            .await
            .refused(404, "not_found");
    }
});

both!(
    get_legacy_msg_attempt_and_endpoint_attempt_answer_as_the_newer_paths,
    async |db| {
        let (api, _receivers) = five(db).await;
        for (older, newer) in [
            ("/app/a/msg/m1/attempt", "/app/a/attempt/msg/m1"),
            (
                "/app/a/msg/m1/attempt/?limit=1&status=2",
                "/app/a/attempt/msg/m1?limit=1&status=2",
            ),
            ("/app/a/endpoint/e/attempt", "/app/a/attempt/endpoint/e"),
            ("/app/a/endpoint/e/attempt?limit=3", "/app/a/attempt/endpoint/e?limit=3"),
            (
                "/app/a/msg/m1/endpoint/e/attempt",
                "/app/a/attempt/msg/m1?endpoint_id=e",
            ),
            (
                "/app/a/msg/m1/endpoint/e/attempt?limit=2",
                "/app/a/attempt/msg/m1?endpoint_id=e&limit=2",
            ),
        ] {
            let (older, newer) = (api.get(older).await, api.get(newer).await);
            assert_eq!(older.expect(200), newer.expect(200));
            assert!(!newer.json["data"].as_array().unwrap().is_empty());
        }
        for path in ["/app/a/msg/none/attempt", "/app/a/endpoint/none/attempt"] {
            api.get(path).await.refused(404, "not_found");
        }
        api.get("/app/a/msg/m1/attempt?limit=0")
            .await
            .breaks_rule_at("query.limit");
    }
);
