//! The list of deliveries: messages at endpoints, from their acceptance on.

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{Answer, Receiver, TestDatabase};

/// Returns `event id, endpoint's uid, state` of each row.
fn told(rows: &[Value]) -> Vec<String> {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or("-").to_owned();
    let line = |row| [text(row, "eventId"), text(row, "endpointUid"), text(row, "state")].join(" ");
    rows.iter().map(line).collect()
}

async fn send(api: &Api, name: &str, kind: &str) {
    let tags = if kind == "shipped" {
        json!(["rush"])
    } else {
        Value::Null
    };
    let message = json!({"eventType": kind, "eventId": name, "tags": tags, "payload": {}});
    api.post("/app/a/msg", message).await.expect(202);
}

/// An application `a` with the endpoints `good` and `bad`, two messages that were sent, and one that was just accepted.
async fn prepared(db: &TestDatabase) -> Api {
    let mut api = Api::on(db).await;
    let (good, bad) = (Receiver::start().await, Receiver::start().await);
    bad.answer(Answer::status(500));
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    for (uid, receiver) in [("good", &good), ("bad", &bad)] {
        let endpoint = json!({"url": receiver.url(), "uid": uid});
        api.post("/app/a/endpoint", endpoint).await.expect(201);
    }
    send(&api, "one", "paid").await;
    for wait in [7, 361, 1] {
        api.rig.drain().await;
        api.rig.advance(wait);
    }
    send(&api, "two", "shipped").await;
    api.rig.drain().await;
    api.rig.advance(1);
    send(&api, "three", "paid").await;
    api
}

const ALL: [&str; 6] = [
    "three bad sending",
    "three good sending",
    "two bad waiting",
    "two good delivered",
    "one bad failed",
    "one good delivered",
];

both!(
    get_delivery_lists_what_waits_and_what_was_sent_newest_first,
    async |db| {
        let api = prepared(db).await;
        let all = api.get("/app/a/delivery").await;
        let rows = all.expect(200)["data"].as_array().unwrap();
        assert_eq!(told(rows), ALL);
        let numbers = |row: &Value| (row["attempts"].clone(), row["lastStatusCode"].clone());
        assert_eq!(numbers(&rows[0]), (json!(0), Value::Null));
        assert_eq!(numbers(&rows[2]), (json!(1), json!(500)));
        assert_eq!(numbers(&rows[4]), (json!(3), json!(500)));
        let instants = |row: &Value| ["lastAttemptAt", "nextAttemptAt"].map(|field| row[field].is_string());
        assert_eq!(instants(&rows[0]), [false, false]);
        assert_eq!(instants(&rows[2]), [true, true]);
        assert_eq!(instants(&rows[3]), [true, false]);
        assert_eq!(rows[2]["lastError"], Value::Null, "it has answered");
        assert_eq!((&rows[0]["tags"], &rows[2]["tags"]), (&Value::Null, &json!(["rush"])));
    }
);

both!(each_filter_of_deliveries_is_honoured_on_pages_of_any_size, async |db| {
    let api = prepared(db).await;
    let of = |words: &[&str]| -> Vec<String> {
        let fits = |line: &&&str| words.iter().all(|word| line.contains(word));
        ALL.iter().filter(fits).map(|line| (*line).to_owned()).collect()
    };
    let good = api.get("/app/a/endpoint/good").await.field("id");
    for (query, expected) in [
        (String::new(), of(&[])),
        ("?state=delivered".to_owned(), of(&["delivered"])),
        ("?state=waiting".to_owned(), of(&["waiting"])),
        ("?state=sending".to_owned(), of(&["sending"])),
        ("?state=failed".to_owned(), of(&["failed"])),
        ("?endpoint_id=bad".to_owned(), of(&["bad"])),
        (
            format!("?endpoint_id={good}&state=delivered"),
            of(&["good", "delivered"]),
        ),
        ("?event_type=shipped".to_owned(), of(&["two"])),
        ("?event_type=other".to_owned(), Vec::new()),
        ("?tag=rush".to_owned(), of(&["two"])),
        ("?tag=rush&state=waiting".to_owned(), of(&["two", "waiting"])),
        ("?tag=rush&event_type=paid".to_owned(), Vec::new()),
        ("?tag=other".to_owned(), Vec::new()),
        ("?before=2026-01-01T00:00:01Z".to_owned(), of(&["one"])),
        (
            "?after=2026-01-01T00:06:09.5Z&before=2027-01-01T00:00:00Z".to_owned(),
            of(&["three"]),
        ),
    ] {
        for limit in [1, 2, 250] {
            let rows = api.walk(&format!("/app/a/delivery{query}"), limit).await;
            assert_eq!(told(&rows), expected, "{query}, {limit} a page");
        }
    }
    for (query, place) in [
        ("iterator=ep_1", "query.iterator"),
        ("iterator=msg_1.x", "query.iterator"),
        ("endpoint_id=a%20b", "query.endpoint_id"),
        ("event_type=!", "query.event_type"),
        ("tag=%00", "query.tag"),
    ] {
        api.get(&format!("/app/a/delivery?{query}")).await.breaks_rule_at(place);
    }
    api.get("/app/a/delivery?state=lost")
        .await
        .refused(400, "generic_error");
    api.get("/app/a/delivery?endpoint_id=none")
        .await
        .refused(404, "not_found");
});

