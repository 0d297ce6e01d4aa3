//! Operational webhooks about deliveries: failing, exhausted, recovered, and endpoints that the program disables.

use poem::http::StatusCode;
use postrider::api::ApiState;
use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{Answer, Caller, DEADLINE, Program, Receiver, SECRET, Shape, TestDatabase, rows, within};
use crate::operational::{listen, told};

/// An organization with an operational endpoint at `operations` and the application `shop`, whose endpoint `e` is at
/// `customer`.
struct Prepared {
    api: Api,
    operations: Receiver,
    customer: Receiver,
    app: String,
    endpoint: String,
}

async fn prepared(db: &TestDatabase, schedule: &'static str) -> Prepared {
    let shape = Shape {
        schedule,
        ..Shape::default()
    };
    let api = Api::shaped(db, shape, ApiState::BODY_DEADLINE).await;
    let (operations, customer) = (Receiver::start().await, Receiver::start().await);
    let app = api.post("/app", json!({"name": "a", "uid": "shop"})).await.field("id");
    let new = json!({"url": customer.url(), "uid": "e"});
    let endpoint = api.post("/app/shop/endpoint", new).await.field("id");
    // The organization gets notices only of what happens from now on.
    listen(&api, &operations, Value::Null).await;
    Prepared {
        api,
        operations,
        customer,
        app,
        endpoint,
    }
}

impl Prepared {
    /// Sends a message with the event id `order-1` and returns its id. A test can send one such message.
    async fn send(&self) -> String {
        let message = json!({"eventType": "order.paid", "eventId": "order-1", "payload": {}});
        let sent = self.api.post("/app/shop/msg", message).await;
        assert_eq!(sent.status, StatusCode::ACCEPTED);
        sent.field("id")
    }

    /// Drains the queue, then advances ten seconds and drains it again, `times` times.
    async fn again(&mut self, times: usize) {
        for _ in 0..times {
            self.api.rig.drain().await;
            self.api.rig.advance(10);
        }
        self.api.rig.drain().await;
    }

    /// Returns the last attempt by time, as a notice shows it.
    async fn last_attempt(&self, message: &str) -> Value {
        let list = self.api.get(&format!("/app/shop/attempt/msg/{message}")).await;
        let last = &list.expect(200)["data"][0];
        json!({"id": last["id"], "responseStatusCode": last["responseStatusCode"], "timestamp": last["timestamp"]})
    }

