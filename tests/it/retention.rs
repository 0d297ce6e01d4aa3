//! Retention: payloads and history are removed when their time is over, one process at a time does this, and nothing
//! else is removed.

use std::time::Duration;

use postrider::clock::Clock;
use postrider::domain::id::Prefix;
use postrider::domain::timestamp::Timestamp;
use postrider::store::retention::{self, Place};
use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::json;

use crate::api::Api;
use crate::harness::{Answer, DEADLINE, Kind, Receiver, Rig, START, Shape, TestDatabase, recorded, rows, within};

const DAY: u64 = 86_400;

/// Creates the application `a` with the endpoint `e`, and a message with one attempt whose payload is kept for `days`
/// days.
async fn sent(db: &TestDatabase, days: u64) -> (Api, Receiver) {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    let endpoint = json!({"url": receiver.url(), "uid": "e"});
    api.post("/app/a/endpoint", endpoint).await.expect(201);
    send(&mut api, "m", days).await;
    (api, receiver)
}

async fn send(api: &mut Api, event_id: &str, days: u64) {
    let body = json!({"eventType": "t", "eventId": event_id, "payload": {"k": 1}, "payloadRetentionPeriod": days});
    api.post("/app/a/msg", body).await.expect(202);
    api.rig.drain().await;
}

both!(
    a_payload_is_removed_after_its_retention_and_the_message_and_attempts_stay,
    async |db| {
        let (mut api, _receiver) = sent(db, 5).await;
        send(&mut api, "longer", 6).await;
        api.rig.advance(5 * DAY - 1);
        api.rig.prune().await;
        assert_eq!(api.get("/app/a/msg/m").await.expect(200)["payload"], json!({"k": 1}));
        api.rig.advance(1);
        api.rig.prune().await;
        assert_eq!(
            api.get("/app/a/msg/m").await.expect(200)["payload"],
            json!({"expired": true})
        );
        assert_eq!(
            api.get("/app/a/msg/longer").await.expect(200)["payload"],
            json!({"k": 1})
        );
        let attempts = api.get("/app/a/attempt/msg/m").await;
        assert_eq!(attempts.expect(200)["data"].as_array().unwrap().len(), 1);
        let at_endpoint = api.walk("/app/a/endpoint/e/msg", 250).await;
        assert_eq!(at_endpoint.len(), 2);
        assert_eq!(at_endpoint[1]["payload"], json!({"expired": true}));
        api.post("/app/a/msg/m/endpoint/e/resend", json!({}))
            .await
            .refused(400, "missing_payload");
    }
);

both!(
    a_retry_of_an_expired_payload_ends_as_failed_without_an_attempt,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        receiver.answer(Answer::status(500).header("retry-after", "86400"));
        api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
        let endpoint = json!({"url": receiver.url(), "uid": "e"});
        api.post("/app/a/endpoint", endpoint).await.expect(201);
        send(&mut api, "m", 5).await;
        api.rig.advance(5 * DAY);
        api.rig.prune().await;
        api.rig.drain().await;
        assert_eq!(receiver.count(), 1);
        assert_eq!(api.rig.count("delivery").await, 0);
        assert_eq!(
            api.get("/app/a/endpoint/e/msg").await.expect(200)["data"][0]["status"],
            2
        );
    }
);

both!(
    a_message_goes_with_its_attempts_and_results_when_its_time_is_over,
    async |db| {
        let (mut api, _receiver) = sent(db, 90).await;
        api.rig.advance(1);
        send(&mut api, "younger", 90).await;
        api.rig.advance(180 * DAY - 1);
        api.rig.prune().await;
        api.get("/app/a/msg/m").await.expect(200);
        api.rig.advance(1);
        api.rig.prune().await;
        api.get("/app/a/msg/m").await.refused(404, "not_found");
        api.get("/app/a/msg/younger").await.expect(200);
        for table in ["message", "attempt", "delivery_result"] {
            assert_eq!(api.rig.count(table).await, 1, "{table}");
        }
        let left = api.walk("/app/a/endpoint/e/msg", 250).await;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0]["eventId"], "younger");
        let again = json!({"eventType": "t", "eventId": "m", "payload": {}});
        api.post("/app/a/msg", again).await.expect(202);
    }
);

