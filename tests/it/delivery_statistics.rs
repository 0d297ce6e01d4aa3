//! `GET /stats/delivery`: attempts counted by organization, application and endpoint; and the contract's statistics of
//! an endpoint, which read the same sums.

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{Answer, Receiver, TestDatabase};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

struct World {
    api: Api,
    receiver: Receiver,
    app: String,
    other: String,
    endpoints: [String; 2],
}

/// Creates the applications `a`, with the endpoints `e` and `f`, and `b` with one endpoint.
async fn world(db: &TestDatabase) -> World {
    let (api, receiver) = (Api::on(db).await, Receiver::start().await);
    let app = api.post("/app", json!({"name": "a", "uid": "a"})).await.field("id");
    let other = api.post("/app", json!({"name": "b", "uid": "b"})).await.field("id");
    let mut endpoints = Vec::new();
    for (app, uid) in [("a", "e"), ("a", "f"), ("b", "g")] {
        let endpoint = json!({"url": receiver.url(), "uid": uid});
        endpoints.push(api.post(&format!("/app/{app}/endpoint"), endpoint).await.field("id"));
    }
    World {
        api,
        receiver,
        app,
        other,
        endpoints: [endpoints[0].clone(), endpoints[1].clone()],
    }
}

impl World {
    /// Sends a message to each endpoint of an application, whose receiver answers with `status`.
    async fn send(&mut self, app: &str, status: u16) {
        self.receiver.answer(Answer::status(status));
        let message = json!({"eventType": "t", "payload": {}});
        self.api.post(&format!("/app/{app}/msg"), message).await.expect(202);
        self.api.rig.drain().await;
        self.api.rig.flush().await;
        self.api.rig.advance(1);
    }

    async fn statistics(&self, query: &str) -> Value {
        self.api
            .get(&format!("/stats/delivery{query}"))
            .await
            .expect(200)
            .clone()
    }
}

/// Returns delivered and failed of a series or of a bucket.
fn counts(of: &Value) -> (i64, i64) {
    (of["delivered"].as_i64().unwrap(), of["failed"].as_i64().unwrap())
}

both!(
    stats_delivery_counts_by_organization_application_and_endpoint,
    async |db| {
        let mut world = world(db).await;
        world.send("a", 200).await;
        world.send("b", 404).await;
        world.api.rig.advance(HOUR);
        world.send("a", 302).await;

        let all = world.statistics("").await;
        assert_eq!(all["data"].as_array().unwrap().len(), 1);
        assert_eq!(counts(&all["data"][0]), (2, 4), "two were tried again: {all}");
        assert_eq!(all["stepSeconds"], 3_600);
        assert_eq!(all["since"], "2025-12-31T01:00:00.000000Z");
        assert_eq!(all["until"], "2026-01-01T02:00:00.000000Z");
        let buckets = all["data"][0]["buckets"].as_array().unwrap();
        assert_eq!(buckets.len(), 25);
        let classes = json!({"2xx": 2, "3xx": 0, "4xx": 1, "5xx": 0, "none": 0});
        assert_eq!(buckets[23]["byClass"], classes);
        assert_eq!(buckets[23]["start"], "2026-01-01T00:00:00.000000Z");
        assert!(buckets[23]["p50Ms"].as_i64().unwrap() <= buckets[23]["p99Ms"].as_i64().unwrap());
        let empty = json!({"start": "2025-12-31T01:00:00.000000Z", "delivered": 0, "failed": 0,
        "byClass": {"2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0, "none": 0}, "p50Ms": null, "p95Ms": null, "p99Ms": null});
        assert_eq!(buckets[0], empty);
        assert_eq!(
            (all["iterator"].clone(), all["done"].clone()),
            (Value::Null, json!(true))
        );

        let by_app = world.statistics("?by=application").await;
        let rows = by_app["data"].as_array().unwrap();
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row["appId"].as_str().unwrap(), counts(row)))
            .collect();
        assert_eq!(found, [(world.app.as_str(), (2, 2)), (&world.other, (0, 2))]);
        let one = world.statistics("?by=application&app_id=b").await;
        assert_eq!(one["data"], json!([rows[1]]));

        let by_endpoint = world.statistics("?by=endpoint&app_id=a").await;
        let rows = by_endpoint["data"].as_array().unwrap();
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row["endpointId"].as_str().unwrap(), counts(row)))
            .collect();
        assert_eq!(
            found,
            [(world.endpoints[0].as_str(), (1, 1)), (&world.endpoints[1], (1, 1))]
        );
        for names in [
            format!("endpoint_id=f,{}", world.endpoints[0]),
            format!("endpoint_id=f&endpoint_id={}", world.endpoints[0]),
        ] {
            let named = world.statistics(&format!("?by=endpoint&app_id=a&{names}")).await;
            assert_eq!(named["data"], by_endpoint["data"], "{names}");
        }
        let one = world.statistics("?by=endpoint&app_id=a&endpoint_id=f").await;
        assert_eq!(one["data"], json!([rows[1]]));
    }
);