    fn types(&self) -> Vec<String> {
        let told = told(&self.operations);
        told.iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn about(&self, message: &str) -> Value {
        json!({
            "appId": self.app, "appUid": "shop", "msgId": message, "msgEventId": "order-1",
            "endpointId": self.endpoint, "lastAttempt": self.last_attempt(message).await,
        })
    }
}

both!(message_attempt_failing_is_told_after_the_fourth_failure, async |db| {
    let mut setup = prepared(db, "5,5,5,300").await;
    setup.customer.answer(Answer::status(503));
    let message = setup.send().await;
    setup.again(2).await;
    assert_eq!(setup.types(), [""; 0], "three failures");
    setup.again(1).await;
    let event = json!({"type": "message.attempt.failing", "data": setup.about(&message).await});
    assert_eq!(told(&setup.operations), [event]);
});

both!(message_attempt_exhausted_is_told_after_the_last_failure, async |db| {
    let mut setup = prepared(db, "5").await;
    setup.customer.answer(Answer::status(503));
    let message = setup.send().await;
    setup.again(1).await;
    let event = json!({"type": "message.attempt.exhausted", "data": setup.about(&message).await});
    assert_eq!(told(&setup.operations), [event]);
});

both!(
    message_attempt_recovered_is_told_when_a_retry_succeeds_after_the_fourth_failure,
    async |db| {
        let mut setup = prepared(db, "5,5,5,5").await;
        setup.customer.answer_next([503, 503, 503, 503].map(Answer::status));
        let message = setup.send().await;
        setup.again(4).await;
        let event = json!({"type": "message.attempt.recovered", "data": setup.about(&message).await});
        let told = told(&setup.operations);
        assert_eq!(setup.types(), ["message.attempt.failing", "message.attempt.recovered"]);
        assert_eq!(told[1], event);
    }
);

both!(
    message_attempt_recovered_is_told_when_a_resend_succeeds_after_exhaustion_once,
    async |db| {
        let mut setup = prepared(db, "").await;
        setup.customer.answer_next([Answer::status(500), Answer::status(500)]);
        let message = setup.send().await;
        setup.again(0).await;
        for _ in 0..3 {
            let (app, endpoint) = (setup.app.clone(), setup.endpoint.clone());
            setup.api.rig.resend(&app, &message, &endpoint).await;
            setup.again(0).await;
        }
        assert_eq!(setup.customer.count(), 4);
        assert_eq!(
            setup.types(),
            ["message.attempt.exhausted", "message.attempt.recovered"]
        );
    }
);

both!(a_success_before_the_fourth_failure_tells_nothing, async |db| {
    let mut setup = prepared(db, "5,5,5,5").await;
    setup.customer.answer_next([503, 503, 503].map(Answer::status));
    let message = setup.send().await;
    setup.again(3).await;
    let (app, endpoint) = (setup.app.clone(), setup.endpoint.clone());
    setup.api.rig.resend(&app, &message, &endpoint).await;
    setup.again(0).await;
    assert_eq!(setup.api.rig.state(&message).await, "delivered");
    assert_eq!(setup.types(), [""; 0]);
});

both!(endpoint_disabled_is_told_of_a_410, async |db| {
    let mut setup = prepared(db, "5").await;
    setup.customer.answer(Answer::status(410));
    let message = setup.send().await;
    setup.again(1).await;
    let since = setup.last_attempt(&message).await["timestamp"].clone();
    let data = json!({
        "appId": setup.app, "appUid": "shop", "endpointId": setup.endpoint, "endpointUid": "e", "failSince": since,
        "disabledAt": setup.api.get("/app/shop/endpoint/e").await.field("disabledAt"), "disabledReason": "gone",
    });
    let told = told(&setup.operations);
    assert_eq!(setup.types(), ["message.attempt.exhausted", "endpoint.disabled"]);
    assert_eq!(told[1]["data"], data);
});

both!(endpoint_disabled_is_told_after_five_days_of_failures, async |db| {
    let mut setup = prepared(db, "5,5,5,864000").await;
    setup.customer.answer(Answer::status(500));
    setup.send().await;
    setup.again(2).await;
    setup.api.rig.advance(10);
    let since = setup.api.rig.clock.now().to_rfc3339();
    setup.api.rig.drain().await;
    setup.api.rig.advance(13 * 86_400);
    setup.api.rig.drain().await;
    let types = [
        "message.attempt.failing",
        "message.attempt.exhausted",
        "endpoint.disabled",
    ];
    assert_eq!(setup.types(), types);
    let data = &told(&setup.operations)[2]["data"];
    assert_eq!(
        (&data["failSince"], &data["disabledReason"]),
        (&since.into(), &"failing".into())
    );
});

both!(an_operational_endpoint_that_fails_or_is_gone_tells_nobody, async |db| {
    let mut setup = prepared(db, "").await;
    let second = Receiver::start().await;
    listen(&setup.api, &second, Value::Null).await;
    setup.operations.answer(Answer::status(410));
    second.answer(Answer::status(500));
    setup.customer.answer(Answer::status(500));
    setup.send().await;
    setup.again(3).await;
    assert_eq!((setup.operations.count(), second.count()), (1, 1));
    assert_eq!(
        setup.api.rig.count("message").await,
        2,
        "the customer's message and one notice"
    );
    assert_eq!(
        setup.api.rig.count("endpoint where disabled").await,
        1,
        "the operational endpoint is disabled without a notice"
    );
});

both!(nobody_hears_of_messages_of_a_deleted_application, async |db| {
    let mut setup = prepared(db, "").await;
    setup.customer.answer(Answer::status(500));
    setup.send().await;
    setup.api.delete("/app/shop").await.expect(204);
    setup.again(0).await;
    assert_eq!(setup.types(), [""; 0]);
});

both!(an_outcome_whose_event_cannot_be_stored_is_not_recorded, async |db| {
    let mut setup = prepared(db, "").await;
    setup.api.rig.refuse(db, "message", "event_type like 'message.%'").await;
    setup.customer.answer(Answer::status(500));
    let message = setup.send().await;
    setup.api.rig.step().await;
    assert_eq!(setup.api.rig.state(&message).await, "none");
    assert_eq!(setup.api.rig.count("attempt").await, 0);
    assert_eq!(
        setup.api.rig.count("delivery where owner is not null").await,
        1,
        "the delivery is still leased, so it will be sent again"
    );
});

const TOKEN: &str = "a-token-for-tests-of-the-operator's-own";

// The process dies just before or just after the commit that disables the endpoint.
both!(
    an_event_and_what_it_tells_of_survive_a_kill_together_or_not_at_all,
    async |db| {
        for (point, survived) in [("settle.before_commit:1", 0), ("settle.after_commit:1", 1)] {
            let (operations, customer) = (Receiver::start().await, Receiver::start().await);
            customer.answer(Answer::status(410));
            let program = Program::on(db.url())
                .env("POSTRIDER_ADMIN_TOKEN", TOKEN)
                .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8");
            let caller = Caller::new(TOKEN);
            let mut serving = program.clone().env("POSTRIDER_CRASH_POINT", point).serve().await;
            let server = serving.url();
            let app = caller.make(&server, "/app", json!({"name": point})).await;
            let app = app["id"].as_str().unwrap();
            let endpoint = json!({"url": customer.url()});
            caller.make(&server, &format!("/app/{app}/endpoint"), endpoint).await;
            let wanted = json!({"url": operations.url(), "secret": SECRET, "eventTypes": ["endpoint.disabled"]});
            let listener = caller.make(&server, "/operational-webhook/endpoint", wanted).await;
            let message = json!({"eventType": "order.paid", "payload": {}});
            let _ = caller.post(&server, &format!("/app/{app}/msg"), point, &message).await;
            assert_eq!(
                serving.end().await,
                None,
                "the process died at {point}: {}",
                serving.stderr()
            );

            let connection = db.connect().await;
            let count = async |from: String| {
                let found = rows(&connection, &format!("select count(*) as n from {from}")).await;
                found[0].try_get::<i64>("", "n").unwrap()
            };
            let disabled = format!("endpoint where disabled and app_id = '{app}'");
            let listener = listener["id"].as_str().unwrap();
            let events = format!("delivery where endpoint_id = '{listener}'");
            let both = (count(disabled.clone()).await, count(events).await);
            assert_eq!(both, (survived, survived), "{point}");

            let mut serving = program.serve().await;
            within(DEADLINE, "the event arrives", async || {
                (operations.count() > 0).then_some(())
            })
            .await;
            assert_eq!(told(&operations)[0]["type"], "endpoint.disabled");
            assert_eq!(count(disabled).await, 1);
            assert_eq!(serving.stop().await, Some(0));
            assert_eq!(operations.count(), 1, "{point}");
        }
    }
);
