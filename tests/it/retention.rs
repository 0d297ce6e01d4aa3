//! What is kept no longer: payloads past their retention, messages past theirs, each with what tells of them.

use serde_json::json;

use crate::api::Api;
use crate::harness::{Answer, Receiver, TestDatabase};

const DAY: u64 = 86_400;

/// The application `a` with the endpoint `e`, and a message whose payload is kept for so many days, tried once.
async fn sent(db: &TestDatabase, days: u64) -> (Api, Receiver) {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    let endpoint = json!({"url": receiver.url(), "uid": "e"});
    api.post("/app/a/endpoint", endpoint).await.expect(201);
    send(&mut api, "m", days).await;
    (api, receiver)
}

async fn send(api: &mut Api, event_id: &str, days: u64) {
    let body = json!({"eventType": "t", "eventId": event_id, "payload": {"k": 1}, "payloadRetentionPeriod": days});
    api.post("/app/a/msg", body).await.expect(202);
    api.rig.drain().await;
}

both!(
    a_payload_is_removed_after_its_retention_and_the_message_and_attempts_stay,
    async |db| {
        let (mut api, _receiver) = sent(db, 5).await;
        send(&mut api, "longer", 6).await;
        api.rig.advance(5 * DAY - 1);
        api.rig.prune().await;
        assert_eq!(api.get("/app/a/msg/m").await.expect(200)["payload"], json!({"k": 1}));
        api.rig.advance(1);
        api.rig.prune().await;
        assert_eq!(
            api.get("/app/a/msg/m").await.expect(200)["payload"],
            json!({"expired": true})
        );
        assert_eq!(
            api.get("/app/a/msg/longer").await.expect(200)["payload"],
            json!({"k": 1})
        );
        let attempts = api.get("/app/a/attempt/msg/m").await;
        assert_eq!(attempts.expect(200)["data"].as_array().unwrap().len(), 1);
        let at_endpoint = api.walk("/app/a/endpoint/e/msg", 250).await;
        assert_eq!(at_endpoint.len(), 2);
        assert_eq!(at_endpoint[1]["payload"], json!({"expired": true}));
        api.post("/app/a/msg/m/endpoint/e/resend", json!({}))
            .await
            .refused(400, "missing_payload");
    }
);

both!(
    a_retry_of_an_expired_payload_ends_as_failed_without_an_attempt,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        receiver.answer(Answer::status(500).header("retry-after", "86400"));
        api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
        let endpoint = json!({"url": receiver.url(), "uid": "e"});
        api.post("/app/a/endpoint", endpoint).await.expect(201);
        send(&mut api, "m", 5).await;
        api.rig.advance(5 * DAY);
        api.rig.prune().await;
        api.rig.drain().await;
        assert_eq!(receiver.count(), 1);
        assert_eq!(api.rig.count("delivery").await, 0);
        assert_eq!(
            api.get("/app/a/endpoint/e/msg").await.expect(200)["data"][0]["status"],
            2
        );
    }
);

both!(
    a_message_goes_with_its_attempts_and_results_when_its_time_is_over,
    async |db| {
        let (mut api, _receiver) = sent(db, 90).await;
        api.rig.advance(1);
        send(&mut api, "younger", 90).await;
        api.rig.advance(180 * DAY - 1);
        api.rig.prune().await;
        api.get("/app/a/msg/m").await.expect(200);
        api.rig.advance(1);
        api.rig.prune().await;
        api.get("/app/a/msg/m").await.refused(404, "not_found");
        api.get("/app/a/msg/younger").await.expect(200);
        for table in ["message", "attempt", "delivery_result"] {
            assert_eq!(api.rig.count(table).await, 1, "{table}");
        }
        let left = api.walk("/app/a/endpoint/e/msg", 250).await;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0]["eventId"], "younger");
        let again = json!({"eventType": "t", "eventId": "m", "payload": {}});
        api.post("/app/a/msg", again).await.expect(202);
    }
);

both!(what_is_written_of_a_message_after_it_has_gone_goes_too, async |db| {
    let (mut api, _receiver) = sent(db, 90).await;
    api.rig.advance(180 * DAY + 1);
    // A resend that was under way settles when the message has gone.
    api.rig.sql("delete from message", []).await;
    assert_eq!(api.rig.count("attempt").await, 1);
    api.rig.prune().await;
    for table in ["message_content", "attempt", "delivery_result"] {
        assert_eq!(api.rig.count(table).await, 0, "{table}");
    }
});

both!(
    old_messages_of_many_applications_go_in_chunks_deleted_ones_too,
    async |db| {
        let (mut api, _receiver) = sent(db, 90).await;
        let numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1200)";
        for insert in [
        "application (id, org_id, name, metadata, created_at, updated_at, deleted_at)
            select 'app_many' || i, 'org', 'n', '{}', 0, 0, i from n",
        "message (app_id, id, event_type, created_at, expires_at) select 'app_many' || i, 'msg_0', 't', 0, 0 from n",
        "message (app_id, id, event_type, created_at, expires_at)
            select 'app_many1', 'msg_00' || i, 't', 0, 0 from n",
        "message_content (app_id, message_id, body, expires_at)
            select 'app_many1', 'msg_00' || i, '{}', 9223372036854775807 from n",
        "attempt (app_id, message_id, id, endpoint_id, url, trigger, delivered, response_status, response, duration_ms,
            created_at) select 'app_many1', 'msg_001', 'atmpt_' || i, 'ep', '', 0, false, 0, '', 0, 0 from n",
    ] {
        let (into, select) = insert.split_once("select").expect("each selects");
        api.rig
            .sql(&format!("insert into {into} {numbers} select {select}"), [])
            .await;
    }
        for _ in 0..3 {
            api.rig.prune().await;
        }
        assert_eq!(api.rig.count("message").await, 1);
        assert_eq!(api.rig.count("message_content").await, 1);
        assert_eq!(api.rig.count("attempt").await, 1);
        api.get("/app/a/msg/m").await.expect(200);
    }
);