both!(what_is_written_of_a_message_after_it_has_gone_goes_too, async |db| {
    let (mut api, _receiver) = sent(db, 90).await;
    api.rig.advance(180 * DAY + 1);
    // A resend that was under way settles after the message has gone.
    api.rig.sql("delete from message", []).await;
    assert_eq!(api.rig.count("attempt").await, 1);
    api.rig.prune().await;
    for table in ["message_content", "attempt", "delivery_result"] {
        assert_eq!(api.rig.count(table).await, 0, "{table}");
    }
});

both!(
    old_messages_of_many_applications_go_in_chunks_deleted_ones_too,
    async |db| {
        let (mut api, _receiver) = sent(db, 90).await;
        let numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1200)";
        for insert in [
        "application (id, org_id, name, metadata, created_at, updated_at, deleted_at)
            select 'app_many' || i, 'org', 'n', '{}', 0, 0, i from n",
        "message (app_id, id, event_type, created_at, expires_at) select 'app_many' || i, 'msg_0', 't', 0, 0 from n",
        "message (app_id, id, event_type, created_at, expires_at)
            select 'app_many1', 'msg_00' || i, 't', 0, 0 from n",
        "message_content (app_id, message_id, body, expires_at)
            select 'app_many1', 'msg_00' || i, '{}', 9223372036854775807 from n",
        "attempt (app_id, message_id, id, endpoint_id, url, trigger, delivered, response_status, response, duration_ms,
            created_at) select 'app_many1', 'msg_001', 'atmpt_' || i, 'ep', '', 0, false, 0, '', 0, 0 from n",
    ] {
        let (into, select) = insert.split_once("select").expect("each selects");
        api.rig
            .sql(&format!("insert into {into} {numbers} select {select}"), [])
            .await;
    }
        for _ in 0..3 {
            api.rig.prune().await;
        }
        assert_eq!(api.rig.count("message").await, 1);
        assert_eq!(api.rig.count("message_content").await, 1);
        assert_eq!(api.rig.count("attempt").await, 1);
        api.get("/app/a/msg/m").await.expect(200);
    }
);

postgres_only!(
    a_partitioned_table_loses_what_has_expired_and_nothing_else,
    async |db| {
        let mut rig = Rig::on(db).await;
        for sql in [
            "alter table message_content rename to whole",
            "create table message_content (like whole including defaults, primary key (app_id, message_id))
             partition by range (message_id)",
            "create table content_0 partition of message_content for values from (minvalue) to ('msg_5')",
            "create table content_5 partition of message_content for values from ('msg_5') to (maxvalue)",
            // Both partitions are filled alike, so each `ctid` is that of an expired row in one partition and of a live
            // row in the other.
            "insert into message_content (app_id, message_id, body, expires_at)
             select 'app_a', 'msg_' || half || i, '{}', case half when 0 then 0 else 4000000000000000 end
             from generate_series(1000, 1299) i, (values (0), (5)) as halves(half) order by half, i",
        ] {
            rig.sql(sql, []).await;
        }
        rig.prune().await;
        assert_eq!(rig.count("message_content").await, 300);
        assert_eq!(rig.count("content_5").await, 300, "rows that have not expired are kept");
    }
);

