//! The sums of attempts by endpoint and hour: they are those of the attempts, whatever becomes of the processes.

use std::collections::BTreeMap;

use crate::crash::{post_to, program, subscribe};
use crate::harness::{Answer, DEADLINE, Proxy, Receiver, Rig, Serving, Shape, TestDatabase, connect, rows, within};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// By endpoint and hour: delivered, failed, 3xx, 4xx, 5xx, answers.
type Counts = BTreeMap<(String, i64), [i64; 6]>;

async fn counts(db: &TestDatabase, sql: &str) -> Counts {
    let connection = connect(db.url()).await.expect("a connection");
    let mut counts = Counts::new();
    for row in rows(&connection, sql).await {
        let number = |name: &str| row.try_get::<Option<i64>>("", name).expect(name).unwrap_or_default();
        let names = ["delivered", "failed", "c3", "c4", "c5", "answers"];
        let endpoint = row.try_get("", "endpoint_id").expect("an id");
        counts.insert((endpoint, number("at")), names.map(number));
    }
    connection.close().await.expect("the connection closes");
    counts
}

/// Counts the attempts.
async fn attempted(db: &TestDatabase) -> Counts {
    let count = |condition: &str| format!("cast(sum(case when {condition} then 1 else 0 end) as bigint)");
    let sql = format!(
        "select endpoint_id, created_at - created_at % 3600000000 as at, {} as delivered, {} as failed, {} as c3, \
         {} as c4, {} as c5, {} as answers from attempt group by 1, 2",
        count("delivered"),
        count("not delivered"),
        count("response_status between 300 and 399"),
        count("response_status between 400 and 499"),
        count("response_status between 500 and 599"),
        count("response_status <> 0"),
    );
    counts(db, &sql).await
}

/// The columns of the histogram.
const HISTOGRAM: [&str; 25] = [
    "ms_5", "ms_7", "ms_10", "ms_15", "ms_20", "ms_30", "ms_50", "ms_70", "ms_100", "ms_150", "ms_200", "ms_300",
    "ms_500", "ms_700", "ms_1000", "ms_1500", "ms_2000", "ms_3000", "ms_5000", "ms_7000", "ms_10000", "ms_15000",
    "ms_20000", "ms_30000", "ms_more",
];

/// Adds up the sums, each at the beginning of its period of `length` seconds.
async fn summed_by(db: &TestDatabase, length: u64) -> Counts {
    let answers = HISTOGRAM.map(|name| format!("coalesce({name}, 0)")).join(" + ");
    let sql = format!(
        "select endpoint_id, hour - hour % {}000000 as at, cast(sum(delivered) as bigint) as delivered, \
         cast(sum(failed) as bigint) as failed, cast(sum(status_3xx) as bigint) as c3, \
         cast(sum(status_4xx) as bigint) as c4, cast(sum(status_5xx) as bigint) as c5, \
         cast(sum({answers}) as bigint) as answers from endpoint_hour group by 1, 2",
        length
    );
    counts(db, &sql).await
}

async fn summed(db: &TestDatabase) -> Counts {
    summed_by(db, HOUR).await
}

/// Returns the number of attempts in some counts.
fn total(counts: &Counts) -> i64 {
    counts.values().map(|[delivered, failed, ..]| delivered + failed).sum()
}

/// Prepares one application with two endpoints at the receiver, and one at an address where nothing listens.
async fn prepared(rig: &Rig, receiver: &Receiver) -> String {
    let app = rig.application("a").await;
    for name in ["e", "f"] {
        rig.endpoint(&app, name, &receiver.url()).await;
    }
    rig.endpoint(&app, "g", "http://127.0.0.1:9/").await;
    app
}

/// Sends `count` messages and settles their first attempts.
async fn send(rig: &mut Rig, app: &str, count: usize) {
    for _ in 0..count {
        rig.accept(app, "{}").await;
    }
    rig.drain().await;
}

both!(after_an_orderly_stop_the_sums_are_those_of_the_attempts, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer_next([200, 500, 302, 404, 503, 204, 400, 200].map(Answer::status));
    let app = prepared(&rig, &receiver).await;
    let running = rig.run();
    for _ in 0..20 {
        rig.accept(&app, "{}").await;
    }
    within(DEADLINE, "all first attempts are recorded", async || {
        (rig.count("attempt").await >= 60).then_some(())
    })
    .await;
    assert_eq!(
        rig.count("endpoint_hour").await,
        0,
        "nothing is written before its time"
    );
    running.stop(true).await;
    let attempted = attempted(db).await;
    assert_eq!(summed(db).await, attempted);
    let of_unreachable = attempted.iter().find(|((endpoint, _), _)| endpoint == "ep_g");
    assert!(of_unreachable.is_some_and(|(_, counts)| counts[1] > 0 && counts[5] == 0));
});