both!(the_list_of_deliveries_goes_back_as_it_went_forth, async |db| {
    let api = prepared(db).await;
    let mut rows = Vec::new();
    let last = api.get("/app/a/delivery?limit=6").await;
    let mut iterator = format!("-{}", last.expect(200)["iterator"].as_str().unwrap());
    loop {
        let page = api.get(&format!("/app/a/delivery?limit=2&iterator={iterator}")).await;
        let data = page.expect(200)["data"].as_array().unwrap().clone();
        rows.splice(0..0, told(&data));
        if page.json["done"] == true {
            break;
        }
        page.json["prevIterator"].as_str().unwrap().clone_into(&mut iterator);
    }
    assert_eq!(rows, ALL[..5]);
    // With `after` alone a list begins at that instant.
    let page = api.get("/app/a/delivery?limit=2&after=2025-01-01T00:00:00Z").await;
    assert_eq!(told(page.expect(200)["data"].as_array().unwrap()), ALL[4..]);
});

both!(a_filter_that_few_pass_makes_short_pages_that_go_on, async |db| {
    let api = prepared(db).await;
    for at in 0..40 {
        let message = json!({"eventType": "noise", "eventId": format!("noise-{at}"), "payload": {}});
        api.post("/app/a/msg", message).await.expect(202);
    }
    // A page of one delivery looks through ten messages.
    let first = api.get("/app/a/delivery?event_type=shipped&limit=1").await;
    assert_eq!(
        (&first.expect(200)["data"], &first.json["done"]),
        (&json!([]), &json!(false))
    );
    assert!(
        first.json["iterator"].as_str().unwrap().starts_with("msg_"),
        "{}",
        first.text
    );
    for limit in [1, 3, 250] {
        let rows = api.walk("/app/a/delivery?event_type=shipped", limit).await;
        assert_eq!(told(&rows), ALL[2..4], "{limit} a page");
        let rows = api.walk("/app/a/delivery?event_type=none", limit).await;
        assert_eq!(told(&rows), [""; 0], "{limit} a page");
    }
});

both!(
    the_reason_of_an_attempt_without_an_answer_and_a_resend_show,
    async |db| {
        let mut api = Api::on(db).await;
        let app = api.application("a").await;
        let endpoint = json!({"url": "http://127.0.0.1:9/", "uid": "e"});
        api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
        let message = json!({"eventType": "t", "eventId": "m", "payload": {}});
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
        for wait in [7, 361, 1] {
            api.rig.drain().await;
            api.rig.advance(wait);
        }
        let list = format!("/app/{app}/delivery");
        let failed = api.get(&list).await;
        let row = &failed.expect(200)["data"][0];
        assert_eq!((&row["state"], &row["lastStatusCode"]), (&json!("failed"), &json!(0)));
        assert!(row["lastError"].as_str().is_some_and(|text| !text.is_empty()), "{row}");
        api.post(&format!("/app/{app}/msg/m/endpoint/e/resend"), json!({}))
            .await
            .expect(202);
        let again = api.get(&list).await;
        let rows = again.expect(200)["data"].as_array().unwrap();
        assert_eq!(told(rows), ["m e waiting"]);
        assert_eq!(rows[0]["attempts"], 3, "those of the schedule");
    }
);
