//! `POST /app/{a}/msg/{m}/endpoint/{e}/resend`: one more attempt, on request.

use serde_json::{Value, json};
use std::time::Duration;

use crate::api::{Answer, Api};
use crate::harness::{self, Receiver, TestDatabase};

struct Sent {
    api: Api,
    receiver: Receiver,
    /// The path of a resend of the message `m` to the endpoint `e`.
    path: String,
}

/// Creates an application `a` with the endpoint `e` and the message `m`, which has one attempt, answered with `status`.
async fn sent(db: &TestDatabase, status: u16) -> Sent {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer(harness::Answer::status(status));
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    let endpoint = json!({"url": receiver.url(), "uid": "e"});
    api.post("/app/a/endpoint", endpoint).await.expect(201);
    let message = json!({"eventType": "t", "eventId": "m", "payload": {"k": 1.10}});
    api.post("/app/a/msg", message).await.expect(202);
    api.rig.drain().await;
    Sent {
        api,
        receiver,
        path: "/app/a/msg/m/endpoint/e/resend".to_owned(),
    }
}

impl Sent {
    async fn resend(&self) -> Answer {
        self.api.call(&self.api.token, "POST", &self.path, &[], "").await
    }

    async fn attempts(&self) -> Vec<Value> {
        let list = self.api.get("/app/a/attempt/msg/m").await;
        list.expect(200)["data"].as_array().unwrap().clone()
    }

    async fn status(&self) -> Value {
        let list = self.api.get("/app/a/endpoint/e/msg").await;
        list.expect(200)["data"][0]["status"].clone()
    }
}

both!(post_resend_answers_202_and_sends_the_message_again, async |db| {
    let mut sent = sent(db, 200).await;
    let answer = sent.resend().await;
    assert_eq!(answer.expect(202), &json!({}));
    assert_eq!(sent.api.rig.drain().await, 1);
    let arrivals = sent.receiver.arrivals();
    assert_eq!(arrivals.len(), 2, "the message had been delivered once before");
    assert_eq!(arrivals[0].text(), arrivals[1].text());
    assert_eq!(arrivals[0].headers["webhook-id"], arrivals[1].headers["webhook-id"]);
    let attempts = sent.attempts().await;
    let triggers: Vec<_> = attempts.iter().map(|attempt| attempt["triggerType"].clone()).collect();
    assert_eq!(triggers, [1, 0]);
});

both!(
    post_resend_that_fails_is_not_tried_again_and_keeps_the_success,
    async |db| {
        let mut sent = sent(db, 200).await;
        sent.receiver.answer(harness::Answer::status(500));
        sent.resend().await.expect(202);
        assert_eq!(sent.api.rig.drain().await, 1);
        sent.api.rig.advance(7 * 86_400);
        assert_eq!(sent.api.rig.drain().await, 0);
        assert_eq!(sent.api.rig.count("delivery").await, 0);
        let newest = &sent.attempts().await[0];
        assert_eq!((&newest["status"], &newest["nextAttempt"]), (&json!(2), &Value::Null));
        assert_eq!(sent.status().await, 0);
    }
);

both!(post_resend_that_succeeds_cancels_the_pending_retry, async |db| {
    let mut sent = sent(db, 500).await;
    assert_eq!(sent.status().await, 3);
    sent.receiver.answer(harness::Answer::ok());
    sent.resend().await.expect(202);
    assert_eq!(sent.api.rig.drain().await, 1);
    assert_eq!(sent.status().await, 0);
    assert_eq!(sent.api.rig.count("delivery").await, 0);
    sent.api.rig.advance(7 * 86_400);
    assert_eq!(sent.api.rig.drain().await, 0);
});

both!(post_resend_that_fails_leaves_the_pending_retry, async |db| {
    let mut sent = sent(db, 500).await;
    sent.resend().await.expect(202);
    assert_eq!(sent.api.rig.drain().await, 1);
    assert_eq!(sent.status().await, 3);
    sent.api.rig.advance(7);
    assert_eq!(sent.api.rig.drain().await, 1);
});

