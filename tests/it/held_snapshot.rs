//! A held snapshot: `pg_dump` holds one for hours, and Postgres then keeps the index entries of all rows that are
//! deleted meanwhile. The queue's statements must not read these. The tests bound the pages that a statement reads, as
//! Postgres counts them, not its time.

use std::time::Duration;

use poem::test::TestClient;
use postrider::api::{Probes, probe_routes};
use postrider::domain::id::Prefix;
use postrider::domain::timestamp::Timestamp;
use postrider::domain::typed_id::EndpointId;
use postrider::slots::{Caps, Grant, Lane};
use postrider::store::queue::process::{self, KnownBeat};
use postrider::store::queue::{self, LeaseTerms};
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, TransactionTrait, Value};

use crate::harness::{Answer, DEADLINE, Gate, Receiver, Rig, Shape, TestDatabase, within};
use crate::intake::{lock, wait_for_blocked};
use crate::metrics::value;

/// The most pages that a statement may read if it finds nothing.
const FEW: i64 = 60;

/// Begins a transaction that keeps seeing the database as it is now.
async fn snapshot(db: &TestDatabase) -> DatabaseTransaction {
    let transaction = db.connect().await.begin().await.expect("a transaction");
    for sql in [
        "set transaction isolation level repeatable read",
        "select 1 from delivery",
    ] {
        transaction.execute_unprepared(sql).await.expect(sql);
    }
    transaction
}

/// Returns how many pages `statement` reads. Its changes are undone.
async fn pages(rig: &Rig, statement: Statement) -> i64 {
    let transaction = rig.db.begin().await.expect("a transaction");
    let explained = Statement::from_sql_and_values(
        statement.db_backend,
        format!("explain (analyze, buffers, format json) {}", statement.sql),
        statement.values.map_or_else(Vec::new, |values| values.0),
    );
    let row = transaction
        .query_one_raw(explained)
        .await
        .expect("a plan")
        .expect("a plan");
    let plan: serde_json::Value = row.try_get_by_index(0).expect("a plan");
    let plan = &plan[0]["Plan"];
    ["Shared Hit Blocks", "Shared Read Blocks"]
        .iter()
        .map(|name| plan[name].as_i64().expect("a count"))
        .sum()
}

/// Returns the first possible id of the instant `seconds` before now.
fn first_id(rig: &Rig, seconds: i64) -> String {
    Prefix::Delivery.first_id_at(Timestamp(rig.clock.now().0 - seconds * 1_000_000))
}

/// Inserts and deletes `count` deliveries that are due at `due_at`, or parked if it is `None`.
async fn gone_by(rig: &Rig, count: i64, due_at: Option<i64>) {
    let id = first_id(rig, 100);
    let kept = id.len() - 8;
    let sql = "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at) \
               select $1 || lpad(cast(i as text), 8, '0'), 'app_a', 'msg_gone' || i, 'ep_e', 0, 0, $2 \
               from generate_series(1, $3) as i";
    rig.sql(sql, [id[..kept].into(), due_at.into(), count.into()]).await;
    rig.sql("delete from delivery where message_id like 'msg_gone%'", [])
        .await;
    rig.sql("analyze delivery", []).await;
}

fn known_beat(owner: &str, beat: i64) -> KnownBeat<'_> {
    KnownBeat { owner, beat }
}

fn terms(rig: &Rig) -> LeaseTerms {
    LeaseTerms {
        owner: rig.slots.owner().expect("the process may lease"),
        lease_id: 1,
        lasts: Duration::from_secs(60),
    }
}

postgres_only!(a_claim_does_not_read_what_is_gone, async |db| {
    let mut rig = Rig::on(db).await;
    let held = snapshot(db).await;
    let now = rig.clock.now();
    gone_by(&rig, 100_000, Some(now.0 - 50_000_000)).await;
    let from_the_start = Timestamp(i64::MIN);
    for lane in [Lane::First, Lane::Retry] {
        assert_eq!(rig.store.floors().of(lane, now), from_the_start);
    }
    let backend = rig.store.backend();
    let claim = |lane, floor| queue::claim_statement(backend, &terms(&rig), lane, (floor, now), 256);
    let all = pages(&rig, claim(Lane::First, from_the_start)).await;
    assert!(all > 500, "{all} pages are there to be read");
    rig.step().await;
    for lane in [Lane::First, Lane::Retry] {
        let claim = queue::claim_statement(
            backend,
            &terms(&rig),
            lane,
            (rig.store.floors().of(lane, now), now),
            256,
        );
        let read = pages(&rig, claim).await;
        assert!(read <= FEW, "a claim reads {read} pages");
    }
    held.commit().await.expect("the dump ends");
});

