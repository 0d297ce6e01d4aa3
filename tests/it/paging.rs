//! What every list has in common: limit, iterator, done, backwards.

use serde_json::{Value, json};

use crate::api::Api;

/// An application with two endpoints and two messages, and two event types; and every list's path.
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
        for iterator in ["-", "%20", "a%2Fb", "%27%20or%201=1", "--x"] {
            let answer = api.get(&format!("{path}?iterator={iterator}")).await;
            if iterator == "--x" && path == "/event-type" {
                answer.expect(200);
            } else {
                answer.breaks_rule_at("query.iterator");
            }
        }
        api.get(&format!("{path}?limit=250")).await.expect(200);
    }
});

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