both!(history_goes_in_order_of_time_whatever_its_application, async |db| {
    let mut rig = Rig::on(db).await;
    let minute = |number: u64| START.plus(Duration::from_secs(60 * number));
    for number in 0..20 {
        for app in ["a", "b", "c"] {
            let at = minute(number);
            let sql =
                "insert into message (app_id, id, event_type, created_at, expires_at) values ($1, $2, 't', $3, 0)";
            let id = rig.clock.new_id_at(Prefix::Message, at);
            rig.sql(sql, [app.into(), id.into(), at.0.into()]).await;
        }
    }
    for app in ["a", "b", "c"] {
        let sql = "insert into application (id, org_id, name, metadata, created_at, updated_at) values ($1, 'org', '', '', 0, 0)";
        rig.sql(sql, [app.into()]).await;
    }
    let log = match db.kind() {
        Kind::Sqlite => vec![
            "create table gone (place integer primary key autoincrement, created_at bigint not null)",
            "create trigger gone after delete on message begin insert into gone (created_at) values (old.created_at); end",
        ],
        Kind::Postgres => vec![
            "create table gone (place bigserial primary key, created_at bigint not null)",
            "create function log_gone() returns trigger language plpgsql as
                     $$ begin insert into gone (created_at) values (old.created_at); return null; end $$",
            "create trigger gone after delete on message for each row execute function log_gone()",
        ],
    };
    for sql in log {
        rig.db.execute_unprepared(sql).await.expect(sql);
    }
    rig.advance(181 * DAY);
    rig.prune().await;
    let gone: Vec<i64> = rows(&rig.db, "select created_at from gone order by place")
        .await
        .iter()
        .map(|row| row.try_get("", "created_at").unwrap())
        .collect();
    assert_eq!(gone.len(), 60, "all messages are removed");
    // Within a window of some minutes the order is free. Application by application, the last minute of one would go
    // before the first minute of the next.
    let furthest = gone.iter().scan(i64::MIN, |latest, at| {
        *latest = (*latest).max(*at);
        Some(*latest - *at)
    });
    let furthest = Duration::from_micros(furthest.max().unwrap().unsigned_abs());
    assert!(furthest < Duration::from_secs(10 * 60), "{furthest:?} out of order");
});

/// Inserts applications named `a0`, `a1`, …, each with `each` messages of one instant. Returns that instant.
async fn old_messages(rig: &Rig, apps: usize, each: usize) -> Timestamp {
    let at = rig.clock.now();
    for app in (0..apps).map(|number| format!("a{number}")) {
        let sql = "insert into application (id, org_id, name, metadata, created_at, updated_at) values ($1, 'org', '', '', 0, 0)";
        rig.sql(sql, [app.as_str().into()]).await;
        for _ in 0..each {
            let sql =
                "insert into message (app_id, id, event_type, created_at, expires_at) values ($1, $2, 't', $3, 0)";
            let id = rig.clock.new_id_at(Prefix::Message, at);
            rig.sql(sql, [app.as_str().into(), id.into(), at.0.into()]).await;
        }
    }
    at
}

both!(a_chunk_goes_in_one_statement_which_reads_no_keys_out, async |db| {
    let ((), statements) = recorded(async || {
        let mut rig = Rig::on(db).await;
        old_messages(&rig, 3, 10).await;
        rig.advance(181 * DAY);
        rig.prune().await;
        assert_eq!(rig.count("message").await, 0);
    });
    let deletes = |table: &str| {
        statements
            .iter()
            .filter(|sql| sql.contains(&format!("delete from {table} ")))
            .count()
    };
    for table in [
        "message_content",
        "attempt",
        "delivery_result",
        "message_tag",
        "poll_item",
        "message",
    ] {
        // The second look at contents is that for expired payloads.
        let expected = if table == "message_content" { 2 } else { 1 };
        assert_eq!(deletes(table), expected, "{table}: {statements:#?}");
    }
    let keys = |sql: &&String| sql.starts_with("select") && sql.contains(" message r where");
    assert_eq!(statements.iter().find(keys), None);
});

sqlite_only!(sqlite_s_log_is_cut_once_after_all_payloads_of_a_round, async |db| {
    let ((), statements) = recorded(async || {
        let mut rig = Rig::on(db).await;
        let insert = "insert into message_content (app_id, message_id, body, expires_at)
             with recursive n(i) as (select 1 union all select i + 1 from n where i < 250)
             select 'a', 'msg_0' || i, '{}', 0 from n";
        rig.sql(insert, []).await;
        rig.advance(DAY);
        rig.prune().await;
        assert_eq!(rig.count("message_content").await, 0);
    });
    let places = |part: &str| -> Vec<usize> {
        let named = statements.iter().enumerate().filter(|(_, sql)| sql.contains(part));
        named.map(|(place, _)| place).collect()
    };
    let removals = places("delete from message_content where (app_id, message_id) in (select app_id, message_id from");
    assert_eq!(removals.len(), 3, "{statements:#?}");
    let cuts = places("wal_checkpoint");
    assert_eq!(
        cuts.iter().filter(|cut| **cut > removals[0]).count(),
        1,
        "{statements:#?}"
    );
    assert!(cuts.last() > removals.last());
});