postgres_only!(a_backlog_is_drained_without_reading_what_was_drained, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let held = snapshot(db).await;
    let now = rig.clock.now();
    gone_by(&rig, 20_000, Some(now.0 - 50_000_000)).await;
    // More rows than one claim takes.
    for seconds in 1..=40 {
        let sql = "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at) \
                   values ($1, 'app_a', 'msg_1', 'ep_e', 0, 3, $2)";
        let due_at = now.0 - seconds * 1_000_000;
        rig.sql(sql, [first_id(&rig, seconds).into(), due_at.into()]).await;
    }
    let tx = rig.store.begin().await.expect("a transaction");
    let due = queue::claim(&tx, &rig.slots, &terms(&rig), Lane::Retry, 4).await;
    let due = due.expect("a claim");
    assert_eq!((due.leases.len(), due.found), (4, 4));
    assert_eq!(
        due.drained,
        Some(Timestamp(now.0 - 37_000_000)),
        "the last of the four oldest"
    );
    drop((due, tx));
    rig.step().await;
    assert_eq!(rig.store.floors().of(Lane::Retry, now), Timestamp(now.0 - 1_000_000));
    held.commit().await.expect("the dump ends");
});

postgres_only!(what_is_committed_late_is_found_within_a_second, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    rig.step().await;
    let running = rig.run();
    let sql = "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at) \
               values ($1, 'app_a', 'msg_1', 'ep_e', 0, $2, $3)";
    let late = rig.clock.now().0 - 20_000_000;
    for attempt in [0, 3] {
        let id = first_id(&rig, 20 + i64::from(attempt));
        rig.sql(sql, [id.into(), attempt.into(), late.into()]).await;
    }
    within(DEADLINE, "both are claimed", async || {
        rig.clock.advance(Duration::from_millis(250));
        (rig.count("delivery where due_at < 1767225590000000").await == 0).then_some(())
    })
    .await;
    running.stop(true).await;
});

postgres_only!(
    parked_rows_are_brought_back_without_reading_those_that_were,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        let endpoint: EndpointId = rig.endpoint(&app, "e", &receiver.url()).await.into();
        let held = snapshot(db).await;
        gone_by(&rig, 100_000, None).await;
        let parked = "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at) \
                  values ($1, 'app_a', 'msg_1', 'ep_e', 0, 0, null)";
        rig.sql(parked, [first_id(&rig, 10).into()]).await;
        let claim = |from: String| {
            let wanted = [Grant {
                endpoint_id: endpoint.clone(),
                rows: 16,
            }];
            queue::claim_parked_statement(rig.store.backend(), &terms(&rig), rig.clock.now(), &wanted, &[from])
        };
        let all = pages(&rig, claim(String::new())).await;
        assert!(all > 500, "{all} pages are there to be read");
        let read = pages(&rig, claim(first_id(&rig, 15))).await;
        assert!(read <= FEW, "a claim reads {read} pages");

        rig.step().await;
        assert_eq!(rig.count("delivery").await, 0, "the parked row was brought back");
        // A parked retry: its id is older than the floor.
        rig.sql(parked, [first_id(&rig, 90).into()]).await;
        rig.step().await;
        assert_eq!(
            rig.count("delivery").await,
            1,
            "a row that another process has parked is not found yet"
        );
        rig.advance(30);
        rig.step().await;
        rig.step().await;
        assert_eq!(rig.count("delivery").await, 0, "the look without a floor finds it");
        held.commit().await.expect("the dump ends");
    }
);

postgres_only!(what_a_slow_batch_has_parked_is_claimed_with_the_rest, async |db| {
    let shape = Shape {
        caps: Caps {
            process: 8,
            endpoint: 1,
        },
        attempt_timeout: DEADLINE,
        ..Shape::default()
    };
    let mut rig = Rig::shaped(db, shape).await;
    let receiver = Receiver::start().await;
    let (first, second) = (Gate::closed(), Gate::closed());
    receiver.answer_next([Answer::ok().behind(&first), Answer::ok().behind(&second)]);
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let running = rig.run();
    rig.accept(&app, "{}").await;
    receiver.wait_for(1).await;
    rig.accept(&app, "{}").await;
    // Raises the floor beyond the ids of now, as claims of later batches do.
    let id = first_id(&rig, -100);
    rig.sql("update delivery set id = $1 where due_at is null", [id.into()])
        .await;
    first.open();
    receiver.wait_for(2).await;
    let blocked = lock(db, "message_content").await;
    let accepting = async { rig.intake.accept(rig.message(&app, "{}")).await.expect("accepted") };
    tokio::join!(accepting, async {
        wait_for_blocked(&rig, 1).await;
        rig.clock.advance(Duration::from_secs(2));
        blocked.commit().await.expect("the lock ends");
    });
    assert_eq!(rig.count("delivery where due_at is null").await, 1);
    second.open();
    receiver.wait_for(3).await;
    running.stop(true).await;
});

