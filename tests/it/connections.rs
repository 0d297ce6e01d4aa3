//! The pools of connections: requests of the API that wait or read for long delay neither the queue nor other
//! customers. Also what happens to connections that broke while they were idle, to sessions that the server has made
//! read-only, and to work that a timeout ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use postrider::clock::Clock;
use postrider::config::USUAL_CONNECTIONS;
use postrider::error::Result;
use postrider::store::intake::Accepted;
use sea_orm::{ConnectionTrait, DatabaseTransaction, TransactionTrait};
use serde_json::json;

use crate::api::{ADMIN, Answer, Api};
use crate::harness::{DEADLINE, Kind, Proxy, Receiver, Rig, Shape, TestDatabase, rows, within};
use crate::intake::{lock, wait_for_blocked};

/// The number of requests at once: more than the API has connections.
const MANY: usize = 24;
/// The greatest age of a heartbeat that is not delayed: eight times its period.
const BEATS: Duration = Duration::from_secs(2);

/// Returns an API whose dispatcher runs by itself. Each application `NAME` has one endpoint `NAME` at the receiver.
async fn serving(db: &TestDatabase, receiver: &Receiver, applications: [&str; 2]) -> Api {
    let shape = Shape {
        clock: Clock::system(),
        ..Shape::default()
    };
    let mut api = Api::shaped(db, shape, Duration::from_secs(30)).await;
    for name in applications {
        api.post("/app", json!({"name": name, "uid": name})).await.expect(201);
        let endpoint = json!({"url": receiver.url(), "uid": name});
        api.post(&format!("/app/{name}/endpoint"), endpoint).await.expect(201);
    }
    api.rig.run();
    api
}

/// Sends a message to the application and waits until it is delivered and settled.
async fn is_delivered(api: &Api, app: &str) {
    let message = json!({"eventType": "a", "payload": {}});
    let accepted = api.post(&format!("/app/{app}/msg"), message).await;
    accepted.expect(202);
    let id = accepted.field("id");
    within(DEADLINE, "the message is delivered", async || {
        (api.rig.state(&id).await == "delivered").then_some(())
    })
    .await;
}

/// Waits until the API has at least `least` connections in use.
async fn wait_for_used(rig: &Rig, least: usize) {
    within(DEADLINE, "the API's connections are in use", async || {
        let pools = rig.store.connections();
        let api = pools.iter().find(|pool| pool.pool == "api").expect("the API's pool");
        (api.in_use >= least).then_some(())
    })
    .await;
}

fn beats(api: &Api) -> bool {
    api.rig.store.beat_age().is_some_and(|age| age < BEATS)
}

/// Repeats `request`, in many tasks at once, while `others` runs. Asserts that each is answered with 503.
async fn beside(request: impl AsyncFn() -> Answer, others: impl Future<Output = ()>) {
    let ended = AtomicBool::new(false);
    let many = join_all((0..MANY).map(|_| async {
        let mut answers = 0;
        while !ended.load(Ordering::Relaxed) {
            let answer = request().await;
            answer.refused(503, "unavailable");
            assert_eq!(answer.headers["retry-after"], "1");
            answers += 1;
        }
        answers
    }));
    let others = async {
        others.await;
        ended.store(true, Ordering::Relaxed);
    };
    let (answers, ()) = tokio::join!(many, others);
    assert!(answers.iter().sum::<usize>() > 0, "requests were sent");
}

