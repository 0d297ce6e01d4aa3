//! Background tasks: their list in the API, and their work beside all other work.

use std::time::Duration;

use postrider::domain::task::{TaskKind, Window};
use postrider::domain::timestamp::Timestamp;
use postrider::slots::Caps;
use postrider::store::background_task::{self, NewTask};
use serde_json::json;

use crate::api::Api;
use crate::harness::{Receiver, Rig, START, Shape, TestDatabase};

const BEFORE: Timestamp = Timestamp(START.0 - 3_600_000_000);

/// Inserts `count` messages of `app` that failed at `endpoint` a minute before the test began, with two attempts each.
async fn failed(rig: &Rig, app: &str, endpoint: &str, count: i64) {
    let ids = |prefix: postrider::domain::id::Prefix| {
        let first = prefix.first_id_at(Timestamp(START.0 - 60_000_000));
        first[..first.len() - 7].to_owned()
    };
    use postrider::domain::id::Prefix::{Attempt, Message};
    let numbers = "with recursive n(i) as (select 1000000 union all select i + 1 from n where i < 999999 + $3)";
    let message = format!("'{}' || i", ids(Message));
    let attempt = |letter| format!("'{}' || '{letter}' || i", &ids(Attempt)[..ids(Attempt).len() - 1]);
    let tries = |id: String| {
        format!(
            "insert into attempt (app_id, message_id, id, endpoint_id, url, trigger, delivered, response_status, response, \
             duration_ms, created_at) {numbers} select $1, {message}, {id}, $2, '', 0, false, 500, '', 1, 0 from n"
        )
    };
    for sql in [
        format!(
            "insert into message (app_id, id, event_type, created_at, expires_at) {numbers} \
             select $1, {message}, 'a' || substr($2, 1, 0), 0, 4000000000000000 from n"
        ),
        format!(
            "insert into message_content (app_id, message_id, body, expires_at) {numbers} \
             select $1, {message}, '{{\"n\":' || i || substr($2, 1, 0) || '}}', 4000000000000000 from n"
        ),
        format!(
            "insert into delivery_result (app_id, message_id, endpoint_id, state, updated_at) {numbers} \
             select $1, {message}, $2, 2, 0 from n"
        ),
        tries(attempt('0')),
        tries(attempt('1')),
    ] {
        rig.sql(&sql, [app.into(), endpoint.into(), count.into()]).await;
    }
}

/// Inserts a recover of all messages that failed at the endpoint in the last hour, and returns its id.
async fn recover(rig: &Rig, app: &str, endpoint: &str) -> String {
    let tx = rig.store.begin().await.unwrap();
    let window = Window {
        since: BEFORE,
        until: tx.now,
    };
    let new = NewTask {
        org_id: crate::harness::ORG,
        app_id: app,
        endpoint_id: endpoint,
        kind: TaskKind::Recover,
        window,
        filter: None,
    };
    let task = background_task::insert(&tx, new).await.unwrap();
    tx.commit().await.unwrap();
    task.id
}

/// Steps the rig and advances its clock until no task is running.
async fn end(rig: &mut Rig) {
    for _ in 0..1_000 {
        rig.drain().await;
        if rig.count("background_task where status = 0").await == 0 {
            return;
        }
        rig.advance(1);
    }
    panic!("the tasks do not end");
}

/// Returns how many messages have arrived. Asserts that none has arrived twice.
fn arrived_once(receiver: &Receiver) -> usize {
    let mut ids: Vec<_> = receiver
        .arrivals()
        .iter()
        .map(|arrival| arrival.message_id().to_owned())
        .collect();
    ids.sort();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all, "no message arrives twice");
    all
}

async fn rig_with_failures(db: &TestDatabase, shape: Shape, count: i64) -> (Rig, Receiver, String, String) {
    let rig = Rig::shaped(db, shape).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
    failed(&rig, &app, &endpoint, count).await;
    (rig, receiver, app, endpoint)
}

both!(a_recover_of_1000_failed_messages_queues_each_once, async |db| {
    let (mut rig, receiver, app, endpoint) = rig_with_failures(db, Shape::default(), 1_000).await;
    recover(&rig, &app, &endpoint).await;
    end(&mut rig).await;
    assert_eq!(arrived_once(&receiver), 1_000);
    assert_eq!(
        rig.count("background_task where status = 1 and queued = 1000 and looked = 2000")
            .await,
        1
    );
    assert_eq!(rig.count("attempt where trigger = 1").await, 1_000);
    assert_eq!(rig.count("delivery").await, 0);
});

