//! Take-over while transactions of a dead host stay open: its rows are locked, and no other work may wait for them.

use std::time::Duration;

use postrider::clock::Clock;
use sea_orm::{ConnectionTrait, DatabaseTransaction, TransactionTrait};

use crate::harness::{Answer, DEADLINE, Gate, Proxy, Receiver, Rig, START, Shape, TestDatabase, rows, within};

/// Starts a process on the clock of the others.
async fn process(db: &TestDatabase, clock: &Clock) -> Rig {
    let shape = Shape {
        clock: clock.clone(),
        attempt_timeout: DEADLINE,
        ..Shape::default()
    };
    Rig::shaped(db, shape).await
}

/// Begins a transaction as a host that has vanished leaves it: it holds the row that `sql` finds.
async fn hold(db: &TestDatabase, sql: &str) -> DatabaseTransaction {
    let transaction = db.connect().await.begin().await.expect("a transaction");
    let found = transaction
        .execute_unprepared(&format!("{sql} for update"))
        .await
        .expect("the rows can be locked");
    assert_eq!(found.rows_affected(), 1);
    transaction
}

/// Steps for `seconds`, with four heartbeats a second, and returns how many rows were taken over.
async fn live(rig: &mut Rig, seconds: u64) -> u64 {
    let mut taken_over = 0;
    for _ in 0..seconds * 4 {
        rig.clock.advance(Duration::from_millis(250));
        let step = tokio::time::timeout(DEADLINE, rig.step()).await;
        taken_over += step.expect("a step waits for no lock").taken_over;
    }
    taken_over
}

async fn beat_of(rig: &Rig, owner: &str) -> i64 {
    rig.count(&format!(
        "generate_series(1, (select max(beat) from process where owner = '{owner}'))"
    ))
    .await
}

postgres_only!(
    rows_that_a_dead_host_still_holds_are_taken_over_once_it_lets_go,
    async |db| {
        let clock = Clock::test(START);
        let (a, mut b) = (process(db, &clock).await, process(db, &clock).await);
        let receiver = Receiver::start().await;
        let app = a.application("a").await;
        a.endpoint(&app, "e", &receiver.url()).await;
        live(&mut b, 1).await;
        for _ in 0..3 {
            a.accept(&app, "{}").await;
        }
        let held = hold(db, "select id from delivery where id = (select min(id) from delivery)").await;
        a.kill().await;
        assert_eq!(live(&mut b, 5).await, 2);
        assert_eq!(live(&mut b, 5).await, 0);
        assert_eq!(
            b.count("process").await,
            2,
            "the dead process is not forgotten as long as it has rows"
        );
        held.commit().await.expect("the host lets go");
        assert_eq!(live(&mut b, 1).await, 1);
        assert_eq!(receiver.count(), 3);
        assert_eq!(b.count("delivery").await, 0);
        assert_eq!(b.count("process").await, 1);
    }
);

postgres_only!(a_dead_process_whose_own_row_is_held_stops_no_beats, async |db| {
    let clock = Clock::test(START);
    let (a, mut b) = (process(db, &clock).await, process(db, &clock).await);
    let receiver = Receiver::start().await;
    let app = a.application("a").await;
    a.endpoint(&app, "e", &receiver.url()).await;
    live(&mut b, 1).await;
    a.accept(&app, "{}").await;
    let dead = a.slots.owner().expect("the process lives");
    let owner = b.slots.owner().expect("the process lives");
    let held = hold(db, &format!("select owner from process where owner = '{dead}'")).await;
    a.kill().await;
    let before = beat_of(&b, &owner).await;
    assert_eq!(live(&mut b, 6).await, 0);
    assert_eq!(beat_of(&b, &owner).await, before + 24, "each beat is committed");
    assert_eq!(b.slots.owner(), Some(owner), "the process may lease");
    held.commit().await.expect("the host lets go");
    assert_eq!(live(&mut b, 1).await, 1);
    assert_eq!(receiver.count(), 1);
});

