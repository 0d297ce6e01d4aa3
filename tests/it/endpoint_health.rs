//! The health of endpoints: one that answers 410 or fails for five days is disabled, and its waiting deliveries end.

use postrider::api::ApiState;
use postrider::domain::timestamp::Timestamp;
use serde_json::json;

use crate::api::Api;
use crate::harness::{Answer, DEADLINE, Gate, Receiver, Rig, START, Shape, recorded, within};

const DAY: u64 = 86_400;
const DISABLED: &str = "endpoint where disabled";

fn failing_since(at: Timestamp) -> String {
    format!("endpoint where failing_since = {}", at.0)
}

/// Inserts one application with one endpoint at the receiver, and returns the application's id.
async fn prepared(rig: &Rig, receiver: &Receiver) -> String {
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    app
}

/// Sends a message until its schedule `5,300` is used up.
async fn exhaust(rig: &mut Rig, app: &str) {
    rig.accept(app, "{}").await;
    for wait in [7, 361, 0] {
        assert_eq!(rig.step().await.sent, 1);
        rig.advance(wait);
    }
}

both!(
    an_endpoint_that_answers_410_is_disabled_and_the_delivery_ends,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        receiver.answer(Answer::status(410));
        let app = prepared(&rig, &receiver).await;
        let id = rig.accept(&app, "{}").await.message_id;
        rig.advance(1);
        assert_eq!(rig.step().await.sent, 1);
        assert_eq!(
            rig.count(&format!("{DISABLED} and updated_at = {}", START.0 + 1_000_000))
                .await,
            1
        );
        assert_eq!(
            rig.store.metrics().endpoints_disabled.get(),
            1,
            "the disabled endpoint is counted"
        );
        assert_eq!(rig.state(&id).await, "failed");
        assert_eq!(rig.count("delivery").await, 0);
        assert_eq!(
            rig.count("attempt where response_status = 410 and next_at is null")
                .await,
            1
        );
        rig.accept(&app, "{}").await;
        assert_eq!(rig.drain().await, 0, "the endpoint gets nothing any more");
    }
);

both!(
    an_endpoint_that_fails_for_five_days_is_disabled_when_a_schedule_is_used_up,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        receiver.answer(Answer::status(500));
        let app = prepared(&rig, &receiver).await;
        exhaust(&mut rig, &app).await;
        let since = START.plus(std::time::Duration::from_secs(7 + 361));
        assert_eq!(
            rig.count(&failing_since(since)).await,
            1,
            "failing since the schedule was used up"
        );
        rig.advance(4 * DAY);
        exhaust(&mut rig, &app).await;
        assert_eq!(rig.count(DISABLED).await, 0, "five days are not over yet");
        rig.advance(DAY);
        rig.accept(&app, "{}").await;
        rig.step().await;
        assert_eq!(rig.count(DISABLED).await, 0, "a retry is left");
        rig.advance(7);
        rig.step().await;
        rig.advance(361);
        rig.step().await;
        assert_eq!(rig.count(DISABLED).await, 1);
        assert_eq!(
            rig.count(&failing_since(since)).await,
            1,
            "failing since the same instant"
        );
    }
);

both!(a_success_in_between_starts_the_five_days_anew, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(500));
    let app = prepared(&rig, &receiver).await;
    exhaust(&mut rig, &app).await;
    assert_eq!(rig.count("endpoint where failing_since is null").await, 0);
    receiver.answer_next([Answer::ok()]);
    rig.accept(&app, "{}").await;
    rig.step().await;
    assert_eq!(rig.count("endpoint where failing_since is null").await, 1);
    rig.advance(5 * DAY);
    exhaust(&mut rig, &app).await;
    let since = rig.clock.now();
    assert_eq!(rig.count(DISABLED).await, 0);
    assert_eq!(rig.count(&failing_since(since)).await, 1);
});