both!(
    a_task_goes_on_in_the_next_process_where_a_killed_one_left_it,
    async |db| {
        let (mut rig, receiver, app, endpoint) = rig_with_failures(db, Shape::default(), 1_000).await;
        recover(&rig, &app, &endpoint).await;
        for _ in 0..3 {
            rig.step().await;
        }
        assert_eq!(rig.count("background_task where status = 0 and queued > 0").await, 1);
        let clock = rig.clock.clone();
        rig.kill().await;
        let mut rig = Rig::shaped(
            db,
            Shape {
                clock,
                ..Shape::default()
            },
        )
        .await;
        end(&mut rig).await;
        assert_eq!(arrived_once(&receiver), 1_000);
    }
);

postgres_only!(
    two_processes_that_work_on_one_task_queue_each_message_once,
    async |db| {
        let (mut first, receiver, app, endpoint) = rig_with_failures(db, Shape::default(), 1_000).await;
        let mut second = Rig::shaped(
            db,
            Shape {
                clock: first.clock.clone(),
                ..Shape::default()
            },
        )
        .await;
        recover(&first, &app, &endpoint).await;
        while first.count("background_task where status = 0").await > 0 {
            let (first_step, second_step) = tokio::join!(first.step(), second.step());
            if !first_step.worked && !second_step.worked && first_step.sent + second_step.sent == 0 {
                first.advance(1);
            }
        }
        tokio::join!(first.drain(), second.drain());
        first.drain().await;
        assert_eq!(arrived_once(&receiver), 1_000);
        assert_eq!(
            first.count("background_task where status = 1 and queued = 1000").await,
            1
        );
    }
);

both!(
    a_task_runs_ahead_of_the_sender_by_500_messages_at_most_and_delays_no_other_delivery,
    async |db| {
        let shape = Shape {
            caps: Caps {
                process: 8,
                endpoint: 2,
            },
            ..Shape::default()
        };
        let (mut rig, _receiver, app, endpoint) = rig_with_failures(db, shape, 2_000).await;
        let quick = Receiver::start().await;
        let other = rig.application("b").await;
        rig.endpoint(&other, "quick", &quick.url()).await;
        recover(&rig, &app, &endpoint).await;
        for turn in 1..=20 {
            rig.accept(&other, "{}").await;
            rig.step().await;
            rig.advance(1);
            assert_eq!(
                quick.count(),
                turn,
                "a first attempt of another application is made at once"
            );
            assert!(rig.count("delivery").await <= 500);
        }
        assert!(rig.count("delivery").await > 200);
    }
);

both!(tasks_take_turns, async |db| {
    let (mut rig, _receiver, app, endpoint) = rig_with_failures(db, Shape::default(), 1_000).await;
    let second = rig.endpoint(&app, "second", "http://127.0.0.1:9/").await;
    recover(&rig, &app, &endpoint).await;
    recover(&rig, &app, &second).await;
    rig.advance(1);
    rig.step().await;
    rig.step().await;
    assert_eq!(
        rig.count("background_task where status = 1").await,
        1,
        "the second task is empty and has ended"
    );
});

both!(a_step_that_fails_keeps_no_other_task_waiting, async |db| {
    let (mut rig, receiver, app, endpoint) = rig_with_failures(db, Shape::default(), 10).await;
    let other = rig.application("0").await;
    let broken = rig.endpoint(&other, "broken", &receiver.url()).await;
    failed(&rig, &other, &broken, 10).await;
    rig.refuse(db, "delivery", "endpoint_id = 'ep_broken'").await;
    recover(&rig, &other, &broken).await;
    rig.advance(1);
    recover(&rig, &app, &endpoint).await;
    rig.try_step().await.expect_err("the database refuses the rows");
    rig.drain().await;
    assert_eq!(receiver.count(), 10);
    assert_eq!(rig.count("background_task where status = 0 and queued = 0").await, 1);
});