both!(
    the_next_chunk_begins_at_the_application_where_the_last_one_ended,
    async |db| {
        let rig = Rig::on(db).await;
        let at = old_messages(&rig, 10, 30).await;
        let from = Prefix::Message.first_id_at(at);
        let end = Prefix::Message.first_id_at(at.plus(Duration::from_secs(1)));
        let window = (from.as_str(), end.as_str());
        let apps: Vec<_> = (0..10).map(|number| format!("a{number}")).collect();
        let mut place = Place::default();
        for chunk in 1..=3 {
            let tx = rig.store.begin().await.expect("a transaction");
            let (removed, next) = retention::prune_history(&tx, &apps, window, place, 100)
                .await
                .expect("rows are removed");
            tx.commit().await.expect("a commit");
            assert_eq!(removed, 100);
            place = next.expect("more may be left");
            // Three applications more have lost their 30 rows, and the next one some of them, or none is left.
            assert_eq!(place.app, 3 * chunk);
        }
        let tx = rig.store.begin().await.expect("a transaction");
        let last = retention::prune_history(&tx, &apps, window, place, 100).await;
        assert_eq!(last.expect("nothing is left"), (0, None));
    }
);

postgres_only!(
    one_process_removes_what_is_kept_no_longer_until_it_is_dead,
    async |db| {
        let clock = Clock::test(START);
        let shape = || Shape {
            clock: clock.clone(),
            ..Shape::default()
        };
        let mut first = Rig::shaped(db, shape()).await;
        let mut second = Rig::shaped(db, shape()).await;
        let expired = "insert into idempotency (scope, key, reply, expires_at) values ('tok', 'k', '', 0)";
        first.prune().await;
        first.sql(expired, []).await;
        second.prune().await;
        assert_eq!(first.count("idempotency").await, 1, "the first process has the turn");
        first.advance(60);
        first.prune().await;
        assert_eq!(first.count("idempotency").await, 0, "the first process keeps its turn");
        first.sql(expired, []).await;
        first.advance(60);
        second.prune().await;
        assert_eq!(first.count("idempotency").await, 1);
        first.advance(31);
        second.prune().await;
        assert_eq!(
            first.count("idempotency").await,
            0,
            "the first process has not renewed its turn for 91 s"
        );
        first.sql(expired, []).await;
        first.prune().await;
        assert_eq!(
            first.count("idempotency").await,
            1,
            "the second process has the turn now"
        );
    }
);

both!(a_janitor_that_stops_gives_its_turn_back, async |db| {
    let clock = Clock::test(START);
    let shape = || Shape {
        clock: clock.clone(),
        ..Shape::default()
    };
    let expired = "insert into idempotency (scope, key, reply, expires_at) values ('tok', 'k', '', 0)";
    let mut first = Rig::shaped(db, shape()).await;
    first.sql(expired, []).await;
    let running = first.run();
    within(DEADLINE, "the janitor has the turn", async || {
        (first.count("idempotency").await == 0).then_some(())
    })
    .await;
    running.stop(true).await;
    first.sql(expired, []).await;
    first.store.close().await;
    drop(first);
    let mut second = Rig::shaped(db, shape()).await;
    second.prune().await;
    assert_eq!(
        second.count("idempotency").await,
        0,
        "the next process has the turn at once"
    );
});

postgres_only!(a_turn_that_ends_in_the_far_future_counts_as_free, async |db| {
    let mut rig = Rig::on(db).await;
    rig.sql("update janitor_turn set owner = 'dead', ends_at = 4000000000000000", [])
        .await;
    rig.sql(
        "insert into idempotency (scope, key, reply, expires_at) values ('tok', 'k', '', 0)",
        [],
    )
    .await;
    rig.prune().await;
    assert_eq!(rig.count("idempotency").await, 0);
});

