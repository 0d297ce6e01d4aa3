//! The harness itself: its proxy in front of Postgres.

use std::time::Duration;

use sea_orm::{ConnectionTrait, TransactionTrait};

use crate::harness::{DEADLINE, Proxy, connect, rows, within};

const SHORT: Duration = Duration::from_millis(200);

postgres_only!(a_lost_commit_has_committed, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let through = connect(&proxy.url(db.url()))
        .await
        .expect("the proxy lets a connection through");
    through
        .execute_unprepared("create table kept (id integer)")
        .await
        .expect("a table");
    let first = through.begin().await.expect("a transaction");
    first
        .execute_unprepared("insert into kept values (1)")
        .await
        .expect("a row");
    first.commit().await.expect("nothing is armed yet");

    proxy.lose_next_commit();
    let second = through.begin().await.expect("a transaction");
    second
        .execute_unprepared("insert into kept values (2)")
        .await
        .expect("a row");
    second.commit().await.expect_err("the answer is lost");
    proxy.commit_lost().await;
    assert_eq!(
        rows(&db.connect().await, "select id from kept").await.len(),
        2,
        "the server had committed"
    );

    let third = through.begin().await.expect("the pool connects again");
    third
        .execute_unprepared("insert into kept values (3)")
        .await
        .expect("a row");
    third.commit().await.expect("only one COMMIT is lost");
});

postgres_only!(a_stalled_connection_goes_on_where_it_stood, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let through = connect(&proxy.url(db.url()))
        .await
        .expect("the proxy lets a connection through");
    proxy.stall();
    let mut asking = Box::pin(rows(&through, "select 1"));
    assert!(
        tokio::time::timeout(SHORT, &mut asking).await.is_err(),
        "nothing passes during the stall"
    );
    proxy.resume();
    assert_eq!(asking.await.len(), 1);
    let inside = through.begin().await.expect("a transaction");
    proxy.cut();
    within(DEADLINE, "the connection is cut", async || {
        inside.execute_unprepared("select 1").await.err()
    })
    .await;
    drop(inside);
    assert_eq!(
        rows(&through, "select 1").await.len(),
        1,
        "a new connection is let through"
    );
});