both!(
    a_task_for_an_endpoint_that_is_disabled_or_deleted_fails_and_says_so,
    async |db| {
        let mut api = Api::on(db).await;
        let app = api.application("app").await;
        for (uid, change, says) in [
            (
                "off",
                "update endpoint set disabled = true where uid = 'off'",
                "the endpoint is disabled",
            ),
            (
                "gone",
                "update endpoint set deleted_at = 1 where uid = 'gone'",
                "the endpoint is deleted",
            ),
            (
                "app",
                "update application set deleted_at = 1",
                "the endpoint is deleted",
            ),
        ] {
            let endpoint = json!({"url": "http://127.0.0.1:9/", "uid": uid});
            api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
            let body = json!({"since": BEFORE.to_rfc3339()});
            let task = api.post(&format!("/app/{app}/endpoint/{uid}/recover"), body).await;
            task.expect(202);
            api.rig.sql(change, []).await;
            api.rig.step().await;
            let ended = api.get(&format!("/background-task/{}", task.field("id"))).await;
            let ended = ended.expect(200);
            assert_eq!(
                (&ended["status"], &ended["data"]["error"]),
                (&json!("failed"), &json!(says))
            );
        }
    }
);

/// Creates five tasks; the newest still runs. Returns the application and the tasks' ids, oldest first.
async fn five_tasks(api: &mut Api) -> (String, Vec<String>) {
    let app = api.application("app").await;
    let endpoint = json!({"url": "http://127.0.0.1:9/", "uid": "e"});
    api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
    let mut ids = Vec::new();
    for kind in ["recover", "replay-missing", "bulk-replay", "recover", "recover"] {
        let body = json!({"since": BEFORE.to_rfc3339()});
        let task = api.post(&format!("/app/{app}/endpoint/e/{kind}"), body).await;
        task.expect(202);
        if ids.len() < 4 {
            api.rig.drain().await;
        }
        ids.push(task.field("id"));
    }
    (app, ids)
}