both!(post_resend_passes_the_filter_of_the_endpoint, async |db| {
    let mut sent = sent(db, 200).await;
    let other = Receiver::start().await;
    sent.api
        .post("/event-type", json!({"name": "other", "description": ""}))
        .await
        .expect(201);
    let picky = json!({"url": other.url(), "uid": "picky", "eventTypes": ["other"], "channels": ["c"]});
    sent.api.post("/app/a/endpoint", picky).await.expect(201);
    sent.path = "/app/a/msg/m/endpoint/picky/resend".to_owned();
    sent.resend().await.expect(202);
    assert_eq!(sent.api.rig.drain().await, 1);
    assert_eq!(other.count(), 1);
    let list = sent.api.get("/app/a/msg/m/endpoint").await;
    assert_eq!(list.expect(200)["data"].as_array().unwrap().len(), 2);
});

both!(
    post_resend_of_a_message_without_content_is_400_missing_payload,
    async |db| {
        let mut sent = sent(db, 500).await;
        sent.api.delete("/app/a/msg/m/content").await.expect(204);
        sent.resend().await.refused(400, "missing_payload");
        sent.api.rig.advance(7);
        sent.api.rig.drain().await;
        assert_eq!(sent.receiver.count(), 1, "nothing more was sent");
    }
);

both!(
    post_resend_to_a_disabled_endpoint_is_202_and_sends_nothing,
    async |db| {
        let mut sent = sent(db, 200).await;
        sent.api
            .patch("/app/a/endpoint/e", json!({"disabled": true}))
            .await
            .expect(200);
        assert_eq!(sent.resend().await.expect(202), &json!({}));
        assert_eq!(sent.api.rig.count("delivery").await, 0);
        sent.api
            .patch("/app/a/endpoint/e", json!({"disabled": false}))
            .await
            .expect(200);
        assert_eq!(sent.api.rig.drain().await, 0, "nothing is sent later either");
    }
);

both!(post_resend_with_one_idempotency_key_sends_once, async |db| {
    let mut sent = sent(db, 200).await;
    let headers = [("idempotency-key", "k")];
    let post = || sent.api.call(&sent.api.token, "POST", &sent.path, &headers, "");
    for answer in futures_util::future::join_all([post(), post(), post()]).await {
        assert_eq!(answer.expect(202), &json!({}));
    }
    assert_eq!(sent.api.rig.drain().await, 1);
});

both!(
    post_resend_by_an_application_token_is_for_its_own_application,
    async |db| {
        let mut sent = sent(db, 200).await;
        let app = sent.api.get("/app/a").await.field("id");
        let other = sent.api.application("other").await;
        let (own, foreign) = (sent.api.token_of(&app).await, sent.api.token_of(&other).await);
        sent.api
            .call(&foreign, "POST", &sent.path, &[], "")
            .await
            .refused(404, "not_found");
        sent.api.call(&own, "POST", &sent.path, &[], "").await.expect(202);
        assert_eq!(sent.api.rig.drain().await, 1);
    }
);

both!(post_resend_of_something_unknown_is_404, async |db| {
    let mut sent = sent(db, 200).await;
    sent.api
        .post("/app/a/endpoint", json!({"url": sent.receiver.url(), "uid": "gone"}))
        .await
        .expect(201);
    let gone = sent.api.get("/app/a/endpoint/gone").await.field("id");
    sent.api.delete("/app/a/endpoint/gone").await.expect(204);
    let other = sent.api.application("other").await;
    for path in [
        "/app/a/msg/none/endpoint/e/resend".to_owned(),
        "/app/a/msg/m/endpoint/none/resend".to_owned(),
        format!("/app/a/msg/m/endpoint/{gone}/resend"),
        format!("/app/{other}/msg/m/endpoint/e/resend"),
        "/app/none/msg/m/endpoint/e/resend".to_owned(),
    ] {
        sent.path = path;
        sent.resend().await.refused(404, "not_found");
    }
    assert_eq!(sent.api.rig.drain().await, 0);
});

both!(post_resend_survives_a_kill_of_the_process, async |db| {
    let sent = sent(db, 200).await;
    sent.resend().await.expect(202);
    sent.api.into_rig().kill().await;
    let mut rig = harness::Rig::on(db).await;
    rig.clock.advance(Duration::from_secs(60));
    assert_eq!(rig.drain().await, 1);
    assert_eq!(sent.receiver.count(), 2);
});
