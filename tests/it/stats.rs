//! `GET /app/{a}/endpoint/{e}/stats`: attempts counted by how they ended.

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{self, Receiver, TestDatabase};

/// Creates the application `a` with the endpoint `e`. Attempts failed at 0 s and 7 s, and one succeeded at 10 s.
async fn tried(db: &TestDatabase) -> (Api, Receiver) {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    let endpoint = json!({"url": receiver.url(), "uid": "e"});
    api.post("/app/a/endpoint", endpoint).await.expect(201);
    let message = json!({"eventType": "t", "payload": {}});
    receiver.answer(harness::Answer::status(500));
    api.post("/app/a/msg", message.clone()).await.expect(202);
    api.rig.drain().await;
    api.rig.advance(7);
    api.rig.drain().await;
    api.rig.advance(3);
    receiver.answer(harness::Answer::ok());
    api.post("/app/a/msg", message).await.expect(202);
    api.rig.drain().await;
    api.rig.advance(1);
    (api, receiver)
}

fn counts(success: i64, fail: i64) -> Value {
    json!({"success": success, "fail": fail, "pending": 0, "sending": 0, "canceled": 0})
}

both!(get_stats_counts_attempts_between_since_and_until, async |db| {
    let (api, _receiver) = tried(db).await;
    for (query, success, fail) in [
        ("", 1, 2),
        ("?since=2026-01-01T00:00:00Z&until=2026-01-01T00:00:11Z", 1, 2),
        ("?since=2026-01-01T00:00:01Z", 1, 1),
        ("?until=2026-01-01T00:00:01Z", 0, 1),
        ("?since=2026-01-01T00:00:10Z&until=2026-01-01T00:00:11%2B00:00", 1, 0),
        ("?since=2026-01-01T00:00:08Z&until=2026-01-01T00:00:10Z", 0, 0),
        ("?since=2026-01-01T00:00:10Z&until=2026-01-01T00:00:10Z", 0, 0),
        ("?until=2026-01-01T00:05:10Z", 1, 2),
    ] {
        let stats = api.get(&format!("/app/a/endpoint/e/stats{query}")).await;
        assert_eq!(stats.expect(200), &counts(success, fail), "{query}");
    }
    api.get("/app/a/endpoint/none/stats").await.refused(404, "not_found");
});

both!(
    get_stats_over_more_than_28_days_or_the_future_is_400_invalid_range,
    async |db| {
        let (api, _receiver) = tried(db).await;
        for (query, refused) in [
            ("?since=2025-12-04T00:00:11Z&until=2026-01-01T00:00:11Z", false),
            ("?since=2025-12-03T23:55:11Z&until=2026-01-01T00:00:11Z", false),
            ("?since=2025-12-03T23:55:10Z&until=2026-01-01T00:00:11Z", true),
            ("?since=2025-12-01T00:00:00Z", true),
            ("?until=2026-01-01T00:05:12Z", true),
            ("?until=2026-01-02T00:00:00Z", true),
            ("?since=2026-01-02T00:00:00Z", true),
            ("?since=2026-01-01T00:00:10Z&until=2026-01-01T00:00:09Z", true),
        ] {
            let stats = api.get(&format!("/app/a/endpoint/e/stats{query}")).await;
            match refused {
                true => stats.refused(400, "invalid_range"),
                false => assert_eq!(stats.expect(200), &counts(1, 2), "{query}"),
            }
        }
        api.get("/app/a/endpoint/e/stats?since=yesterday")
            .await
            .refused(400, "generic_error");
    }
);
