//! Recover and replay through the API: which messages are queued again, and which callers may start them.

use std::time::Duration;

use postrider::api::ApiState;
use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{self, Receiver, START, Shape, TestDatabase};

/// An application with the endpoint `e`, and a schedule of one retry after five seconds.
struct Shop {
    api: Api,
    app: String,
    receiver: Receiver,
}

impl Shop {
    async fn on(db: &TestDatabase) -> Self {
        let shape = Shape {
            schedule: "5",
            ..Shape::default()
        };
        let api = Api::shaped(db, shape, ApiState::BODY_DEADLINE).await;
        let receiver = Receiver::start().await;
        let app = api.application("shop").await;
        let shop = Self { api, app, receiver };
        shop.endpoint("e", json!({})).await;
        shop
    }

    async fn endpoint(&self, uid: &str, more: Value) -> String {
        let mut body = json!({"url": self.receiver.url_of(&format!("/{uid}")), "uid": uid});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.api.post(&format!("/app/{}/endpoint", self.app), body).await;
        made.expect(201);
        made.field("id")
    }

    /// Sends a message with this event id. Messages of the type `a` have the channel `c`, others have none.
    async fn send(&self, event_id: &str, event_type: &str) -> String {
        let mut body = json!({"eventType": event_type, "eventId": event_id, "payload": {"id": event_id}});
        if event_type == "a" {
            body["channels"] = json!(["c"]);
        }
        let made = self.api.post(&format!("/app/{}/msg", self.app), body).await;
        made.expect(202);
        made.field("id")
    }

    /// Sends messages that are answered with this status until their schedule is exhausted.
    async fn answered(&mut self, status: u16, event_ids: &[&str]) {
        self.receiver.answer(harness::Answer::status(status));
        for event_id in event_ids {
            self.send(event_id, "a").await;
        }
        self.api.rig.drain().await;
        self.api.rig.advance(7);
        self.api.rig.drain().await;
        self.receiver.answer(harness::Answer::ok());
    }

    async fn ask(&self, kind: &str, body: Value) -> Value {
        let answer = self.api.post(&self.path(kind), body).await;
        answer.expect(202).clone()
    }

    fn path(&self, kind: &str) -> String {
        format!("/app/{}/endpoint/e/{kind}", self.app)
    }

    /// Works the task off. Returns the task as it is then, and the sorted event ids of the messages that arrived
    /// meanwhile.
    async fn end(&mut self, task: &Value) -> (Value, Vec<String>) {
        let before = self.receiver.count();
        self.api.rig.drain().await;
        let path = format!("/background-task/{}", task["id"].as_str().unwrap());
        let ended = self.api.get(&path).await.expect(200).clone();
        let arrived = self.receiver.arrivals().into_iter().skip(before);
        let mut ids: Vec<_> = arrived
            .map(|arrival| {
                let body: Value = serde_json::from_str(arrival.text()).unwrap();
                body["id"].as_str().unwrap().to_owned()
            })
            .collect();
        ids.sort();
        (ended, ids)
    }
}

fn an_hour_ago() -> Value {
    json!(START.minus(Duration::from_secs(3600)).to_rfc3339())
}

both!(
    post_recover_answers_202_and_gives_each_failed_message_one_manual_attempt,
    async |db| {
        let mut shop = Shop::on(db).await;
        shop.answered(500, &["m1", "m2"]).await;
        shop.answered(200, &["fine"]).await;
        let attempts = shop.receiver.count();
        assert_eq!(attempts, 5, "two failures have two attempts each");

        let task = shop.ask("recover", json!({"since": an_hour_ago()})).await;
        assert!(task["id"].as_str().unwrap().starts_with("qtask_"), "{task}");
        assert_eq!(
            (&task["status"], &task["task"]),
            (&json!("running"), &json!("endpoint.recover"))
        );
        assert!(
            task["updatedAt"].is_string() && task["data"]["messagesSent"] == 0,
            "{task}"
        );

        let (ended, arrived) = shop.end(&task).await;
        assert_eq!(arrived, ["m1", "m2"]);
        assert_eq!(
            (&ended["status"], &ended["data"]["messagesSent"]),
            (&json!("finished"), &json!(2))
        );
        assert_eq!(ended["data"]["lookedAt"], 5);
        assert_eq!(ended["data"]["reached"], ended["data"]["until"]);
        assert_eq!(shop.api.rig.count("attempt where trigger = 1 and delivered").await, 2);
        assert_eq!(shop.api.rig.count("delivery_result where state <> 0").await, 0);
        assert_eq!(shop.api.rig.count("delivery").await, 0);
    }
);