both!(
    get_background_task_lists_by_limit_iterator_order_status_and_task,
    async |db| {
        let mut api = Api::on(db).await;
        let (_, ids) = five_tasks(&mut api).await;
        let newest_first: Vec<_> = ids.iter().rev().cloned().collect();
        let listed = async |query: &str| -> Vec<String> {
            let all = api.walk(&format!("/background-task{query}"), 2).await;
            all.iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(listed("").await, newest_first);
        assert_eq!(listed("?order=ascending").await, ids);
        assert_eq!(listed("?status=running").await, ids[4..]);
        assert_eq!(listed("?status=finished&order=ascending").await, ids[..4]);
        assert_eq!(listed("?status=failed").await, Vec::<String>::new());
        assert_eq!(listed("?task=endpoint.replay").await, ids[1..2]);
        assert_eq!(listed("?task=endpoint.bulk-replay").await, ids[2..3]);
        assert_eq!(
            listed("?task=endpoint.recover&status=finished&order=ascending").await,
            [&*ids[0], &*ids[3]]
        );
        assert_eq!(listed("?task=sdk.generate").await, Vec::<String>::new());
        for query in ["?status=done", "?task=other", "?order=up"] {
            api.get(&format!("/background-task{query}"))
                .await
                .refused(400, "generic_error");
        }
        api.get("/background-task?iterator=msg_x")
            .await
            .breaks_rule_at("query.iterator");
    }
);

both!(background_tasks_are_shown_to_their_organization_alone, async |db| {
    let mut api = Api::on(db).await;
    let (_, ids) = five_tasks(&mut api).await;
    let path = format!("/background-task/{}", ids[0]);
    let stranger = api.stranger().await;
    api.call(&stranger, "GET", &path, &[], "")
        .await
        .refused(404, "not_found");
    let list = api.call(&stranger, "GET", "/background-task", &[], "").await;
    assert_eq!(list.expect(200)["data"], json!([]));
    for unknown in ["qtask_unknown", "x", "%00"] {
        api.get(&format!("/background-task/{unknown}"))
            .await
            .refused(404, "not_found");
    }
});

both!(an_application_s_token_sees_the_tasks_of_its_application, async |db| {
    let mut api = Api::on(db).await;
    let (app, ids) = five_tasks(&mut api).await;
    let other = api.application("other").await;
    let (own, others) = (api.token_of(&app).await, api.token_of(&other).await);
    let listed = async |token: &str| {
        let list = api
            .call(token, "GET", "/background-task?order=ascending", &[], "")
            .await;
        let tasks = list.expect(200)["data"].as_array().unwrap().clone();
        tasks
            .iter()
            .map(|task| task["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&own).await, ids);
    assert_eq!(listed(&others).await, Vec::<String>::new());
    let path = format!("/background-task/{}", ids[4]);
    api.call(&own, "GET", &path, &[], "").await.expect(200);
    for (method, path) in [("GET", path.clone()), ("POST", format!("{path}/cancel"))] {
        api.call(&others, method, &path, &[], "")
            .await
            .refused(404, "not_found");
    }
    assert_eq!(api.get(&path).await.expect(200)["status"], "running");
});

both!(post_cancel_ends_a_task_which_has_then_failed, async |db| {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    let app = api.application("app").await;
    let endpoint = json!({"url": receiver.url(), "uid": "e"});
    let endpoint = api.post(&format!("/app/{app}/endpoint"), endpoint).await.field("id");
    failed(&api.rig, &app, &endpoint, 1_000).await;
    let limited = async |capability: &str| {
        let body = json!({"capabilities": [capability]});
        let link = api.post(&format!("/auth/app-portal-access/{app}"), body).await;
        link.field("token")
    };
    let (manages, sends) = (limited("ManageEndpoint").await, limited("CreateAttempts").await);
    let window = json!({"since": BEFORE.to_rfc3339()}).to_string();
    let recover = format!("/app/{app}/endpoint/e/recover");
    let task = api.call(&sends, "POST", &recover, &[], &window).await.field("id");
    let path = format!("/background-task/{task}/cancel");
    api.call(&manages, "POST", &path, &[], "")
        .await
        .refused(403, "insufficient access");
    api.rig.step().await;
    let headers = [("idempotency-key", "k")];
    let cancelled = api.call(&sends, "POST", &path, &headers, "").await;
    let shown = cancelled.expect(200);
    assert_eq!(
        (&shown["id"], &shown["status"], &shown["data"]["error"]),
        (&json!(task), &json!("failed"), &json!("it was cancelled"))
    );
    let queued = shown["data"]["messagesSent"].as_i64().unwrap();
    assert!((1..1_000).contains(&queued), "{queued}");
    let again = api.call(&sends, "POST", &path, &headers, "").await;
    assert_eq!(again.text, cancelled.text);
    end(&mut api.rig).await;
    api.rig.drain().await;
    assert_eq!(
        receiver.count(),
        queued as usize,
        "what was queued is sent, and nothing more"
    );
    let later = api.post(&path, json!({})).await;
    assert_eq!(later.expect(200), shown, "a task that has ended stays as it is");
});

both!(tasks_that_have_ended_are_kept_for_90_days, async |db| {
    let mut api = Api::on(db).await;
    five_tasks(&mut api).await;
    let day = Duration::from_secs(24 * 3600);
    for (days, kept) in [(89, 5), (91, 1)] {
        let tx = api.rig.store.begin().await.unwrap();
        let before = START.plus(day * days).minus(day * 90);
        background_task::prune(&tx, before, 500).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(api.rig.count("background_task").await, kept, "a running task is kept");
    }
});

both!(
    a_hundred_tasks_of_one_application_slow_another_s_no_more_than_one_does,
    async |db| {
        let (mut rig, _receiver, app, endpoint) = rig_with_failures(db, Shape::default(), 1_000).await;
        for _ in 0..100 {
            recover(&rig, &app, &endpoint).await;
        }
        rig.advance(1);
        for name in ["0", "b"] {
            let other = rig.application(name).await;
            let endpoint = rig.endpoint(&other, name, "http://127.0.0.1:9/").await;
            recover(&rig, &other, &endpoint).await;
        }
        rig.advance(1);
        for _ in 0..3 {
            rig.step().await;
        }
        assert_eq!(
            rig.count("background_task where status = 1 and app_id <> 'app_a'")
                .await,
            2,
            "each application has had a turn"
        );
    }
);

both!(a_task_without_room_checks_less_and_less_often, async |db| {
    let (mut rig, _receiver, app, endpoint) = rig_with_failures(db, Shape::default(), 1_000).await;
    crate::fairness::backlog(&rig, &app, &endpoint, 600, 0).await;
    rig.sql("update delivery set due_at = null", []).await;
    rig.sql("update endpoint set throttle_rate = 1", []).await;
    recover(&rig, &app, &endpoint).await;
    let mut checks = 0;
    for _ in 0..60 {
        let now = rig.clock.now().0;
        checks += rig.count(&format!("background_task where due_at <= {now}")).await;
        rig.step().await;
        rig.advance(1);
    }
    assert_eq!(rig.count("background_task where status = 0 and queued = 0").await, 1);
    assert!((5..=25).contains(&checks), "{checks} checks in a minute");
});