postgres_only!(a_key_that_is_claimed_anew_while_it_is_looked_at_is_kept, async |db| {
    let mut rig = Rig::on(db).await;
    for (table, columns) in [
        ("idempotency", "scope, key, reply"),
        ("taken_event_id", "app_id, event_id"),
    ] {
        let more = if table == "idempotency" { ", ''" } else { "" };
        for key in ["claimed", "expired"] {
            let sql = format!("insert into {table} ({columns}, expires_at) values ('s', '{key}'{more}, 0)");
            rig.sql(&sql, []).await;
        }
        let claim = db.connect().await.begin().await.expect("a transaction");
        let name = columns.split(", ").nth(1).expect("a column");
        let claimed = format!("update {table} set expires_at = 4000000000000000 where {name} = 'claimed'");
        claim.execute_unprepared(&claimed).await.expect("the key is claimed");
        tokio::time::timeout(DEADLINE, rig.prune())
            .await
            .expect("the janitor does not wait for the key");
        assert_eq!(rig.count(table).await, 1, "the key that is not claimed is removed");
        claim.commit().await.expect("a commit");
        rig.prune().await;
        let kept = format!("{table} where {name} = 'claimed'");
        assert_eq!(rig.count(&kept).await, 1, "{table}");
    }
});

postgres_only!(a_database_whose_clock_is_far_ahead_loses_nothing, async |db| {
    // This process' clock is 400 days behind the database's, so the database is the one that seems to be ahead.
    let days = 400 * DAY as i64 * 1_000_000;
    let clock = Clock::system_with_skew(-days);
    let own = clock.now();
    let shape = Shape {
        clock: clock.clone(),
        ..Shape::default()
    };
    let mut rig = Rig::shaped(db, shape).await;
    let app = rig.application("a").await;
    let insert = [
        ("message", "created_at", "app_id, id, event_type, expires_at", "'t', 0"),
        ("message_content", "expires_at", "app_id, message_id, body", "'{}'"),
    ];
    let id = Prefix::Message.first_id_at(own);
    for (table, instant, columns, values) in insert {
        let sql = format!("insert into {table} ({columns}, {instant}) values ($1, $2, {values}, $3)");
        let at = own.plus(Duration::from_hours(1)).0;
        rig.sql(&sql, [app.as_str().into(), id.as_str().into(), at.into()])
            .await;
    }
    for table in [
        "idempotency (scope, key, reply, expires_at)",
        "taken_event_id (app_id, event_id, expires_at)",
    ] {
        let more = if table.contains("reply") { ", ''" } else { "" };
        let sql = format!("insert into {table} values ('s', 'k'{more}, $1)");
        rig.sql(&sql, [own.plus(Duration::from_hours(1)).0.into()]).await;
    }
    within(DEADLINE, "the process goes by the database's clock", async || {
        rig.step().await;
        (clock.now() > Timestamp(own.0 + days - 1_000_000)).then_some(())
    })
    .await;
    rig.prune().await;
    for table in ["message", "message_content", "idempotency", "taken_event_id"] {
        assert_eq!(rig.count(table).await, 1, "{table}");
    }
});

both!(
    an_event_id_is_free_again_after_seven_days_and_finds_the_newest_message,
    async |db| {
        let mut api = Api::on(db).await;
        api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
        let message = json!({"eventType": "t", "eventId": "e", "payload": {}});
        let first = api.post("/app/a/msg", message.clone()).await;
        first.expect(202);
        api.rig.advance(7 * DAY - 1);
        api.post("/app/a/msg", message.clone()).await.refused(409, "conflict");
        api.rig.prune().await;
        api.post("/app/a/msg", message.clone()).await.refused(409, "conflict");
        // The event id is free even though the janitor has not run since.
        api.rig.advance(1);
        let second = api.post("/app/a/msg", message.clone()).await;
        second.expect(202);
        api.post("/app/a/msg", message.clone()).await.refused(409, "conflict");
        api.rig.advance(7 * DAY);
        assert_eq!(api.rig.count("taken_event_id").await, 1);
        api.rig.prune().await;
        assert_eq!(api.rig.count("taken_event_id").await, 0);
        let third = api.post("/app/a/msg", message).await;
        third.expect(202);
        assert_eq!(api.get("/app/a/msg/e").await.expect(200)["id"], third.field("id"));
        for sent in [&first, &second] {
            let id = sent.field("id");
            assert_eq!(api.get(&format!("/app/a/msg/{id}")).await.expect(200)["eventId"], "e");
        }
    }
);
