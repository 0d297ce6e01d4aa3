//! `GET /endpoint-health`: endpoints that fail, are disabled or answer slowly.

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{Answer, Receiver, TestDatabase};

/// Creates the application `a` with the endpoints e0 to e4 at the receiver.
async fn five(db: &TestDatabase) -> (Api, Receiver) {
    let (api, receiver) = (Api::on(db).await, Receiver::start().await);
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    for number in 0..5 {
        let endpoint = json!({"url": receiver.url(), "uid": format!("e{number}")});
        api.post("/app/a/endpoint", endpoint).await.expect(201);
        api.rig.advance(1);
    }
    (api, receiver)
}

/// Returns the uids of the endpoints in a list.
fn uids(body: &Value) -> Vec<&str> {
    let rows = body["data"].as_array().unwrap();
    rows.iter().map(|row| row["endpointUid"].as_str().unwrap()).collect()
}

async fn fails_since(api: &Api, uid: &str, micros: i64) {
    let sql = "update endpoint set failing_since = $1 where uid = $2";
    api.rig.sql(sql, [micros.into(), uid.into()]).await;
}

/// Adds sums of an endpoint's answers in the present hour: `fast` ones and `slow` ones.
async fn answers(api: &Api, uid: &str, hour: i64, fast: i32, slow: i32) {
    let sql = "insert into endpoint_hour (app_id, endpoint_id, hour, source, delivered, ms_100, ms_7000) \
               select app_id, id, $1, 1, $2, $3, $4 from endpoint where uid = $5";
    let slow_or_null = (slow > 0).then_some(slow);
    let values = [
        hour.into(),
        (fast + slow).into(),
        fast.into(),
        slow_or_null.into(),
        uid.into(),
    ];
    api.rig.sql(sql, values).await;
}

both!(
    endpoint_health_lists_failing_disabled_and_slow_endpoints_newest_first,
    async |db| {
        let (mut api, receiver) = five(db).await;
        assert_eq!(api.get("/endpoint-health").await.expect(200)["data"], json!([]));
        receiver.answer(Answer::status(503));
        let message = json!({"eventType": "t", "payload": {}});
        api.post("/app/a/msg", message).await.expect(202);
        api.rig.drain().await;
        fails_since(&api, "e1", 1_000_000).await;
        fails_since(&api, "e3", 3_000_000).await;
        fails_since(&api, "e2", 2_000_000).await;
        let failing = api.get("/endpoint-health").await;
        assert_eq!(uids(failing.expect(200)), ["e3", "e2", "e1"]);
        let row = &failing.json["data"][0];
        assert_eq!(row["state"], "failing");
        assert_eq!(row["appUid"], "a");
        assert_eq!(row["url"], receiver.url());
        assert_eq!(row["failingSince"], "1970-01-01T00:00:03.000000Z");
        assert_eq!(
            (&row["lastStatusCode"], &row["lastError"]),
            (&json!(503), &json!("it answered 503"))
        );
        assert_eq!(row["waiting"], 1);

        for uid in ["e3", "e0"] {
            api.rig.advance(1);
            api.patch(&format!("/app/a/endpoint/{uid}"), json!({"disabled": true}))
                .await
                .expect(200);
        }
        assert_eq!(
            uids(api.get("/endpoint-health?state=failing").await.expect(200)),
            ["e2", "e1"]
        );
        assert_eq!(
            uids(api.get("/endpoint-health?state=disabled").await.expect(200)),
            ["e0", "e3"]
        );
        api.delete("/app/a/endpoint/e0").await.expect(204);
        assert_eq!(
            uids(api.get("/endpoint-health?state=disabled").await.expect(200)),
            ["e3"]
        );

        let hour = crate::harness::START.0;
        let past = hour - 2 * 3_600_000_000;
        answers(&api, "e1", hour, 94, 6).await;
        answers(&api, "e2", hour, 95, 5).await;
        answers(&api, "e3", past, 0, 6).await;
        answers(&api, "e4", hour - 3_600_000_000, 1, 2).await;
        let slow = api.get("/endpoint-health?state=slow").await;
        assert_eq!(uids(slow.expect(200)), ["e4", "e1"]);
        assert_eq!(slow.json["data"][0]["state"], "slow");
    }
);

