//! The contract's rules for reads: each list with each of its query parameters, in pages of every size, forwards and
//! backwards.

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{Answer, Receiver, TestDatabase};

/// Creates the application `a` with the endpoint `e` and the messages m0 to m3, a second apart, each tried once at `e`
/// and answered with 200, 301, 404, 503. m1 and m3 have the type `odd`, the others `even`; m2 and m3 have the channel
/// `c`; m1, m2 and m3 have the tag `t 1`, and m3 the tag `u` too. The endpoint `f` cannot be reached; it got m3 alone, by a resend.
async fn history(db: &TestDatabase) -> (Api, Receiver) {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    api.post("/event-type", json!({"name": "unused", "description": ""}))
        .await
        .expect(201);
    let deaf = json!({"url": "http://127.0.0.1:1/", "uid": "f", "eventTypes": ["unused"]});
    for endpoint in [json!({"url": receiver.url(), "uid": "e"}), deaf] {
        api.post("/app/a/endpoint", endpoint).await.expect(201);
    }
    for (n, status) in [200, 301, 404, 503].into_iter().enumerate() {
        receiver.answer(Answer::status(status).body(format!("answer {n}")));
        let event_type = if n % 2 == 1 { "odd" } else { "even" };
        let mut body = json!({"eventType": event_type, "payload": {"n": n}, "eventId": format!("m{n}")});
        if n > 1 {
            body["channels"] = json!(["c", "d"]);
        }
        if n > 0 {
            body["tags"] = json!(["t 1", "u"][..n / 3 + 1]);
        }
        api.post("/app/a/msg", body).await.expect(202);
        api.rig.drain().await;
        api.rig.advance(1);
    }
    api.post("/app/a/msg/m3/endpoint/f/resend", json!({})).await.expect(202);
    api.rig.drain().await;
    (api, receiver)
}

