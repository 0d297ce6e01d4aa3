//! The API while its caller or its database goes away.

use poem::Request;
use poem::http::Method;
use sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};
use serde_json::json;
use std::time::Duration;
use url::Url;

use crate::api::Api;
use crate::harness::{Answer, DEADLINE, Gate, Kind, Proxy, Receiver, Rig, Shape, TestDatabase, within};
use postrider::clock::Clock;
use postrider::error::Kind as ErrorKind;

/// Lets nobody else write until it is dropped.
async fn hold_writes(db: &TestDatabase, connection: &DatabaseConnection) -> sea_orm::DatabaseTransaction {
    let mut options = sea_orm::TransactionOptions::default();
    if db.kind() == Kind::Sqlite {
        options.sqlite_transaction_mode = Some(sea_orm::SqliteTransactionMode::Immediate);
    }
    let held = connection.begin_with_options(options).await.unwrap();
    if db.kind() == Kind::Postgres {
        held.execute_unprepared("lock table application in exclusive mode")
            .await
            .unwrap();
    }
    held
}

both!(a_write_that_has_begun_ends_though_its_caller_hangs_up, async |db| {
    let api = Api::on(db).await;
    let connection = db.connect().await;
    let held = hold_writes(db, &connection).await;
    let headers = [("idempotency-key", "k")];
    let body = json!({"name": "n"}).to_string();
    let request = api.call(&api.token, "POST", "/app", &headers, &body);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), request).await.is_err(),
        "it waits for its turn"
    );
    held.rollback().await.unwrap();
    within(DEADLINE, "the application is there", async || {
        (api.rig.count("application").await == 1).then_some(())
    })
    .await;
    let again = api.post_once("/app", "k", json!({"name": "n"})).await;
    assert_eq!(again.expect(201)["name"], "n");
    assert_eq!(api.rig.count("application").await, 1);
});

postgres_only!(an_absent_database_is_503_in_json_and_goes_by, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let shape = Shape {
        url: Some(proxy.url(db.url())),
        ..Shape::default()
    };
    let api = Api::shaped(db, shape, Duration::from_millis(500)).await;
    api.get("/app").await.expect(200);
    proxy.stall();
    let health = Request::builder().uri_str("/api/v1/health").finish();
    let body = json!({"name": "n"}).to_string();
    let (health, read, write) = tokio::join!(
        api.send(health),
        api.get("/app"),
        api.call(&api.token, "POST", "/app", &[("idempotency-key", "k")], &body),
    );
    for answer in [health, read, write] {
        answer.refused(503, "unavailable");
        assert_eq!(answer.headers["retry-after"], "1");
    }
    let ping = Request::builder()
        .method(Method::GET)
        .uri_str("/api/v1/health/ping")
        .finish();
    api.send(ping).await.expect(204);
    proxy.resume();
    let back = async || (api.get("/app").await.status == 200).then_some(());
    within(DEADLINE, "the database is back", back).await;
    let again = api.post_once("/app", "k", json!({"name": "n"})).await;
    assert_eq!(again.expect(201)["name"], "n");
    assert_eq!(api.rig.count("application").await, 1);
});

postgres_only!(
    a_database_host_that_vanishes_is_noticed_and_what_was_sent_is_settled_over_new_connections,
    async |db| {
        let proxy = Proxy::to(db.url()).await;
        let shape = Shape {
            clock: Clock::system(),
            url: Some(proxy.url(db.url())),
            answer_deadline: Duration::from_secs(2),
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.answer(Answer::ok().behind(&gate));
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        let running = rig.run();
        let sent = rig.accept(&app, "{}").await.message_id;
        receiver.wait_for(1).await;
        proxy.abandon();
        gate.open();
        within(DEADLINE, "the outcome is recorded", async || {
            (rig.state(&sent).await == "delivered").then_some(())
        })
        .await;
        let next = within(DEADLINE, "messages are accepted again", async || {
            rig.intake.accept(rig.message(&app, "{}")).await.ok()
        })
        .await;
        within(DEADLINE, "and delivered", async || {
            (rig.state(&next.message_id).await == "delivered").then_some(())
        })
        .await;
        assert_eq!(rig.count(&format!("attempt where message_id = '{sent}'")).await, 1);
        running.stop(true).await;
    }
);

// As while a password is replaced, or an address is not let in: connecting is refused, with a code that is no outage's.
postgres_only!(
    while_connecting_is_refused_no_outcome_is_lost_and_no_message_is_to_blame,
    async |db| {
        let mut rig = Rig::on(db).await;
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.answer(Answer::ok().behind(&gate));
        let app = rig.application("a").await;
        for endpoint in ["one", "two"] {
            rig.endpoint(&app, endpoint, &receiver.url()).await;
        }
        let running = rig.run();
        let sent = rig.accept(&app, "{}").await.message_id;
        receiver.wait_for(2).await;
        let beside = db.empty_sibling().await;
        let admin = beside.connect().await;
        let url = Url::parse(db.url()).expect("a database URL");
        let name = url.path().trim_start_matches('/');
        let allow = async |allowed: bool| {
            let sql = format!("alter database {name} allow_connections {allowed}");
            admin.execute_unprepared(&sql).await.expect(&sql);
        };
        allow(false).await;
        let sql = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and application_name = 'postrider'"
        );
        admin.execute_unprepared(&sql).await.expect(&sql);
        gate.open();
        within(DEADLINE, "the outcomes are known", async || {
            rig.handoff.is_idle().then_some(())
        })
        .await;
        // It takes as long as a sender is kept waiting, and the settler tries meanwhile.
        let refused = rig
            .intake
            .accept(rig.message(&app, "{}"))
            .await
            .expect_err("none is stored");
        assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused}");
        assert_eq!(rig.count("attempt").await, 0);
        allow(true).await;
        within(DEADLINE, "the outcomes are recorded", async || {
            let delivered = format!("delivery_result where message_id = '{sent}' and state = 0");
            (rig.count(&delivered).await == 2).then_some(())
        })
        .await;
        assert_eq!(rig.count(&format!("attempt where message_id = '{sent}'")).await, 2);
        running.stop(true).await;
        let requests = receiver.arrivals();
        let of_it = requests.iter().filter(|one| one.message_id() == sent);
        assert_eq!(of_it.count(), 2, "nothing is sent twice");
    }
);