both!(stats_delivery_divides_the_period_as_it_is_asked_to, async |db| {
    let mut world = world(db).await;
    for _ in 0..3 {
        world.send("a", 200).await;
        world.api.rig.advance(HOUR);
    }
    let starts = |body: &Value| -> Vec<(String, i64)> {
        let buckets = body["data"][0]["buckets"].as_array().unwrap();
        let shown = buckets.iter().map(|bucket| {
            let start = bucket["start"].as_str().unwrap();
            (start[..16].to_owned(), counts(bucket).0)
        });
        shown.collect()
    };
    let expected = |list: &[(&str, i64)]| -> Vec<(String, i64)> {
        list.iter()
            .map(|(start, count)| ((*start).to_owned(), *count))
            .collect()
    };
    for (query, buckets) in [
        (
            "since=2026-01-01T00:30:00Z&until=2026-01-01T01:30:00Z",
            &[("2026-01-01T00:00", 2), ("2026-01-01T01:00", 2)][..],
        ),
        (
            "since=2026-01-01T00:00:00Z&until=2026-01-01T03:00:00Z&step=7200",
            &[("2026-01-01T00:00", 4), ("2026-01-01T02:00", 2)],
        ),
        (
            "since=2026-01-01T02:00:00Z&until=2026-01-01T02:00:01Z&step=86400",
            &[("2026-01-01T00:00", 6)],
        ),
        (
            "since=2025-12-31T02:00:00Z&step=86400",
            &[("2025-12-31T00:00", 0), ("2026-01-01T00:00", 6)],
        ),
    ] {
        assert_eq!(
            starts(&world.statistics(&format!("?{query}")).await),
            expected(buckets),
            "{query}"
        );
    }
    world.api.rig.advance(40 * DAY);
    world.api.rig.prune().await;
    let merged = world
        .statistics("?since=2026-01-01T02:00:00Z&until=2026-01-02T02:00:00Z&step=86400")
        .await;
    assert_eq!(
        starts(&merged),
        expected(&[("2026-01-01T00:00", 6), ("2026-01-02T00:00", 0)])
    );
});

both!(stats_delivery_refuses_by_the_parameter_s_name_and_rule, async |db| {
    let world = world(db).await;
    world.api.rig.advance(100 * DAY);
    for (query, name, rule) in [
        ("step=0", "step", "multiple of 3600"),
        ("step=5000", "step", "multiple of 3600"),
        ("step=-3600", "step", "multiple of 3600"),
        ("since=2026-01-01T00:00:00Z", "step", "multiple of 86400"),
        ("since=2020-01-01T00:00:00Z&step=86400", "step", "at most 1000 buckets"),
        (
            "since=2026-04-11T00:00:00Z&until=2026-04-11T00:00:00Z",
            "since",
            "before `until`",
        ),
        ("since=2026-04-12T00:00:00Z", "since", "before `until`"),
        ("by=endpoint", "app_id", "must be given"),
        ("app_id=a", "app_id", "must not be given"),
        ("by=application&endpoint_id=e", "endpoint_id", "by=endpoint"),
        ("by=application&iterator=ep_x", "iterator", "iterator"),
        ("by=endpoint&app_id=a&iterator=app_x", "iterator", "iterator"),
        ("by=application&limit=251", "limit", "from 1 to 250"),
    ] {
        let answer = world.api.get(&format!("/stats/delivery?{query}")).await;
        answer.breaks_rule_at(&format!("query.{name}"));
        assert!(answer.text.contains(rule), "{query}: {}", answer.text);
    }
    let many = vec!["e"; 251].join(",");
    world
        .api
        .get(&format!("/stats/delivery?by=endpoint&app_id=a&endpoint_id={many}"))
        .await
        .breaks_rule_at("query.endpoint_id");
    for query in [
        "by=application&app_id=none",
        "by=endpoint&app_id=a&endpoint_id=none",
        "by=endpoint&app_id=a&endpoint_id=g",
    ] {
        world
            .api
            .get(&format!("/stats/delivery?{query}"))
            .await
            .refused(404, "not_found");
    }
    for query in ["by=month", "step=x", "since=yesterday", "until=1"] {
        world
            .api
            .get(&format!("/stats/delivery?{query}"))
            .await
            .refused(400, "generic_error");
    }
});

