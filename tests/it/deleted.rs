//! Deleted endpoints and applications: their secrets are removed at once, and their rows once their history is gone.

use std::time::Duration;

use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::json;

use crate::api::Api;
use crate::harness::{DEADLINE, ORG, Receiver, Rig, SECRET, TestDatabase, plan, recorded, rows, within};

const DAY: u64 = 86_400;
const URL: &str = "http://127.0.0.1:9/";

/// Returns the stored secrets and headers of all endpoints, and how many of these are marked as deleted.
async fn stored(api: &Api) -> (Vec<(String, String)>, i64) {
    let found = rows(&api.rig.db, "select secrets, headers from endpoint order by id").await;
    let text = |row: &sea_orm::QueryResult, name| row.try_get::<String>("", name).expect("a text");
    let found = found.iter().map(|row| (text(row, "secrets"), text(row, "headers")));
    (
        found.collect(),
        api.rig.count("endpoint where deleted_at is not null").await,
    )
}

fn nothing() -> (String, String) {
    ("[]".to_owned(), "{}".to_owned())
}

/// Creates the application `a` with the endpoints `e` and `f`, which have custom headers.
async fn two_endpoints(db: &TestDatabase, url: &str) -> Api {
    let api = Api::on(db).await;
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    for uid in ["e", "f"] {
        let endpoint = json!({"url": url, "uid": uid, "secret": SECRET, "headers": {"X-Own": "topsecret"}});
        api.post("/app/a/endpoint", endpoint).await.expect(201);
    }
    api
}

both!(a_deleted_endpoint_keeps_neither_secrets_nor_headers, async |db| {
    let api = two_endpoints(db, URL).await;
    api.delete("/app/a/endpoint/e").await.expect(204);
    let (stored, deleted) = stored(&api).await;
    assert_eq!((&stored[0], deleted), (&nothing(), 1));
    assert!(
        stored[1].0.contains("sealed") && stored[1].1 != "{}",
        "the other endpoint keeps its own"
    );
});

both!(a_deleted_application_s_endpoints_are_deleted_with_it, async |db| {
    let api = two_endpoints(db, URL).await;
    let other = api.application("other").await;
    api.post(&format!("/app/{other}/endpoint"), json!({"url": URL}))
        .await
        .expect(201);
    api.delete("/app/a").await.expect(204);
    let (stored, deleted) = stored(&api).await;
    assert_eq!((&stored[..2], deleted), (&[nothing(), nothing()][..], 2));
    assert!(
        stored[2].0.contains("sealed"),
        "another application's endpoint keeps its secret"
    );
});

// An outcome locks the endpoint's row first and then, by a trigger, the application's row. The creation of an endpoint
// locks the application's row first.
postgres_only!(
    an_application_is_deleted_beside_an_outcome_and_with_an_endpoint_that_is_being_created,
    async |db| {
        let api = two_endpoints(db, URL).await;
        let connections = [db.connect().await, db.connect().await];
        let outcome = connections[0].begin().await.expect("a transaction");
        let lock = "select 1 from endpoint where uid = 'e' for no key update";
        outcome.execute_unprepared(lock).await.expect(lock);
        let mut delete = Box::pin(api.delete("/app/a"));
        assert!(
            tokio::time::timeout(Duration::ZERO, &mut delete).await.is_err(),
            "the deletion waits"
        );
        let waits = "pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        let blocked = within(DEADLINE, "the deletion waits for the endpoint", async || {
            (api.rig.count(waits).await == 1).then_some(())
        });
        tokio::select! {
            () = blocked => {}
            _ = &mut delete => panic!("the deletion did not wait for the endpoint"),
        }
        let creation = connections[1].begin().await.expect("a transaction");
        for sql in [
            "select 1 from application for update",
            "insert into endpoint (app_id, id, url, description, disabled, metadata, headers, secrets, created_at, updated_at) \
             select app_id, 'ep_new', url, description, disabled, metadata, headers, secrets, created_at, updated_at \
             from endpoint where uid = 'f'",
        ] {
            creation.execute_unprepared(sql).await.expect(sql);
        }
        creation.commit().await.expect("the endpoint is created");
        let fails = "update endpoint set failing_since = 1 where uid = 'e'";
        outcome.execute_unprepared(fails).await.expect(fails);
        outcome.commit().await.expect("the outcome is recorded");
        delete.await.expect(204);
        assert_eq!(stored(&api).await, (vec![nothing(); 3], 3));
    }
);