both!(
    recover_gives_one_attempt_only_and_leaves_the_retry_that_waits,
    async |db| {
        let mut shop = Shop::on(db).await;
        shop.receiver.answer(harness::Answer::status(500));
        shop.send("m", "a").await;
        shop.api.rig.drain().await;
        shop.api.rig.advance(1);
        let task = shop.ask("recover", json!({"since": an_hour_ago()})).await;
        assert_eq!(shop.end(&task).await.1, ["m"]);
        assert_eq!(
            shop.api
                .rig
                .count("delivery where trigger = 0 and attempts_made = 1")
                .await,
            1
        );
        assert_eq!(shop.api.rig.count("delivery").await, 1);
    }
);

both!(recover_takes_what_failed_from_since_until_before_until, async |db| {
    let mut shop = Shop::on(db).await;
    shop.answered(500, &["early"]).await;
    shop.api.rig.advance(100);
    let since = shop.api.rig.clock.now();
    shop.answered(500, &["within"]).await;
    shop.api.rig.advance(100);
    let until = shop.api.rig.clock.now();
    shop.answered(500, &["late"]).await;
    let window = json!({"since": since.to_rfc3339(), "until": until.to_rfc3339()});
    let task = shop.ask("recover", window).await;
    assert_eq!(shop.end(&task).await.1, ["within"]);
    let task = shop
        .ask("recover", json!({"since": an_hour_ago(), "until": since.to_rfc3339()}))
        .await;
    assert_eq!(shop.end(&task).await.1, ["early"]);
});

both!(
    recover_skips_messages_whose_content_is_gone_and_other_endpoints,
    async |db| {
        let mut shop = Shop::on(db).await;
        shop.endpoint("other", json!({})).await;
        shop.receiver
            .answer_by(|arrival| harness::Answer::status(if arrival.path == "/other" { 500 } else { 200 }));
        shop.send("of-other", "a").await;
        shop.api.rig.drain().await;
        shop.answered(500, &["gone", "kept"]).await;
        let gone = "delete from message_content where message_id = (select id from message where event_id = 'gone')";
        assert_eq!(shop.api.rig.sql(gone, []).await, 1);
        let task = shop.ask("recover", json!({"since": an_hour_ago()})).await;
        let (ended, arrived) = shop.end(&task).await;
        assert_eq!(arrived, ["kept"]);
        assert_eq!(ended["data"]["messagesSent"], 1);
    }
);

both!(
    recover_older_than_14_days_and_5_minutes_before_until_answers_422,
    async |db| {
        let shop = Shop::on(db).await;
        let now = shop.api.rig.clock.now();
        let most = Duration::from_secs(14 * 24 * 3600 + 300);
        let path = shop.path("recover");
        let since = |at: postrider::domain::timestamp::Timestamp| json!({"since": at.to_rfc3339()});
        shop.api.post(&path, since(now.minus(most))).await.expect(202);
        let older = now.minus(most + Duration::from_micros(1));
        shop.api.post(&path, since(older)).await.breaks_rule_at("body.since");
        let mut with_end = since(older);
        with_end["until"] = json!(now.minus(Duration::from_secs(1)).to_rfc3339());
        shop.api.post(&path, with_end).await.expect(202);
    }
);