postgres_only!(what_an_unknown_owner_holds_is_due_again_within_20_s, async |db| {
    let clock = Clock::test(START);
    let mut rig = process(db, &clock).await;
    let app = rig.application("a").await;
    live(&mut rig, 1).await;
    rig.slots.stop();
    // The row of a batch that committed after its process had signed off.
    let sql = "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at, owner, lease_id) \
               values ('dlv_1', $1, 'msg_1', 'ep_e', 0, 0, 9000000000000000, 'proc_gone', 1)";
    rig.sql(sql, [app.into()]).await;
    let held = hold(db, "select id from delivery").await;
    assert_eq!(live(&mut rig, 25).await, 0, "another transaction holds the row");
    held.commit().await.expect("the row is free");
    assert_eq!(live(&mut rig, 10).await, 1);
    assert_eq!(rig.count("delivery where owner is null").await, 1);
});

postgres_only!(
    what_is_leased_under_a_former_owner_id_is_kept_by_its_process,
    async |db| {
        let clock = Clock::test(START);
        let (mut a, mut b) = (process(db, &clock).await, process(db, &clock).await);
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.answer(Answer::ok().behind(&gate));
        let app = a.application("a").await;
        a.endpoint(&app, "e", &receiver.url()).await;
        // The two processes sweep at different times.
        live(&mut b, 1).await;
        let former = a.slots.owner().expect("the process lives");
        a.advance(4);
        a.step().await;
        let owner = a.slots.owner().expect("the process lives");
        assert_ne!(former, owner);
        let running = a.run();
        a.accept(&app, "{}").await;
        receiver.wait_for(1).await;
        // A batch that began before the new owner id was taken leaves its rows like this.
        a.sql("update delivery set owner = $1", [(*former).into()]).await;
        let mut taken_over = 0;
        for _ in 0..25 * 4 {
            let before = beat_of(&a, &owner).await;
            clock.advance(Duration::from_millis(250));
            within(DEADLINE, "a beat", async || {
                // A heartbeat that was not asleep yet when the clock was advanced sleeps beyond that instant.
                clock.advance(Duration::from_millis(1));
                (beat_of(&a, &owner).await > before).then_some(())
            })
            .await;
            taken_over += b.step().await.taken_over;
        }
        assert_eq!(taken_over, 0, "the delivery is being sent");
        assert_eq!(a.count(&format!("delivery where owner = '{owner}'")).await, 1);
        gate.open();
        running.stop(true).await;
        assert_eq!(receiver.count(), 1);
    }
);

postgres_only!(a_lost_claim_whose_row_is_held_stops_no_other_claim, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let shape = Shape {
        url: Some(proxy.url(db.url())),
        ..Shape::default()
    };
    let mut rig = Rig::shaped(db, shape).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(70_000));
    rig.accept(&app, &large).await;
    proxy.lose_next_commit();
    rig.try_step().await.expect_err("the claim's answer is lost");
    proxy.commit_lost().await;
    let held = hold(db, "select id from delivery").await;
    rig.accept(&app, &large).await;
    live(&mut rig, 2).await;
    assert_eq!(receiver.count(), 1, "the other delivery is claimed and sent");
    held.commit().await.expect("the lock ends");
    live(&mut rig, 2).await;
    assert_eq!(receiver.count(), 2, "sent at once, not when the lost lease ends");
});

postgres_only!(a_lost_claim_that_commits_late_is_made_good_soon, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let shape = Shape {
        url: Some(proxy.url(db.url())),
        ..Shape::default()
    };
    let mut rig = Rig::shaped(db, shape).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(70_000));
    rig.accept(&app, &large).await;
    proxy.lose_next_commit();
    rig.try_step().await.expect_err("the claim's answer is lost");
    proxy.commit_lost().await;
    // Until its commit is seen, as when it waits for a standby, the claim's row looks as it did before.
    let columns = "due_at, owner, lease_id";
    let lease = rows(&rig.db, &format!("select {columns} from delivery"))
        .await
        .remove(0);
    let (due_at, owner, lease_id): (i64, String, i64) = (
        lease.try_get("", "due_at").expect("a number"),
        lease.try_get("", "owner").expect("a text"),
        lease.try_get("", "lease_id").expect("a number"),
    );
    rig.sql(
        "update delivery set due_at = $1, owner = null, lease_id = null",
        [9_000_000_000_000_000_i64.into()],
    )
    .await;
    live(&mut rig, 5).await;
    rig.sql(
        "update delivery set due_at = $1, owner = $2, lease_id = $3",
        [due_at.into(), owner.into(), lease_id.into()],
    )
    .await;
    live(&mut rig, 3).await;
    assert_eq!(receiver.count(), 1, "sent soon, not when the lost lease ends");
});