both!(sums_are_written_every_10_s, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = prepared(&rig, &receiver).await;
    let running = rig.run();
    rig.accept(&app, "{}").await;
    within(DEADLINE, "the sums are written", async || {
        // The attempts may be settled at any time after the clock was advanced.
        rig.advance(10);
        (total(&summed(db).await) >= 3).then_some(())
    })
    .await;
    running.stop(true).await;
    assert_eq!(summed(db).await, attempted(db).await);
});

both!(attempts_count_in_the_hour_in_which_they_began_resends_too, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = prepared(&rig, &receiver).await;
    let message = rig.accept(&app, "{}").await.message_id;
    rig.drain().await;
    rig.flush().await;
    rig.advance(HOUR);
    rig.resend(&app, &message, "ep_e").await;
    rig.drain().await;
    rig.flush().await;
    let summed_up = summed(db).await;
    assert_eq!(summed_up, attempted(db).await);
    let hours: Vec<_> = summed_up.keys().filter(|(endpoint, _)| endpoint == "ep_e").collect();
    assert_eq!(hours.len(), 2);
});

both!(what_is_not_sent_is_no_attempt, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let message = rig.accept(&app, "{}").await.message_id;
    rig.drain().await;
    rig.sql("update endpoint set deleted_at = 1", []).await;
    rig.resend(&app, &message, "ep_e").await;
    assert_eq!(rig.drain().await, 1);
    rig.flush().await;
    assert_eq!(total(&summed(db).await), 1);
});

both!(
    a_killed_process_lacks_what_it_had_not_written_and_counts_nothing_twice,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let app = prepared(&rig, &receiver).await;
        send(&mut rig, &app, 4).await;
        rig.flush().await;
        let written = attempted(db).await;
        assert_eq!(summed(db).await, written);
        send(&mut rig, &app, 3).await;
        let before = attempted(db).await;
        rig.kill().await;
        assert_eq!(summed(db).await, written);
        let mut rig = Rig::on(db).await;
        send(&mut rig, &app, 2).await;
        rig.flush().await;
        rig.flush().await;
        let later = total(&attempted(db).await) - total(&before);
        assert_eq!(total(&summed(db).await), total(&written) + later);
    }
);

both!(after_kill_9_only_what_was_not_written_is_missing, async |db| {
    let receiver = Receiver::start().await;
    let program = program(db);
    let mut serving = program.serve().await;
    subscribe(&serving.url(), &receiver, 1).await;
    let sent = async |serving: &Serving, numbers: std::ops::Range<usize>| {
        let all = numbers.end as i64;
        for number in numbers {
            post_to(serving, number).await;
        }
        within(DEADLINE, "all attempts are recorded", async || {
            (total(&attempted(db).await) >= all).then_some(())
        })
        .await;
    };
    sent(&serving, 0..5).await;
    serving.signal("KILL");
    serving.end().await;
    let lost = total(&attempted(db).await) - total(&summed(db).await);
    assert!((0..=5).contains(&lost), "{lost}");
    serving = program.serve().await;
    sent(&serving, 5..9).await;
    assert_eq!(serving.stop().await, Some(0));
    assert_eq!(total(&attempted(db).await) - total(&summed(db).await), lost);
});

postgres_only!(two_processes_sum_up_side_by_side, async |db| {
    let (mut first, mut second) = (Rig::on(db).await, Rig::on(db).await);
    let receiver = Receiver::start().await;
    let app = prepared(&first, &receiver).await;
    for _ in 0..2 {
        send(&mut first, &app, 3).await;
        send(&mut second, &app, 2).await;
        first.flush().await;
        second.flush().await;
        assert_eq!(summed(db).await, attempted(db).await);
    }
    assert_eq!(first.count("endpoint_hour").await, 6, "each has its own rows");
});

postgres_only!(sums_whose_commit_is_not_answered_count_once, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let shape = Shape {
        url: Some(proxy.url(db.url())),
        ..Shape::default()
    };
    let mut rig = Rig::shaped(db, shape).await;
    let receiver = Receiver::start().await;
    let app = prepared(&rig, &receiver).await;
    send(&mut rig, &app, 3).await;
    proxy.lose_next_commit();
    rig.try_flush().await.expect_err("the answer is lost");
    assert_eq!(summed(db).await, attempted(db).await, "the sums were written");
    send(&mut rig, &app, 1).await;
    rig.flush().await;
    assert_eq!(summed(db).await, attempted(db).await);
    assert_eq!(rig.count("endpoint_hour").await, 3);
});