/// Returns the values of `field` in the rows, separated by spaces.
fn told(rows: &[Value], field: &str) -> String {
    let texts = rows.iter().map(|row| match &row[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    texts.collect::<Vec<_>>().join(" ")
}

/// Asserts that the field `field` of the list at `path` is `expected`: in pages of every size, forwards, and backwards
/// from its end.
async fn lists(api: &Api, path: &str, field: &str, expected: &str) {
    let separator = if path.contains('?') { '&' } else { '?' };
    for limit in [1, 2, 250] {
        let walked = api.walk(path, limit).await;
        assert_eq!(told(&walked, field), expected, "{path} by {limit}");
    }
    let all = api.get(&format!("{path}{separator}limit=250")).await;
    let Some(last) = all.expect(200)["iterator"].as_str() else {
        return assert_eq!(expected, "");
    };
    let back = api.get(&format!("{path}{separator}iterator=-{last}&limit=250")).await;
    let before_last = expected.rsplit_once(' ').map_or("", |(before, _)| before);
    let rows = back.expect(200)["data"].as_array().unwrap().clone();
    assert_eq!(told(&rows, field), before_last, "{path} backwards");
}

/// Asserts that a list honours the filters that all lists of messages and attempts share. `of` turns the numbers of
/// messages into the values of `field` in their rows.
async fn honours_the_shared_filters(api: &Api, path: &str, field: &str, of: impl Fn(&str) -> String) {
    let at: Vec<String> = {
        let mut instants = Vec::new();
        for n in 0..4 {
            instants.push(api.get(&format!("/app/a/msg/m{n}")).await.field("timestamp"));
        }
        instants
    };
    for (query, messages) in [
        (String::new(), "3 2 1 0"),
        ("channel=c".to_owned(), "3 2"),
        ("channel=d".to_owned(), "3 2"),
        ("channel=x".to_owned(), ""),
        ("event_types=odd".to_owned(), "3 1"),
        ("event_types=odd,even".to_owned(), "3 2 1 0"),
        ("event_types=odd&event_types=even".to_owned(), "3 2 1 0"),
        ("event_types[]=even&event_types[]=none".to_owned(), "2 0"),
        ("event_types%5B%5D=even".to_owned(), "2 0"),
        ("event_types[0]=even&event_types[1]=odd".to_owned(), "3 2 1 0"),
        ("event_types=odd&channel=c".to_owned(), "3"),
        (format!("before={}", at[2]), "1 0"),
        (format!("before={}", at[2].replace('Z', "%2B00:00")), "1 0"),
        (format!("before={}&after={}", at[3], at[0]), "2 1"),
        (format!("before={}&after={}&event_types=odd", at[3], at[0]), "1"),
        ("tag=t%201".to_owned(), "3 2 1"),
        ("tag=u".to_owned(), "3"),
        ("tag=x".to_owned(), ""),
        ("tag=t+1&event_types=odd".to_owned(), "3 1"),
        ("tag=t+1&channel=c".to_owned(), "3 2"),
        (format!("tag=t+1&before={}&after={}", at[3], at[1]), "2"),
        ("with_msg=true&expanded_statuses=true".to_owned(), "3 2 1 0"),
    ] {
        lists(api, &format!("{path}?{query}"), field, &of(messages)).await;
    }
    // A lone `after` begins with the oldest page, whose rows are in the usual order. Its `prevIterator` leads towards
    // now.
    let after = format!("{path}?limit=2&after={}", at[0]);
    let page = api.get(&after).await;
    let rows = |page: &Value| told(page["data"].as_array().unwrap(), field);
    assert_eq!((rows(page.expect(200)), &page.json["done"]), (of("2 1"), &json!(false)));
    let on = page.json["prevIterator"].as_str().unwrap();
    let page = api.get(&format!("{after}&iterator={on}")).await;
    assert_eq!((rows(page.expect(200)), &page.json["done"]), (of("3"), &json!(true)));
    for (query, place) in [
        ("channel=a%20b", "query.channel"),
        ("tag=", "query.tag"),
        ("tag=a%09b", "query.tag"),
        ("event_types=a%20b", "query.event_types"),
        ("limit=251", "query.limit"),
        ("iterator=x", "query.iterator"),
    ] {
        api.get(&format!("{path}?{query}")).await.breaks_rule_at(place);
    }
    for query in ["before=yesterday", "after=2026-01-01", "with_content=maybe", "limit=x"] {
        api.get(&format!("{path}?{query}")).await.refused(400, "generic_error");
    }
}

/// Turns `3 1` into `m3 m1`.
fn event_ids(messages: &str) -> String {
    let ids: Vec<_> = messages.split_whitespace().map(|n| format!("m{n}")).collect();
    ids.join(" ")
}

/// Turns `3 1` into `503 301`.
fn codes(messages: &str) -> String {
    let codes = ["200", "301", "404", "503"];
    let codes: Vec<_> = messages
        .split_whitespace()
        .map(|n| codes[n.parse::<usize>().unwrap()])
        .collect();
    codes.join(" ")
}

both!(get_app_honours_limit_iterator_and_order, async |db| {
    let api = Api::on(db).await;
    for name in ["b", "c", "a"] {
        api.application(name).await;
    }
    for (query, expected) in [
        ("", "b c a"),
        ("?order=ascending", "b c a"),
        ("?order=descending", "a c b"),
    ] {
        lists(&api, &format!("/app{query}"), "name", expected).await;
    }
    api.get("/app?order=sideways").await.refused(400, "generic_error");
});

both!(
    get_event_type_honours_limit_iterator_order_include_archived_and_with_content,
    async |db| {
        let api = Api::on(db).await;
        let schemas = json!({"1": {"type": "object"}});
        for name in ["b", "C", "a", "z"] {
            let body = json!({"name": name, "description": "", "schemas": schemas});
            api.post("/event-type", body).await.expect(201);
        }
        api.delete("/event-type/b").await.expect(204);
        for (query, expected) in [
            ("", "C a z"),
            ("?order=descending", "C a z"),
            ("?include_archived=false", "C a z"),
            ("?include_archived=true", "C a b z"),
            ("?include_archived=true&with_content=true", "C a b z"),
        ] {
            lists(&api, &format!("/event-type{query}"), "name", expected).await;
        }
        for (query, shown) in [
            ("", &Value::Null),
            ("?with_content=false", &Value::Null),
            ("?with_content=true", &schemas),
        ] {
            let list = api.get(&format!("/event-type{query}")).await;
            assert_eq!(&list.expect(200)["data"][0]["schemas"], shown, "{query}");
        }
        let archived = api.get("/event-type/b").await;
        assert_eq!(
            (&archived.expect(200)["archived"], &archived.json["schemas"]),
            (&json!(true), &schemas)
        );
    }
);

both!(get_endpoint_honours_limit_iterator_and_order, async |db| {
    let api = Api::on(db).await;
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    for uid in ["b", "c", "a"] {
        let endpoint = json!({"url": "http://127.0.0.1:1/", "uid": uid});
        api.post("/app/a/endpoint", endpoint).await.expect(201);
    }
    for (query, expected) in [
        ("", "a c b"),
        ("?order=descending", "a c b"),
        ("?order=ascending", "b c a"),
    ] {
        lists(&api, &format!("/app/a/endpoint{query}"), "uid", expected).await;
    }
});

both!(
    get_msg_honours_limit_iterator_channel_before_after_with_content_and_event_types,
    async |db| {
        let (api, _receiver) = history(db).await;
        honours_the_shared_filters(&api, "/app/a/msg", "eventId", event_ids).await;
        for (query, payload) in [
            ("", json!({"n": 3})),
            ("?with_content=true", json!({"n": 3})),
            ("?with_content=false", json!({})),
        ] {
            let list = api.get(&format!("/app/a/msg{query}")).await;
            assert_eq!(list.expect(200)["data"][0]["payload"], payload, "{query}");
            let read = api.get(&format!("/app/a/msg/m3{query}")).await;
            assert_eq!(read.expect(200)["payload"], payload, "{query}");
        }
    }
);

both!(
    get_attempt_endpoint_honours_limit_iterator_status_status_code_class_channel_before_after_with_content_and_event_types,
    async |db| {
        let (api, _receiver) = history(db).await;
        let path = "/app/a/attempt/endpoint/e";
        honours_the_shared_filters(&api, path, "responseStatusCode", codes).await;
        for (query, expected) in [
            ("status=0", "200"),
            ("status=1", ""),
            ("status=2", "503 404 301"),
            ("status=3", ""),
            ("status=4", ""),
            ("status_code_class=0", ""),
            ("status_code_class=100", ""),
            ("status_code_class=200", "200"),
            ("status_code_class=300", "301"),
            ("status_code_class=400", "404"),
            ("status_code_class=500", "503"),
            ("status=2&status_code_class=400&channel=c&event_types=even", "404"),
            ("status=0&status_code_class=400", ""),
        ] {
            lists(&api, &format!("{path}?{query}"), "responseStatusCode", expected).await;
        }
        lists(
            &api,
            "/app/a/attempt/endpoint/f?status_code_class=0",
            "responseStatusCode",
            "0",
        )
        .await;
        for (query, response) in [
            ("", "answer 3"),
            ("?with_content=true", "answer 3"),
            ("?with_content=false", "{}"),
        ] {
            let list = api.get(&format!("{path}{query}")).await;
            assert_eq!(list.expect(200)["data"][0]["response"], response, "{query}");
        }
        for (query, place) in [
            ("status=5", "query.status"),
            ("status=-1", "query.status"),
            ("status_code_class=600", "query.status_code_class"),
            ("status_code_class=201", "query.status_code_class"),
        ] {
            api.get(&format!("{path}?{query}")).await.breaks_rule_at(place);
        }
        for query in ["status=x", "status_code_class=x"] {
            api.get(&format!("{path}?{query}"))
                .await
                .refused(400, "generic_error");
        }
    }
);

both!(
    get_attempt_msg_honours_the_same_parameters_and_endpoint_id,
    async |db| {
        let (mut api, receiver) = history(db).await;
        receiver.answer(Answer::status(410));
        api.rig.advance(7);
        api.rig.drain().await;
        let path = "/app/a/attempt/msg/m3";
        let (e, f) = (
            api.get("/app/a/endpoint/e").await.field("id"),
            api.get("/app/a/endpoint/f").await.field("id"),
        );
        let list = api.get(path).await;
        let second = list.expect(200)["data"][1]["timestamp"].as_str().unwrap();
        for (query, expected) in [
            (String::new(), "410 0 503"),
            ("status=2".to_owned(), "410 0 503"),
            ("status=0".to_owned(), ""),
            ("status_code_class=0".to_owned(), "0"),
            ("status_code_class=400".to_owned(), "410"),
            ("endpoint_id=e".to_owned(), "410 503"),
            (format!("endpoint_id={e}&status_code_class=500"), "503"),
            (format!("endpoint_id={f}"), "0"),
            ("channel=c&event_types[]=odd".to_owned(), "410 0 503"),
            ("tag=u&endpoint_id=e".to_owned(), "410 503"),
            ("tag=x".to_owned(), ""),
            ("channel=x".to_owned(), ""),
            ("event_types=even".to_owned(), ""),
            (format!("before={second}"), "503"),
            (format!("before=2026-01-02T00:00:00Z&after={second}"), "410"),
        ] {
            lists(&api, &format!("{path}?{query}"), "responseStatusCode", expected).await;
        }
        api.get(&format!("{path}?endpoint_id=none"))
            .await
            .refused(404, "not_found");
        let oldest = api.get(&format!("{path}?limit=1&after=2026-01-01T00:00:00Z")).await;
        assert_eq!(oldest.expect(200)["data"][0]["responseStatusCode"], 503);
        for (query, response) in [("?endpoint_id=e&limit=2", "answer 3"), ("?with_content=false", "{}")] {
            let list = api.get(&format!("{path}{query}")).await;
            let rows = list.expect(200)["data"].as_array().unwrap().clone();
            assert_eq!(rows.last().unwrap()["response"], response, "{query}");
        }
    }
);

both!(
    get_msg_attempt_by_id_answers_the_attempt_with_its_response,
    async |db| {
        let (api, _receiver) = history(db).await;
        let list = api.get("/app/a/attempt/msg/m2").await;
        let attempt = list.expect(200)["data"][0].clone();
        let id = attempt["id"].as_str().unwrap();
        let read = api.get(&format!("/app/a/msg/m2/attempt/{id}")).await;
        assert_eq!(read.expect(200)["response"], "answer 2");
        for (name, value) in attempt.as_object().unwrap() {
            assert_eq!(&read.json[name], value, "{name}");
        }
        for path in [
            format!("/app/a/msg/m1/attempt/{id}"),
            "/app/a/msg/m2/attempt/none".to_owned(),
        ] {
            api.get(&path).await.refused(404, "not_found");
        }
    }
);