both!(
    recover_with_since_at_or_after_now_answers_202_and_recovers_nothing,
    async |db| {
        let mut shop = Shop::on(db).await;
        shop.answered(500, &["m"]).await;
        let now = shop.api.rig.clock.now();
        for since in [now, now.plus(Duration::from_secs(3600))] {
            let task = shop.ask("recover", json!({"since": since.to_rfc3339()})).await;
            let (ended, arrived) = shop.end(&task).await;
            assert_eq!((&ended["status"], arrived.len()), (&json!("finished"), 0));
        }
    }
);

both!(what_is_wrong_in_a_recover_or_replay_is_named, async |db| {
    let shop = Shop::on(db).await;
    let app = &shop.app;
    for kind in ["recover", "replay-missing", "bulk-replay"] {
        let path = shop.path(kind);
        shop.api.post(&path, json!({})).await.breaks_rule_at("body.since");
        shop.api
            .post(&path, json!({"since": "yesterday"}))
            .await
            .breaks_rule_at("body.since");
        let until = START.minus(Duration::from_secs(7200)).to_rfc3339();
        shop.api
            .post(&path, json!({"since": an_hour_ago(), "until": until}))
            .await
            .breaks_rule_at("body.until");
        let unknown = format!("/app/{app}/endpoint/unknown/{kind}");
        let body = json!({"since": an_hour_ago()});
        shop.api.post(&unknown, body.clone()).await.refused(404, "not_found");
        let unknown = format!("/app/unknown/endpoint/e/{kind}");
        shop.api.post(&unknown, body).await.refused(404, "not_found");
    }
    for (field, value) in [
        ("status", json!(5)),
        ("status", json!(-1)),
        ("statusCodeClass", json!(201)),
        ("channel", json!("a b")),
        ("eventTypes", json!([])),
    ] {
        let body = json!({"since": an_hour_ago(), field: value});
        let answer = shop.api.post(&shop.path("bulk-replay"), body).await;
        answer.breaks_rule_at(&format!("body.{field}"));
    }
    assert_eq!(shop.api.rig.count("background_task").await, 0);
});

both!(
    post_replay_missing_sends_what_the_endpoint_wants_and_was_never_sent,
    async |db| {
        let mut shop = Shop::on(db).await;
        shop.answered(500, &["failed"]).await;
        shop.answered(200, &["delivered"]).await;
        let path = format!("/app/{}/endpoint/e", shop.app);
        shop.api
            .post("/event-type", json!({"name": "a", "description": ""}))
            .await
            .expect(201);
        shop.api.patch(&path, json!({"disabled": true})).await.expect(200);
        shop.answered(200, &["missed"]).await;
        shop.send("unwanted", "b").await;
        let enabled = json!({"disabled": false, "eventTypes": ["a"], "channels": ["c"]});
        shop.api.patch(&path, enabled).await.expect(200);
        // This message was never sent either, but it waits in the queue, so the task leaves it alone.
        shop.receiver.answer(harness::Answer::ok());
        shop.send("queued", "a").await;
        let task = shop.ask("replay-missing", json!({"since": an_hour_ago()})).await;
        assert_eq!(task["task"], "endpoint.replay");
        let (ended, arrived) = shop.end(&task).await;
        assert_eq!(arrived, ["missed", "queued"]);
        assert_eq!(
            (&ended["status"], &ended["data"]["messagesSent"]),
            (&json!("finished"), &json!(1))
        );
        assert_eq!(shop.api.rig.count("attempt where trigger = 1").await, 1);
    }
);

both!(post_replay_missing_sends_what_ended_without_an_attempt, async |db| {
    let mut shop = Shop::on(db).await;
    let path = format!("/app/{}/endpoint/e", shop.app);
    shop.send("m", "a").await;
    shop.api.patch(&path, json!({"disabled": true})).await.expect(200);
    // The fast path has read the endpoint before it was disabled.
    shop.api
        .rig
        .sql("update delivery set due_at = 0, owner = null, lease_id = null", [])
        .await;
    shop.api.rig.drain().await;
    shop.api.rig.sql("delete from attempt", []).await;
    shop.api.rig.sql("update delivery_result set state = 2", []).await;
    shop.api.patch(&path, json!({"disabled": false})).await.expect(200);
    shop.api.rig.advance(1);
    let task = shop.ask("replay-missing", json!({"since": an_hour_ago()})).await;
    assert_eq!(shop.end(&task).await.1, ["m"]);
});