both!(disabling_after_zero_seconds_means_never, async |db| {
    let shape = Shape {
        disable_after: None,
        ..Shape::default()
    };
    let mut rig = Rig::shaped(db, shape).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::status(500));
    let app = prepared(&rig, &receiver).await;
    for _ in 0..2 {
        exhaust(&mut rig, &app).await;
        rig.advance(400 * DAY);
    }
    assert_eq!(rig.count(DISABLED).await, 0);
});

both!(
    what_waits_for_a_disabled_endpoint_ends_as_failed_without_an_attempt,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        receiver.answer_next([Answer::status(500), Answer::status(410)]);
        let app = prepared(&rig, &receiver).await;
        let waiting = rig.accept(&app, "{}").await.message_id;
        rig.step().await;
        rig.accept(&app, "{}").await;
        rig.step().await;
        assert_eq!(rig.count(DISABLED).await, 1);
        assert_eq!(rig.state(&waiting).await, "waiting");
        rig.advance(7);
        rig.drain().await;
        assert_eq!(rig.state(&waiting).await, "failed");
        assert_eq!(rig.count("delivery").await, 0);
        assert_eq!((receiver.count(), rig.count("attempt").await), (2, 2));
    }
);

both!(
    an_endpoint_that_is_enabled_again_or_has_a_new_url_counts_as_healthy,
    async |db| {
        let shape = Shape {
            schedule: "",
            ..Shape::default()
        };
        let mut api = Api::shaped(db, shape, ApiState::BODY_DEADLINE).await;
        let receiver = Receiver::start().await;
        receiver.answer(Answer::status(500));
        let app = api.application("app").await;
        let path = format!("/app/{app}/endpoint");
        api.post(&path, json!({"url": receiver.url(), "uid": "e"}))
            .await
            .expect(201);
        let path = format!("{path}/e");
        for change in [json!({"disabled": false}), json!({"url": receiver.url_of("/new")})] {
            api.post(&format!("/app/{app}/msg"), json!({"eventType": "e", "payload": {}}))
                .await
                .expect(202);
            api.rig.step().await;
            assert_eq!(api.rig.count("endpoint where failing_since is not null").await, 1);
            api.patch(&path, json!({"description": "d"})).await.expect(200);
            assert_eq!(api.rig.count("endpoint where failing_since is not null").await, 1);
            api.patch(&path, json!({"disabled": change.get("disabled").is_some()}))
                .await
                .expect(200);
            assert_eq!(api.patch(&path, change).await.expect(200)["disabled"], false);
            assert_eq!(api.rig.count("endpoint where failing_since is not null").await, 0);
        }
    }
);

both!(a_410_of_a_url_that_was_changed_meanwhile_disables_nothing, async |db| {
    let mut rig = Rig::on(db).await;
    let (receiver, gate) = (Receiver::start().await, Gate::closed());
    receiver.answer(Answer::status(410).behind(&gate));
    let app = prepared(&rig, &receiver).await;
    rig.accept(&app, "{}").await;
    let running = rig.run();
    receiver.wait_for(1).await;
    rig.sql("update endpoint set url = 'http://127.0.0.1:9/'", []).await;
    gate.open();
    within(DEADLINE, "the outcome is settled", async || {
        (rig.count("attempt").await == 1).then_some(())
    })
    .await;
    running.stop(true).await;
    assert_eq!(rig.count(DISABLED).await, 0);
});