postgres_only!(
    a_locked_row_ends_the_writes_that_want_it_and_stops_nothing_else,
    async |db| {
        let receiver = Receiver::start().await;
        let api = serving(db, &receiver, ["held", "other"]).await;
        let stranger = api.stranger().await;
        let connection = db.connect().await;
        let held = connection.begin().await.unwrap();
        held.execute_unprepared("select 1 from application where uid = 'held' for update")
            .await
            .unwrap();
        let change = async || {
            api.patch("/app/held/endpoint/held", json!({"description": "new"}))
                .await
        };
        let others = async {
            wait_for_used(&api.rig, 2).await;
            for _ in 0..3 {
                is_delivered(&api, "other").await;
                let read = api.call(&stranger, "GET", "/app", &[], "").await;
                read.expect(200);
                let write = api.call(&stranger, "POST", "/app", &[], r#"{"name": "n"}"#).await;
                write.expect(201);
            }
            assert!(beats(&api), "the heartbeat goes on");
            let ours =
                "select 1 from pg_stat_activity where datname = current_database() and application_name = 'postrider'";
            let sessions = rows(&api.rig.db, ours).await.len();
            assert!(sessions <= USUAL_CONNECTIONS as usize, "{sessions} connections");
        };
        beside(change, others).await;
        held.rollback().await.unwrap();
        change().await.expect(200);
    }
);

/// Makes every read of event types run without end; on Postgres until the returned transaction ends.
async fn never_ends(db: &TestDatabase, rig: &Rig) -> Option<DatabaseTransaction> {
    match db.kind() {
        Kind::Postgres => Some(lock(db, "event_type").await),
        Kind::Sqlite => {
            for sql in [
                "alter table event_type rename to held",
                // SQLite keeps the order of a cross join: the endless part runs first, even if there is no event type.
                "create view event_type as select held.* from (with recursive n(i) as \
                 (select 1 union all select i + 1 from n) select count(*) as c from n) as endless \
                 cross join held where endless.c < 0",
            ] {
                rig.db.execute_unprepared(sql).await.expect(sql);
            }
            None
        }
    }
}

both!(
    reads_of_one_customer_that_never_end_are_ended_and_keep_no_other_waiting,
    async |db| {
        let receiver = Receiver::start().await;
        let api = serving(db, &receiver, ["a", "b"]).await;
        let stranger = api.stranger().await;
        let _held = never_ends(db, &api.rig).await;
        let others = async {
            wait_for_used(&api.rig, 2).await;
            for app in ["a", "b"] {
                is_delivered(&api, app).await;
                let read = api.call(&stranger, "GET", "/app", &[], "").await;
                read.expect(200);
                let write = api.call(&stranger, "POST", "/app", &[], r#"{"name": "n"}"#).await;
                write.expect(201);
            }
            assert!(db.kind() == Kind::Sqlite || beats(&api), "the heartbeat goes on");
        };
        beside(async || api.get("/event-type").await, others).await;
        within(DEADLINE, "their statements have ended", async || {
            let pools = api.rig.store.connections();
            pools
                .iter()
                .all(|pool| pool.pool != "api" || pool.in_use == 0)
                .then_some(())
        })
        .await;
    }
);

postgres_only!(
    unknown_tokens_are_looked_up_one_at_a_time_and_delay_no_known_token,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("a").await;
        let stranger = api.stranger().await;
        api.call(&stranger, "GET", "/app", &[], "").await.expect(200);
        // From now on the remembered token must be looked up again.
        api.rig.advance(5);
        let held = lock(db, "api_token").await;
        let names: Vec<String> = (0..600).map(|number| format!("made up {number}")).collect();
        let mut made_up = Box::pin(join_all(
            names.iter().map(|name| api.call(name, "GET", "/app", &[], "")),
        ));
        let known = async {
            wait_for_blocked(&api.rig, 1).await;
            let read = api.call(&stranger, "GET", "/app", &[], "");
            let unlock = async {
                wait_for_blocked(&api.rig, 2).await;
                let waiting = "pg_locks where not granted";
                assert_eq!(api.rig.count(waiting).await, 2, "one unknown token and the known one");
                let message = r#"{"eventType": "a", "payload": {}}"#;
                let accepted = api.call(ADMIN, "POST", &format!("/app/{app}/msg"), &[], message).await;
                accepted.expect(202);
                held.commit().await.unwrap();
            };
            let (read, ()) = tokio::join!(read, unlock);
            read.expect(200);
        };
        let (answers, ()) = tokio::join!(&mut made_up, known);
        assert!(
            answers
                .iter()
                .all(|answer| answer.status == 401 || answer.status == 503)
        );
        let refused = answers
            .iter()
            .filter(|answer| answer.text.contains("too many unknown tokens"));
        assert_eq!(refused.count(), 600 - 512, "at most 512 unknown tokens wait");
    }
);

postgres_only!(
    sessions_that_can_only_read_are_replaced_once_the_server_takes_writes_again,
    async |db| {
        let receiver = Receiver::start().await;
        let api = serving(db, &receiver, ["a", "b"]).await;
        is_delivered(&api, "a").await;
        assert_eq!(api.fetch("/readyz", &[]).await.status, 200);
        let mode = async |mode: &str| {
            let set = format!("do $$ begin execute format('alter database %I {mode}', current_database()); end $$");
            api.rig.sql(&set, []).await;
        };
        mode("set default_transaction_read_only = on").await;
        let ours = "from pg_stat_activity where datname = current_database() and application_name = 'postrider'";
        rows(&api.rig.db, &format!("select pg_terminate_backend(pid) {ours}")).await;
        within(DEADLINE, "a process that cannot write is not ready", async || {
            let ready = api.fetch("/readyz", &[]).await;
            (ready.status == 503 && ready.text().contains("cannot write")).then_some(())
        })
        .await;
        // The sessions are healthy and stay open, and they keep the old setting.
        mode("reset default_transaction_read_only").await;
        within(Duration::from_secs(10), "a message is accepted", async || {
            let message = json!({"eventType": "a", "payload": {}});
            (api.post("/app/a/msg", message).await.status == 202).then_some(())
        })
        .await;
        is_delivered(&api, "a").await;
        let change = async || (api.patch("/app/b", json!({"name": "new"})).await.status == 200).then_some(());
        within(Duration::from_secs(10), "the API writes", change).await;
        let ready = async || (api.fetch("/readyz", &[]).await.status == 200).then_some(());
        within(Duration::from_secs(10), "the process is ready again", ready).await;
    }
);

// Broken connections are found when they are next used, which may be long after the outage.
postgres_only!(
    after_connections_broke_at_most_one_request_is_refused_however_many_were_idle,
    async |db| {
        let proxy = Proxy::to(db.url()).await;
        let shape = Shape {
            url: Some(proxy.url(db.url())),
            ..Shape::default()
        };
        let api = Api::shaped(db, shape, Duration::from_secs(30)).await;
        join_all((0..MANY).map(|_| api.get("/app"))).await;
        let cut_at = Clock::system().now().0;
        proxy.cut();
        let old = format!(
            "pg_stat_activity where application_name = 'postrider' and datname = current_database() \
             and backend_start < to_timestamp({cut_at} / 1000000.0)"
        );
        within(DEADLINE, "all connections of before are cut", async || {
            (api.rig.count(&old).await == 0).then_some(())
        })
        .await;
        let mut refused = Vec::new();
        for _ in 0..MANY {
            let answer = api.get("/app").await;
            refused.extend((answer.status != 200).then_some(answer.text));
        }
        assert!(refused.len() <= 1, "these requests were refused: {refused:#?}");
    }
);

// This is how it looks when an operator has set `lock_timeout` or `transaction_timeout` for the role.
postgres_only!(
    work_that_an_operators_timeout_ends_is_tried_again_and_nothing_is_refused_or_lost,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        let running = rig.run();
        for sql in [
            "create sequence tries",
            "create function not_now() returns trigger language plpgsql as $$ begin \
             if nextval('tries') <= 5 then raise 'not now' using errcode = tg_argv[0]; end if; return new; end $$",
        ] {
            rig.sql(sql, []).await;
        }
        let mut sent = 0;
        for code in ["55P03", "25P04"] {
            for table in ["message", "attempt"] {
                rig.sql("alter sequence tries restart", []).await;
                let trigger = format!(
                    "create trigger not_now before insert on {table} for each row execute function not_now('{code}')"
                );
                rig.sql(&trigger, []).await;
                let accepted: Result<Accepted> = rig.intake.accept(rig.message(&app, "{}")).await;
                let id = accepted.expect("the message is accepted after some tries").message_id;
                within(DEADLINE, "the outcome is recorded", async || {
                    (rig.state(&id).await == "delivered").then_some(())
                })
                .await;
                assert_eq!(rig.count(&format!("attempt where message_id = '{id}'")).await, 1);
                rig.sql(&format!("drop trigger not_now on {table}"), []).await;
                sent += 1;
            }
        }
        running.stop(true).await;
        assert_eq!(receiver.count(), sent, "nothing is sent twice");
    }
);