both!(sums_that_the_database_refuses_are_written_later, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = prepared(&rig, &receiver).await;
    rig.refuse(db, "endpoint_hour", "endpoint_id = 'ep_e'").await;
    send(&mut rig, &app, 2).await;
    rig.try_flush().await.expect_err("the row is refused");
    assert_eq!(rig.count("endpoint_hour").await, 0);
    match db.kind() {
        crate::harness::Kind::Sqlite => rig.sql("drop trigger refuse_endpoint_hour", []).await,
        crate::harness::Kind::Postgres => {
            rig.sql("alter table endpoint_hour drop constraint refuse_endpoint_hour", [])
                .await
        }
    };
    send(&mut rig, &app, 1).await;
    rig.flush().await;
    assert_eq!(summed(db).await, attempted(db).await);
});

both!(merging_processes_and_days_keeps_the_sums, async |db| {
    let receiver = Receiver::start().await;
    let mut rig = Rig::on(db).await;
    let app = prepared(&rig, &receiver).await;
    // Each hour was summed up by two processes, one after the other.
    for hour in 0..3 {
        let clock = rig.clock.clone();
        send(&mut rig, &app, 2).await;
        rig.flush().await;
        rig.kill().await;
        let shape = Shape {
            clock,
            ..Shape::default()
        };
        rig = Rig::shaped(db, shape).await;
        send(&mut rig, &app, 1 + hour).await;
        rig.flush().await;
        rig.advance(HOUR);
    }
    let sums = summed(db).await;
    assert_eq!(sums, attempted(db).await);
    rig.prune().await;
    assert_eq!(rig.count("endpoint_hour where source > 0").await, 18, "too young");

    rig.advance(25 * HOUR);
    rig.prune().await;
    assert_eq!(rig.count("endpoint_hour where source = 0").await, 9);
    assert_eq!(rig.count("endpoint_hour").await, 9);
    assert_eq!(summed(db).await, sums);

    let days = summed_by(db, DAY).await;
    rig.advance(35 * DAY);
    rig.prune().await;
    assert_eq!(rig.count("endpoint_hour where source = -1").await, 3);
    assert_eq!(rig.count("endpoint_hour").await, 3);
    assert_eq!(summed(db).await, days);

    rig.advance(362 * DAY);
    rig.prune().await;
    assert_eq!(rig.count("endpoint_hour").await, 3, "days are kept for 400 days");
    rig.advance(3 * DAY);
    rig.prune().await;
    assert_eq!(rig.count("endpoint_hour").await, 0);
});

both!(sums_that_come_after_their_hour_was_merged_are_added, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = prepared(&rig, &receiver).await;
    send(&mut rig, &app, 1).await;
    rig.flush().await;
    rig.advance(30 * HOUR);
    rig.prune().await;
    let late = "insert into endpoint_hour (app_id, endpoint_id, hour, source, delivered, ms_5) \
                select app_id, endpoint_id, hour, 7, 5, 5 from endpoint_hour where endpoint_id = 'ep_e'";
    rig.sql(late, []).await;
    rig.prune().await;
    let merged = "endpoint_hour where endpoint_id = 'ep_e' and source = 0 and delivered = 6";
    assert_eq!(rig.count(merged).await, 1);
    assert_eq!(rig.count("endpoint_hour").await, 3);
});

both!(the_sums_of_a_deleted_endpoint_go_with_it, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = prepared(&rig, &receiver).await;
    send(&mut rig, &app, 1).await;
    rig.flush().await;
    let now = rig.clock.now().0;
    rig.sql("update endpoint set deleted_at = $1 where id = 'ep_e'", [now.into()])
        .await;
    // More than one chunk.
    let many = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1500) \
                insert into endpoint_hour (app_id, endpoint_id, hour, source, delivered) \
                select $1, 'ep_e', i * 86400000000, -1, 1 from n";
    rig.sql(many, [app.as_str().into()]).await;
    rig.sql(
        "update endpoint_hour set hour = $1 + hour / 86400 where source = -1",
        [now.into()],
    )
    .await;
    rig.advance(181 * DAY);
    rig.prune().await;
    assert_eq!(rig.count("endpoint_hour where endpoint_id = 'ep_e'").await, 0);
    assert_eq!(rig.count("endpoint").await, 2);
    assert!(rig.count("endpoint_hour").await > 0, "the others keep their own");
});