both!(
    post_bulk_replay_sends_again_what_was_sent_and_passes_the_filters,
    async |db| {
        let mut shop = Shop::on(db).await;
        shop.answered(200, &["good"]).await;
        shop.answered(404, &["bad"]).await;
        shop.answered(500, &["broken"]).await;
        shop.send("plain", "b").await;
        shop.api.rig.drain().await;
        shop.receiver.answer(harness::Answer::status(500));
        shop.send("waits", "b").await;
        shop.api.rig.drain().await;
        shop.api.rig.advance(1);
        for (filter, passing) in [
            (json!({}), &["bad", "broken", "good", "plain", "waits"][..]),
            (json!({"status": 0}), &["good", "plain"]),
            (json!({"status": 1}), &[]),
            (json!({"status": 2}), &["bad", "broken"]),
            (json!({"status": 3}), &["waits"]),
            (json!({"statusCodeClass": 400}), &["bad"]),
            (json!({"statusCodeClass": 0}), &[]),
            (json!({"channel": "c", "tag": "ignored"}), &["bad", "broken", "good"]),
            (json!({"eventTypes": ["b", "other"]}), &["plain", "waits"]),
            (json!({"eventTypes": ["b"], "channel": "c"}), &[]),
            (
                json!({"status": null, "channel": null, "eventTypes": null}),
                &["bad", "broken", "good", "plain", "waits"],
            ),
        ] {
            let mut body = json!({"since": an_hour_ago()});
            body.as_object_mut()
                .unwrap()
                .extend(filter.as_object().unwrap().clone());
            let task = shop.ask("bulk-replay", body).await;
            assert_eq!(task["task"], "endpoint.bulk-replay");
            let (ended, arrived) = shop.end(&task).await;
            assert_eq!(arrived, passing, "{filter}");
            assert_eq!(ended["data"]["messagesSent"], passing.len(), "{filter}");
        }
    }
);

both!(
    an_applications_token_may_recover_and_replay_for_its_own_application_alone,
    async |db| {
        let shop = Shop::on(db).await;
        let token = shop.api.token_of(&shop.app).await;
        let other = shop.api.token_of(&shop.api.application("other").await).await;
        let body = json!({"since": an_hour_ago()}).to_string();
        for kind in ["recover", "replay-missing", "bulk-replay"] {
            let path = shop.path(kind);
            shop.api.call(&token, "POST", &path, &[], &body).await.expect(202);
            shop.api
                .call(&other, "POST", &path, &[], &body)
                .await
                .refused(404, "not_found");
        }
    }
);

both!(
    a_recover_that_is_repeated_with_its_idempotency_key_is_one_task,
    async |db| {
        let shop = Shop::on(db).await;
        let body = json!({"since": an_hour_ago()});
        let first = shop.api.post_once(&shop.path("recover"), "key", body.clone()).await;
        let again = shop.api.post_once(&shop.path("recover"), "key", body).await;
        assert_eq!(first.expect(202), again.expect(202));
        assert_eq!(shop.api.rig.count("background_task").await, 1);
    }
);

both!(an_application_has_a_hundred_running_tasks_at_most, async |db| {
    let mut shop = Shop::on(db).await;
    let body = json!({"since": an_hour_ago()});
    for _ in 0..100 {
        shop.ask("recover", body.clone()).await;
    }
    let path = shop.path("recover");
    let more = shop.api.post(&path, body.clone()).await;
    more.is_over_limit("an application has at most 100 running background tasks; wait until one ends, or cancel one");
    shop.api.rig.step().await;
    shop.api.post(&path, body).await.expect(202);
});