postgres_only!(a_beat_does_not_read_those_before_it, async |db| {
    let mut rig = Rig::on(db).await;
    let peers: Vec<String> = (0..10).map(|at| format!("proc_peer{at}")).collect();
    for peer in &peers {
        let sql = "insert into process (owner, beat, started_at) values ($1, 0, 0)";
        rig.sql(sql, [peer.as_str().into()]).await;
    }
    let held = snapshot(db).await;
    rig.sql(
        "do $$ begin for i in 1..2000 loop update process set beat = beat + 1; end loop; end $$",
        [],
    )
    .await;
    rig.sql("vacuum analyze process", []).await;
    let owner = rig.slots.owner().expect("the process lives");
    let beat_of = |known| {
        let peers: Vec<_> = peers.iter().map(|peer| known_beat(peer, known)).collect();
        process::beat_statement(rig.store.backend(), known_beat(&owner, known), &peers)
    };
    let all = pages(&rig, beat_of(0)).await;
    assert!(all > 500, "{all} pages are there to be read");
    let read = pages(&rig, beat_of(1_999)).await;
    assert!(read <= 11 * 6, "a beat reads {read} pages");
    let peers: Vec<_> = peers.iter().map(|peer| known_beat(peer, 1_999)).collect();
    let seen = process::beat(&rig.store, known_beat(&owner, 1_999), &peers)
        .await
        .expect("a beat");
    assert!(seen.alive);
    assert_eq!(seen.peers.len(), 10);
    assert!(seen.peers.values().all(|beat| *beat == 2_000), "{:?}", seen.peers);
    rig.step().await;
    held.commit().await.expect("the dump ends");
});

postgres_only!(how_long_a_snapshot_is_held_is_told, async |db| {
    let rig = Rig::on(db).await;
    let probes = Probes::new(&rig.store);
    let shown = async || {
        let answer = TestClient::new(probe_routes(&probes)).get("/metrics").send().await;
        let page = answer.0.into_body().into_string().await.expect("text");
        value(&page, "postrider_oldest_snapshot_seconds")
    };
    let held = snapshot(db).await;
    assert_eq!(shown().await, 0.0, "this process sees the snapshot for the first time");
    rig.advance(3600);
    assert_eq!(shown().await, 3600.0);
    held.commit().await.expect("the dump ends");
    within(DEADLINE, "no snapshot is held any more", async || {
        rig.advance(5);
        (shown().await < 60.0).then_some(())
    })
    .await;
});

/// Returns how many rows of the endpoint no other transaction has locked.
async fn unlocked(rig: &Rig, endpoint: &str) -> i64 {
    let sql =
        "select count(*) as n from (select 1 from delivery where endpoint_id = $1 for update skip locked) as free";
    let values: [Value; 1] = [endpoint.into()];
    let statement = Statement::from_sql_and_values(rig.db.get_database_backend(), sql, values);
    let row = rig
        .db
        .query_one_raw(statement)
        .await
        .expect("a count")
        .expect("a count");
    row.try_get("", "n").expect("a number")
}

postgres_only!(parking_locks_the_rows_that_it_parks_and_no_others, async |db| {
    let rig = Rig::on(db).await;
    let app = rig.application("a").await;
    let saturated: EndpointId = rig.endpoint(&app, "saturated", "http://127.0.0.1:9/").await.into();
    let other = rig.endpoint(&app, "other", "http://127.0.0.1:9/").await;
    crate::fairness::backlog(&rig, &app, &other, 100, 0).await;
    crate::fairness::backlog(&rig, &app, saturated.as_str(), 100, 0).await;
    let tx = rig.store.begin().await.expect("a transaction");
    queue::park(&tx, Lane::First, std::slice::from_ref(&saturated))
        .await
        .expect("the rows are parked");
    assert_eq!(unlocked(&rig, &other).await, 100);
    assert_eq!(unlocked(&rig, saturated.as_str()).await, 0);
    tx.commit().await.expect("a commit");
    assert_eq!(rig.count("delivery where due_at is null").await, 100);
});