both!(endpoint_health_comes_in_pages, async |db| {
    let (api, _receiver) = five(db).await;
    let hour = crate::harness::START.0;
    for number in 0..5 {
        let uid = format!("e{number}");
        // Two at the same instant.
        fails_since(&api, &uid, 1_000_000 + number / 2).await;
        answers(&api, &uid, hour, 0, 1).await;
    }
    for state in ["failing", "slow"] {
        let path = format!("/endpoint-health?state={state}");
        let all = api.get(&path).await;
        let all = uids(all.expect(200)).into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(all.len(), 5);
        let first = api.get(&format!("{path}&limit=2")).await.json;
        let next = first["iterator"].as_str().unwrap();
        let second = api.get(&format!("{path}&limit=2&iterator={next}")).await.json;
        assert_eq!(
            (uids(&first), uids(&second)),
            (vec![&*all[0], &*all[1]], vec![&*all[2], &*all[3]])
        );
        assert_eq!((&first["done"], &second["done"]), (&json!(false), &json!(false)));
        let next = second["iterator"].as_str().unwrap();
        let last = api.get(&format!("{path}&limit=2&iterator={next}")).await.json;
        assert_eq!((uids(&last), &last["done"]), (vec![&*all[4]], &json!(true)));
        let back = second["prevIterator"].as_str().unwrap();
        let again = api.get(&format!("{path}&limit=2&iterator={back}")).await.json;
        assert_eq!(again["data"], first["data"]);
    }
    for iterator in ["ep_x", "1.app_x", "x.app_x.ep_x", "1.ep_x.app_x", "-"] {
        let answer = api.get(&format!("/endpoint-health?iterator={iterator}")).await;
        answer.breaks_rule_at("query.iterator");
    }
    api.get("/endpoint-health?state=ill")
        .await
        .refused(400, "generic_error");
});

both!(endpoint_health_shows_an_organization_its_own_alone, async |db| {
    let (api, _receiver) = five(db).await;
    fails_since(&api, "e1", 1).await;
    answers(&api, "e1", crate::harness::START.0, 0, 1).await;
    api.patch("/app/a/endpoint/e2", json!({"disabled": true}))
        .await
        .expect(200);
    let stranger = api.stranger().await;
    for state in ["failing", "disabled", "slow"] {
        let path = format!("/endpoint-health?state={state}");
        assert_eq!(api.get(&path).await.expect(200)["data"].as_array().unwrap().len(), 1);
        let theirs = api.call(&stranger, "GET", &path, &[], "").await;
        assert_eq!(theirs.expect(200)["data"], json!([]), "{state}");
        let narrow = api.token_of("a").await;
        api.call(&narrow, "GET", &path, &[], "")
            .await
            .refused(403, "insufficient access");
    }
});

both!(
    the_last_success_is_in_the_list_and_outlives_the_merging_of_hours,
    async |db| {
        let (mut api, receiver) = five(db).await;
        let message = json!({"eventType": "t", "payload": {}});
        let last_success = async |api: &Api| {
            let list = api.get("/endpoint-health").await;
            let rows = list.expect(200)["data"].as_array().unwrap().clone();
            rows.into_iter()
                .map(|row| row["lastSuccessAt"].clone())
                .collect::<Vec<_>>()
        };
        let begun = api.rig.clock.now();
        for number in [1, 2] {
            api.post("/app/a/msg", message.clone()).await.expect(202);
            api.rig.drain().await;
            if number == 1 {
                api.rig.advance(3_600);
            }
        }
        fails_since(&api, "e1", begun.0).await;
        assert_eq!(last_success(&api).await, [Value::Null], "the sums are not written");
        api.rig.flush().await;
        let expected = json!(api.rig.clock.now().to_rfc3339());
        assert_eq!(last_success(&api).await[0], expected);
        receiver.answer(Answer::status(500));
        for _ in 0..3 {
            api.rig.advance(10 * 3_600);
            api.post("/app/a/msg", message.clone()).await.expect(202);
            api.rig.drain().await;
            api.rig.flush().await;
            api.rig.prune().await;
        }
        assert_eq!(
            api.rig
                .count("endpoint_hour where source = 0 and last_success is not null")
                .await,
            10
        );
        assert_eq!(last_success(&api).await[0], expected);
        api.rig.advance(40 * 24 * 3_600);
        api.rig.prune().await;
        assert!(
            api.rig
                .count("endpoint_hour where source = -1 and last_success is not null")
                .await
                >= 5
        );
        assert_eq!(last_success(&api).await[0], expected);
    }
);