both!(a_deleted_endpoint_is_removed_when_its_history_is, async |db| {
    let receiver = Receiver::start().await;
    let mut api = two_endpoints(db, &receiver.url()).await;
    api.post("/app/a/msg", json!({"eventType": "t", "eventId": "m", "payload": {}}))
        .await
        .expect(202);
    api.rig.drain().await;
    api.delete("/app/a/endpoint/e").await.expect(204);
    api.rig.advance(180 * DAY);
    api.rig.prune().await;
    assert_eq!(api.rig.count("endpoint").await, 2);
    api.rig.advance(1);
    api.rig.prune().await;
    assert_eq!(api.rig.count("endpoint").await, 1);
    api.get("/app/a/endpoint/f").await.expect(200);
    assert_eq!(api.rig.count("application").await, 1);
});

both!(
    a_deleted_application_is_removed_when_nothing_is_left_of_it,
    async |db| {
        let receiver = Receiver::start().await;
        let mut api = two_endpoints(db, &receiver.url()).await;
        let other = api.application("other").await;
        api.post("/app/a/msg", json!({"eventType": "t", "payload": {}}))
            .await
            .expect(202);
        api.rig.drain().await;
        api.delete("/app/a").await.expect(204);
        // A row that is younger than the deletion comes from a late outcome. Only the application's id leads to it.
        let late = "insert into delivery_result (app_id, message_id, endpoint_id, state, updated_at) \
                    select id, 'msg_3', 'ep', 2, 0 from application where deleted_at is not null";
        api.rig.sql(late, []).await;
        api.rig.advance(180 * DAY + 1);
        api.rig.prune().await;
        for table in ["message", "message_content", "attempt", "endpoint"] {
            assert_eq!(api.rig.count(table).await, 0, "{table}");
        }
        assert_eq!(api.rig.count("application where deleted_at is not null").await, 1);
        api.rig.sql("delete from delivery_result", []).await;
        api.rig.prune().await;
        assert_eq!(api.rig.count("application where deleted_at is not null").await, 0);
        api.get(&format!("/app/{other}")).await.expect(200);
    }
);

/// Inserts `count` deleted endpoints of an application.
async fn delete_many(rig: &Rig, app: &str, count: i64) {
    rig.endpoints(app, count, URL).await;
    rig.sql("update endpoint set deleted_at = 1 where app_id = $1", [app.into()])
        .await;
}

both!(
    many_deleted_rows_are_removed_in_chunks_and_living_ones_stay,
    async |db| {
        let mut rig = Rig::on(db).await;
        let app = rig.application("a").await;
        delete_many(&rig, &app, 1_200).await;
        rig.endpoint(&app, "living", URL).await;
        let sql = "insert into application (id, org_id, name, metadata, created_at, updated_at, deleted_at) \
               select 'app_of_' || id, $1, 'n', '{}', 0, 0, 1 from endpoint where deleted_at is not null";
        assert_eq!(rig.sql(sql, [ORG.into()]).await, 1_200);
        rig.prune().await;
        assert_eq!((rig.count("endpoint").await, rig.count("application").await), (1, 1));
    }
);

// A customer may create and delete endpoints in a loop, which must not slow its own requests or those of others.
both!(deleted_endpoints_are_not_read_with_the_living, async |db| {
    let app = {
        let rig = Rig::on(db).await;
        let app = rig.application("a").await;
        delete_many(&rig, &app, 100_000).await;
        rig.endpoint(&app, "living", URL).await;
        rig.db.execute_unprepared("analyze endpoint").await.expect("statistics");
        rig.kill().await;
        app
    };
    let ((), statements) = recorded(async || {
        let api = Api::on(db).await;
        let owner = "update application set org_id = $1 where id = $2";
        api.rig
            .sql(owner, [api.org_id.as_str().into(), app.as_str().into()])
            .await;
        let message = json!({"eventType": "t", "payload": {}});
        api.post(&format!("/app/{app}/msg"), message.clone()).await.expect(202);
        api.post("/app/a-uid/msg", message).await.expect(202);
        let list = api.get(&format!("/app/{app}/endpoint?limit=5")).await;
        assert_eq!(list.expect(200)["data"].as_array().map(Vec::len), Some(1));
        // Counts the application's endpoints and looks for operational endpoints to notify.
        api.post(&format!("/app/{app}/endpoint"), json!({"url": URL}))
            .await
            .expect(201);
        api.delete(&format!("/app/{app}")).await.expect(204);
    });
    let kinds = [
        "left join endpoint e",
        "COUNT(*)",
        " LIMIT ",
        "\"disabled\" =",
        "UPDATE ",
    ];
    let connection = db.connect().await;
    for kind in kinds {
        let reads_many = |sql: &&String| sql.contains("endpoint") && !sql.contains("\"id\" =") && sql.contains(kind);
        let of_kind: Vec<_> = statements.iter().filter(reads_many).collect();
        assert!(!of_kind.is_empty(), "{kind}: {statements:#?}");
        for sql in of_kind {
            let steps = plan(&connection, sql).await;
            assert!(
                steps.iter().any(|step| step.contains("endpoint_living")),
                "{sql}\n{}",
                steps.join("\n")
            );
        }
    }
});
