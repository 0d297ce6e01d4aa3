//! SQLite's shared transaction: a write that fails, or whose caller leaves, affects no other write.

use std::pin::pin;

use futures_util::future::join_all;
use postrider::clock::Clock;
use postrider::error::Result;
use postrider::store::{Store, organization};
use sea_orm::{ConnectionTrait, DatabaseConnection};

use crate::harness::{DEADLINE, rows, within};

/// Polls `future` up to `times` times while other tasks run, then drops it, as if its caller had left.
async fn leave_after(times: usize, future: impl Future) {
    let mut future = pin!(future);
    for _ in 0..times {
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context)));
        if polled.await.is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn write(store: &Store, name: &str) -> Result<()> {
    let tx = store.begin().await?;
    organization::insert(&tx, name).await?;
    tx.commit().await
}

async fn is_there(db: &DatabaseConnection, name: &str) -> bool {
    !rows(db, &format!("select 1 from organization where name = '{name}'"))
        .await
        .is_empty()
}

/// Waits until another process, such as an operator's command, can write to the file.
async fn nothing_is_held(db: &DatabaseConnection) {
    db.execute_unprepared("pragma busy_timeout = 1")
        .await
        .expect("a setting");
    within(DEADLINE, "the file is free for others to write", async || {
        db.execute_unprepared("delete from organization where name = 'nobody'")
            .await
            .ok()
    })
    .await;
}

sqlite_only!(
    a_commit_whose_caller_left_is_durable_without_any_other_write,
    async |db| {
        let store = db.open(Clock::system()).await;
        let beside = db.connect().await;
        for times in 1..6 {
            let name = format!("left after {times}");
            let tx = store.begin().await.expect("a turn");
            organization::insert(&tx, &name).await.expect("a row");
            leave_after(times, tx.commit()).await;
            within(DEADLINE, "the write is committed", async || {
                is_there(&beside, &name).await.then_some(())
            })
            .await;
            nothing_is_held(&beside).await;
        }
    }
);

sqlite_only!(a_write_whose_caller_left_delays_no_other_write, async |db| {
    let store = db.open(Clock::system()).await;
    let beside = db.connect().await;
    for times in 1..40 {
        let (left, with_others) = (format!("left {times}"), format!("left with others {times}"));
        leave_after(times, write(&store, &left)).await;
        nothing_is_held(&beside).await;
        let writes = (0..4).map(async |n| (n, write(&store, &format!("stays {times} {n}")).await));
        let ((), written) = tokio::join!(leave_after(times, write(&store, &with_others)), join_all(writes));
        for (n, written) in written {
            written.expect("the others' writes go on");
            assert!(is_there(&beside, &format!("stays {times} {n}")).await);
        }
    }
    nothing_is_held(&beside).await;
});

sqlite_only!(a_failed_write_leaves_the_others_alone, async |db| {
    let store = db.open(Clock::system()).await;
    let beside = db.connect().await;
    write(&store, "taken").await.expect("written");
    let writes = (0..20).map(async |n| {
        let name = if n % 4 == 0 {
            "taken".to_owned()
        } else {
            format!("good {n}")
        };
        (n, write(&store, &name).await)
    });
    for (n, written) in join_all(writes).await {
        assert_eq!(written.is_ok(), n % 4 != 0);
        assert!(n % 4 == 0 || is_there(&beside, &format!("good {n}")).await);
    }
});

sqlite_only!(
    a_rollback_by_sqlite_is_reported_to_every_write_that_it_undid,
    async |db| {
        let store = db.open(Clock::system()).await;
        let beside = db.connect().await;
        // The trigger does what SQLite does if the disk is full.
        let full = "create trigger full before insert on organization when new.name like 'full%' \
                begin select raise(rollback, 'the disk is full'); end";
        beside.execute_unprepared(full).await.expect("a trigger");
        for round in 0..10 {
            let writes = (0..12).map(async |n| {
                let kind = if n == 5 { "full" } else { "good" };
                let name = format!("{kind} {round} {n}");
                let written = write(&store, &name).await;
                (name, written)
            });
            for (name, written) in join_all(writes).await {
                assert!(
                    written.is_err() || is_there(&beside, &name).await,
                    "{name} was answered and is gone"
                );
                assert!(written.is_err() || name.starts_with("good"));
            }
            let after = format!("after {round}");
            write(&store, &after).await.expect("the next write succeeds");
            assert!(is_there(&beside, &after).await);
            nothing_is_held(&beside).await;
        }
    }
);