both!(
    a_last_failure_of_an_endpoint_that_has_worked_meanwhile_disables_nothing,
    async |db| {
        let shape = Shape {
            schedule: "",
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.answer_next([Answer::status(500), Answer::status(500).behind(&gate)]);
        let app = prepared(&rig, &receiver).await;
        rig.accept(&app, "{}").await;
        rig.step().await;
        rig.advance(5 * DAY);
        rig.step().await; // A heartbeat.
        rig.accept(&app, "{}").await;
        let running = rig.run();
        receiver.wait_for(2).await;
        // In the meantime a success has cleared the mark, and another failure has set it again.
        let anew = Timestamp(START.0 + 1);
        rig.sql("update endpoint set failing_since = $1", [anew.0.into()]).await;
        gate.open();
        within(DEADLINE, "the outcome is settled", async || {
            (rig.count("attempt").await == 2).then_some(())
        })
        .await;
        running.stop(true).await;
        assert_eq!(rig.count(DISABLED).await, 0);
        assert_eq!(rig.count(&failing_since(anew)).await, 1);
    }
);

both!(an_endpoint_shows_when_and_why_it_was_disabled, async |db| {
    let shape = Shape {
        schedule: "",
        ..Shape::default()
    };
    let mut api = Api::shaped(db, shape, ApiState::BODY_DEADLINE).await;
    let receiver = Receiver::start().await;
    let app = api.application("app").await;
    let list = format!("/app/{app}/endpoint");
    let made = api.post(&list, json!({"url": receiver.url(), "disabled": true})).await;
    let path = format!("{list}/{}", made.field("id"));
    assert_disabled(&made, "manual", api.rig.clock.now());
    assert_enabled(&api.patch(&path, json!({"disabled": false})).await);
    api.rig.advance(1);
    let by_hand = api.patch(&path, json!({"disabled": true})).await;
    assert_disabled(&by_hand, "manual", api.rig.clock.now());
    api.rig.advance(1);
    let again = api.put(&path, json!({"url": receiver.url(), "disabled": true})).await;
    assert_eq!(
        again.field("disabledAt"),
        by_hand.field("disabledAt"),
        "disabled already"
    );
    let listed = api.get("/endpoint-health?state=disabled").await.expect(200)["data"][0].clone();
    assert_eq!(listed["disabledAt"], by_hand.expect(200)["disabledAt"]);
    assert_eq!(
        (&listed["disabledReason"], &listed["state"]),
        (&json!("manual"), &json!("disabled"))
    );
    assert!(listed["appName"].is_string(), "{listed}");
    assert_enabled(&api.put(&path, json!({"url": receiver.url()})).await);
    receiver.answer_next([Answer::status(410), Answer::status(500), Answer::status(500)]);
    for (reason, rounds) in [("gone", 1), ("failing", 2)] {
        for _ in 0..rounds {
            api.rig.advance(5 * DAY);
            api.rig.step().await; // A heartbeat.
            let message = json!({"eventType": "e", "payload": {}});
            api.post(&format!("/app/{app}/msg"), message).await.expect(202);
            api.rig.step().await;
        }
        assert_disabled(&api.get(&path).await, reason, api.rig.clock.now());
        assert_enabled(&api.patch(&path, json!({"disabled": false})).await);
    }
});

#[track_caller]
fn assert_disabled(answer: &crate::api::Answer, reason: &str, at: Timestamp) {
    let said = (answer.field("disabledReason"), answer.field("disabledAt"));
    assert_eq!(said, (reason.to_owned(), at.to_rfc3339()));
    assert_eq!(
        answer.json["failingSince"].is_string(),
        reason != "manual",
        "{}",
        answer.text
    );
}

#[track_caller]
fn assert_enabled(answer: &crate::api::Answer) {
    for field in ["disabledAt", "disabledReason", "failingSince"] {
        assert!(
            answer.json[field].is_null() && answer.json.get(field).is_some(),
            "{}",
            answer.text
        );
    }
}

both!(
    an_endpoint_that_works_as_before_or_fails_as_before_costs_settle_no_statement,
    async |db| {
        let receiver = Receiver::start().await;
        receiver.answer_next([Answer::ok(), Answer::ok()]);
        receiver.answer(Answer::status(500));
        let ((), statements) = recorded(async || {
            let mut rig = Rig::on(db).await;
            let app = prepared(&rig, &receiver).await;
            for _ in 0..2 {
                rig.accept(&app, "{}").await;
                rig.step().await;
            }
            exhaust(&mut rig, &app).await;
            rig.kill().await;
        });
        let count = |part: &str| statements.iter().filter(|sql| sql.contains(part)).count();
        assert_eq!(receiver.count(), 5);
        assert_eq!(
            count("update endpoint set"),
            1,
            "the first exhausted schedule marks the endpoint as failing"
        );
        assert_eq!(
            count("notified_before"),
            1,
            "only the last failure looks for operational endpoints to notify"
        );
    }
);
