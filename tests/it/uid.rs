//! A uid that several requests take at the same time goes to one of them, and the others are refused with 409.

use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::json;

use crate::api::Api;
use crate::harness::{DEADLINE, within};

/// Waits until this many transactions wait for a lock.
async fn waiting(api: &Api, count: i64) {
    let waits = "pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    within(DEADLINE, "transactions wait", async || {
        (api.rig.count(waits).await == count).then_some(())
    })
    .await;
}

// The creation locks the application's row and then waits for the uid, which the change holds while it waits for that
// row. On SQLite writes come one after the other.
postgres_only!(
    a_uid_that_a_creation_and_a_change_take_at_once_goes_to_one_of_them,
    async |db| {
        let api = Api::on(db).await;
        api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
        for kind in ["endpoint", "poller"] {
            let list = format!("/app/a/{kind}");
            let body = |uid: &str| match kind {
                "endpoint" => json!({"url": "https://receiver.example/", "uid": uid}),
                _ => json!({ "uid": uid }),
            };
            for (uid, is_put) in [("x", false), ("y", true)] {
                let known = api.post(&list, body(&format!("old-{uid}"))).await.field("id");
                let held = db.connect().await.begin().await.expect("a transaction");
                let lock = "select 1 from application for update";
                held.execute_unprepared(lock).await.expect(lock);
                let creation = api.post(&list, body(uid));
                let change = async {
                    waiting(&api, 1).await;
                    let path = format!("{list}/{known}");
                    match is_put {
                        true => api.put(&path, body(uid)).await,
                        false => api.patch(&path, json!({ "uid": uid })).await,
                    }
                };
                let release = async {
                    waiting(&api, 2).await;
                    held.commit().await.expect("the row is free");
                };
                let (creation, change, ()) = tokio::join!(creation, change, release);
                match creation.status.as_u16() {
                    201 => change.refused(409, "conflict"),
                    _ => {
                        creation.refused(409, "conflict");
                        change.expect(200);
                    }
                }
                let rows = api.walk(&list, 250).await;
                let named = rows.iter().filter(|row| row["uid"] == uid).count();
                assert_eq!(named, 1, "{kind}");
            }
        }
        let deadlocks = "pg_stat_database where datname = current_database() and deadlocks > 0";
        within(DEADLINE, "there was a deadlock", async || {
            (api.rig.count(deadlocks).await == 1).then_some(())
        })
        .await;
    }
);