both!(stats_delivery_shows_an_application_s_token_its_own_alone, async |db| {
    let mut world = world(db).await;
    world.send("a", 200).await;
    world.send("b", 200).await;
    let token = world.api.token_of("b").await;
    let get = async |query: &str| {
        world
            .api
            .call(&token, "GET", &format!("/stats/delivery{query}"), &[], "")
            .await
    };
    for query in ["", "?by=application", "?by=application&app_id=b"] {
        let own = get(query).await;
        let data = own.expect(200)["data"].as_array().unwrap();
        assert_eq!(data.len(), 1, "{query}");
        assert_eq!((&data[0]["appId"], counts(&data[0])), (&json!(world.other), (1, 0)));
    }
    assert_eq!(
        get("?by=endpoint").await.expect(200)["data"].as_array().unwrap().len(),
        1
    );
    get("?by=organization").await.breaks_rule_at("query.by");
    for query in [
        "?by=application&app_id=a",
        "?by=endpoint&app_id=a",
        "?by=endpoint&endpoint_id=e",
    ] {
        get(query).await.refused(404, "not_found");
    }
    let stranger = world.api.stranger().await;
    let all = world.api.call(&stranger, "GET", "/stats/delivery", &[], "").await;
    assert_eq!(counts(&all.expect(200)["data"][0]), (0, 0));
    let apps = world
        .api
        .call(&stranger, "GET", "/stats/delivery?by=application", &[], "")
        .await;
    assert_eq!(apps.expect(200)["data"], json!([]));
    let theirs = format!("/stats/delivery?by=application&app_id={}", world.app);
    world
        .api
        .call(&stranger, "GET", &theirs, &[], "")
        .await
        .refused(404, "not_found");
});

both!(stats_delivery_comes_in_pages, async |db| {
    let world = world(db).await;
    for query in [
        "by=application",
        "by=endpoint&app_id=a",
        "by=endpoint&app_id=a&endpoint_id=e,f",
    ] {
        let first = world.statistics(&format!("?{query}&limit=1")).await;
        assert_eq!(first["done"], false, "{query}");
        let next = first["iterator"].as_str().unwrap();
        let second = world.statistics(&format!("?{query}&limit=1&iterator={next}")).await;
        assert_eq!(second["done"], true, "{query}");
        assert_ne!(first["data"], second["data"]);
        let back = second["prevIterator"].as_str().unwrap();
        let again = world.statistics(&format!("?{query}&limit=1&iterator={back}")).await;
        assert_eq!(again["data"], first["data"], "{query}");
    }
    let endpoint = json!({"url": world.receiver.url()});
    for _ in 0..30 {
        world.api.post("/app/a/endpoint", endpoint.clone()).await.expect(201);
    }
    let query = "?by=endpoint&app_id=a&limit=250&since=2023-05-01T00:00:00Z&step=86400";
    let page = world.statistics(query).await;
    let data = page["data"].as_array().unwrap();
    assert_eq!(
        (data.len(), page["done"].clone()),
        (25, json!(false)),
        "25,000 buckets at most"
    );
});

both!(
    the_statistics_of_an_endpoint_come_from_the_sums_and_partial_hours_from_the_attempts,
    async |db| {
        let mut world = world(db).await;
        let get = async |world: &World, query: &str| {
            let stats = world.api.get(&format!("/app/a/endpoint/e/stats{query}")).await;
            let stats = stats.expect(200);
            (stats["success"].as_i64().unwrap(), stats["fail"].as_i64().unwrap())
        };
        // The attempts of the first hour may be older than the sums, so they are counted one by one.
        world.send("a", 200).await;
        for _ in 0..3 {
            world.api.rig.advance(HOUR);
            world.send("a", 200).await;
        }
        world.api.rig.advance(60);
        world.send("a", 200).await;
        assert_eq!(get(&world, "").await, (5, 0));
        for (query, count) in [
            ("?since=2026-01-01T00:00:00Z&until=2026-01-01T02:00:00Z", 2),
            ("?since=2026-01-01T00:30:00Z&until=2026-01-01T03:00:30Z", 3),
            ("?since=2026-01-01T01:00:00Z&until=2026-01-01T03:00:00Z", 2),
            ("?since=2026-01-01T01:00:01Z&until=2026-01-01T02:59:59Z", 2),
        ] {
            assert_eq!(get(&world, query).await, (count, 0), "{query}");
        }
        world.api.rig.sql("update endpoint_hour set delivered = 100", []).await;
        assert_eq!(get(&world, "").await, (203, 0), "two full hours are those of the sums");
        assert_eq!(
            get(&world, "?since=2026-01-01T01:00:01Z&until=2026-01-01T02:59:59Z").await,
            (2, 0)
        );
        world.api.rig.sql("delete from endpoint_hour", []).await;
        assert_eq!(get(&world, "").await, (5, 0), "without sums all are counted one by one");
    }
);
