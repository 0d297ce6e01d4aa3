//! The plans of the statements that run often, on tables of 100,000 rows: no table that grows is read from end to end.
//! The texts are the ones that the store sends. Postgres plans them without values, as it does after some executions.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider::clock::Clock;
use postrider::domain::delivery::{Decision, Trigger};
use postrider::domain::health::Health;
use postrider::domain::task::{ReplayFilter, ReplayState, TaskKind, Window};
use postrider::domain::timestamp::Timestamp;
use postrider::domain::typed_id::EndpointId;
use postrider::service::token::{self, record_uses};
use postrider::slots::{Caps, Grant, Lane, Slots};
use postrider::store::background_task::{self, NewTask};
use postrider::store::console_link;
use postrider::store::deleted;
use postrider::store::endpoint_hour::{self, Merge};
use postrider::store::event_id;
use postrider::store::idempotency::{self, Key};
use postrider::store::queue::process;
use postrider::store::queue::{self, AttemptRow, Lease, LeaseKey, LeaseTerms, Settlement};
use postrider::store::retention::{self, Place};
use postrider::store::{self, audit};
use postrider::store::{poll, poller_consumer};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use serde_json::json;

use crate::api::{Api, BY_HAND};
use crate::harness::{Kind, ORG, Rig, TestDatabase, plan, recorded, rows};

const ROWS: usize = 100_000;

/// The rows of each table, one for each number `i`. Ids have the same length, so that they sort as the numbers do.
/// There are a thousand organizations, and ten applications with ten thousand of everything. Deliveries: 40 % are due
/// first attempts, 30 % are retries, 20 % are parked, 10 % are leased by a dead process. Half of the messages
/// have the tag `common`, each of the others a tag of its own.
const FILL: [&str; 20] = [
    "organization (id, name, created_at) select 'org_' || i, 'name ' || i, i",
    "api_token (id, org_id, app_id, hash, created_at) select 'tok_' || i, 'org_' || (1000000 + i % 1000),
        case when i % 4 > 0 then 'app_' || i end, 'hash' || i, i",
    "console_link (hash, org_id, role, minutes, created_by, expires_at) select 'hash' || i, 'org_' || (1000000 + i % 1000),
        0, 60, 'cli', i",
    "application (id, org_id, uid, name, metadata, created_at, updated_at)
        select 'app_' || i, 'org_' || (1000000 + i % 1000), 'uid' || i, 'name', '{}', i, i",
    "event_type (org_id, name, id, description, archived, deprecated, created_at, updated_at)
        select 'org_' || (1000000 + i % 1000), 'type.' || i, 'evtype_' || i, '', i % 2 = 0, i % 2 = 0, i, i",
    "endpoint (app_id, id, uid, url, description, disabled, metadata, headers, secrets, failing_since, created_at, updated_at)
        select 'app_' || (1000000 + i % 10), 'ep_' || i, 'uid' || i, 'http://127.0.0.1:9/', '', i % 20 = 3,
        '{}', '{}', '[]', case when i % 20 between 4 and 5 then i end, i, i",
    "endpoint_hour (app_id, endpoint_id, hour, source, delivered, ms_100, ms_7000)
        select 'app_' || (1000000 + i % 10), 'ep_' || i, 3600000000 * (i % 1000), i % 3 - 1, 2, 1,
        case when i % 100 = 7 then 1 end",
    "message (app_id, id, event_type, event_id, created_at, expires_at)
        select 'app_' || (1000000 + i % 10), 'msg_' || i, 'type.' || i, 'event' || i, i, 4000000000000000",
    "message_content (app_id, message_id, body, expires_at)
        select 'app_' || (1000000 + i % 10), 'msg_' || i, '{\"a\": 1}', 4000000000000000",
    "message_tag (app_id, message_id, tag)
        select 'app_' || (1000000 + i % 10), 'msg_' || i, case when i % 100 < 50 then 'common' else 'tag' || i end",
    "delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at, owner, lease_id)
        select 'dlv_' || i, 'app_' || (1000000 + i % 10), 'msg_' || i,
        case when i % 10 between 7 and 8 then 'ep_' || 1000000 else 'ep_' || i end, 0,
        case when i % 10 between 4 and 6 then 1 else 0 end,
        case when i % 10 between 7 and 8 then null else i end,
        case when i % 10 = 9 then 'dead' end, case when i % 10 = 9 then i end",
    "delivery_result (app_id, message_id, endpoint_id, state, updated_at)
        select 'app_' || (1000000 + i % 10), 'msg_' || i, 'ep_' || (1000000 + i % 10), i % 3, i",
    "attempt (app_id, message_id, id, endpoint_id, url, trigger, delivered, response_status, response, duration_ms, created_at)
        select 'app_' || (1000000 + i % 10), 'msg_' || i, 'atmpt_' || i, 'ep_' || (1000000 + i % 10), 'http://127.0.0.1:9/', 0,
        i % 2 = 0, 500, '', 1, i",
    "background_task (id, org_id, app_id, endpoint_id, kind, status, since_at, until_at, reached, reached_at, looked, queued,
        due_at, created_at, updated_at) select 'qtask_' || i, 'org_' || (1000000 + i % 1000), 'app_' || (1000000 + i % 10),
        'ep_' || i, i % 3, 1 + i % 2, 1, 2, '', 1, 0, 0,
        case when i % 100 = 0 then 4000000000000000 end, i, i",
    "idempotency (scope, key, reply, expires_at) select 'tok_' || i, 'key' || i, '', i",
    "audit (id, org_id, app_id, created_at, actor_kind, actor_id, operation, object_kind, object_id)
        select 'audit_' || i, 'org_' || (1000000 + i % 1000), 'app_' || (1000000 + i % 10), i,
        case when i % 2 = 0 then 'portal' else 'token' end, 'tok_' || (1000000 + i % 1000),
        'v1.test.' || (i % 40), 'endpoint', 'ep_' || i",
    "poller (app_id, id, number, uid, description, disabled, secrets, created_at, updated_at)
        select 'app_' || i, 'poll_' || i, i, 'uid' || i, '', i % 2 = 0, '[]', i, i",
    "poller_consumer (poller_id, name, app_id, place, created_at, used_at)
        select 'poll_' || (1000000 + i % 1000), 'name' || i, 'app_' || (1000000 + i % 10), 's.0', i, i",
    "poll_item (poller_number, tx, message_id) select 1000000 + i % 20, i, 'msg_' || i",
    "taken_event_id (app_id, event_id, expires_at) select 'app_' || (1000000 + i % 10), 'event' || i, i",
];

async fn fill(db: &TestDatabase) {
    let connection = db.connect().await;
    let first = 1_000_000;
    let last = first + ROWS - 1;
    for insert in FILL {
        let (into, values) = insert.split_once("select").expect("each selects");
        let numbers = format!("with recursive n(i) as (select {first} union all select i + 1 from n where i < {last})");
        // Ids have 26 characters after the prefix.
        let values = values.replace("_' || ", &format!("_{}' || ", "0".repeat(19)));
        let sql = format!("insert into {into} {numbers} select {values} from n");
        connection
            .execute_unprepared(&sql)
            .await
            .unwrap_or_else(|err| panic!("{sql}: {err}"));
    }
    connection
        .execute_unprepared("insert into process (owner, beat, started_at) values ('dead', 1, 1)")
        .await
        .expect("a process");
    connection
        .execute_unprepared("insert into poll_epoch (number, identity, last) values (0, 'a cluster from before', 0)")
        .await
        .expect("an epoch");
    connection.execute_unprepared("analyze").await.expect("statistics");
}

/// Returns the id of the row with this number.
fn id(prefix: &str, number: usize) -> String {
    format!("{prefix}_{number:026}")
}

both!(nothing_that_runs_often_reads_a_table_from_end_to_end, async |db| {
    fill(db).await;
    // One after the other, because an SQLite file allows one store at a time.
    let mut statements = recorded(async || the_queue_s_parts(db).await).1;
    statements.extend(recorded(async || a_message_s_whole_life(db).await).1);
    statements.extend(recorded(async || the_api_s_calls(db).await).1);
    assert!(
        statements.iter().any(|sql| sql.starts_with("insert into message ")),
        "the intake's task is recorded"
    );
    assert!(
        statements.iter().any(|sql| sql.starts_with(FACTS)),
        "the statement about notices of outcomes is recorded"
    );
    assert_read_by_index(db, &statements).await;
    if db.kind() == Kind::Sqlite {
        // In production SQLite has no planner statistics.
        let connection = db.connect().await;
        for sql in ["delete from sqlite_stat1", "delete from sqlite_stat4"] {
            connection
                .execute_unprepared(sql)
                .await
                .expect("statistics can be forgotten");
        }
        connection.close().await.expect("the connection closes");
        assert_read_by_index(db, &statements).await;
    }
});

both!(
    a_queue_that_has_outgrown_its_statistics_is_planned_for_anew,
    async |db| {
        fill(db).await;
        let store = db.open(Clock::test(Timestamp(2_000_000_000_000_000))).await;
        let connection = db.connect().await;
        if db.kind() == Kind::Postgres {
            for sql in [
                "create table kept as select * from delivery",
                "truncate delivery",
                "analyze delivery",
                "insert into delivery select * from kept",
            ] {
                connection.execute_unprepared(sql).await.expect(sql);
            }
            assert_eq!(believed_rows(&connection).await, 0.0);
        }
        queue::renew_statistics(&store).await.expect("statistics");
        if db.kind() == Kind::Postgres {
            let half = ROWS as f32 / 2.0;
            assert!(
                believed_rows(&connection).await > half,
                "the statistics fit the present queue"
            );
            connection
                .execute_unprepared("update pg_class set reltuples = 1 where relname = 'delivery'")
                .await
                .expect("a mark");
            queue::renew_statistics(&store).await.expect("statistics");
            assert_eq!(
                believed_rows(&connection).await,
                1.0,
                "the queue has not grown since, so the statistics stay"
            );
        }
    }
);

postgres_only!(
    plans_that_are_made_while_the_tables_are_empty_read_by_keys_too,
    async |db| {
        fill(db).await;
        let mut statements = recorded(async || the_queue_s_parts(db).await).1;
        statements.extend(recorded(async || a_message_s_whole_life(db).await).1);
        let connection = db.connect().await;
        // As on a database that is new. A connection keeps such a plan for as long as it lives.
        for table in GROWING {
            let sql = format!("truncate {table}");
            connection.execute_unprepared(&sql).await.expect(&sql);
        }
        let forget = "delete from pg_statistic";
        connection.execute_unprepared(forget).await.expect(forget);
        let indexes = index_columns(&connection).await;
        let planned: BTreeSet<_> = statements.iter().filter(|sql| is_planned(sql)).collect();
        for sql in planned {
            for step in plan(&connection, sql).await {
                let gap = indexes.iter().find(|(index, columns)| skips(&step, index, columns));
                assert!(gap.is_none(), "{sql}\nskips a column of {gap:?}:\n{step}");
            }
        }
    }
);

/// The tables of the queue and the history, which grow.
const GROWING: [&str; 5] = ["delivery", "delivery_result", "attempt", "message", "message_content"];

/// Returns the columns of each index of the tables that grow; an expression has none.
async fn index_columns(connection: &DatabaseConnection) -> Vec<(String, Vec<String>)> {
    let sql = format!(
        "select c.relname as index, string_agg(coalesce(a.attname, ''), ',' order by k.number) as columns \
         from pg_index i join pg_class c on c.oid = i.indexrelid \
         cross join lateral unnest(i.indkey) with ordinality as k(attnum, number) \
         left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum and k.attnum > 0 \
         where i.indrelid in ({}) group by c.relname",
        GROWING.map(|table| format!("'{table}'::regclass")).join(", ")
    );
    let found = rows(connection, &sql).await;
    let text = |row: &sea_orm::QueryResult, name: &str| row.try_get::<String>("", name).expect("a text");
    let columns = |row| text(row, "columns").split(',').map(str::to_owned).collect();
    found.iter().map(|row| (text(row, "index"), columns(row))).collect()
}

/// Returns whether a step looks rows up by a column of the index, and not by one before it.
fn skips(step: &str, index: &str, columns: &[String]) -> bool {
    let Some((what, condition)) = step.split_once(" by (") else {
        return false;
    };
    if !what.split_whitespace().any(|word| word == index) {
        return false;
    }
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
    let names: Vec<&str> = condition.split(|letter| !is_name(letter)).collect();
    let is_named = |column: &String| column.is_empty() || names.contains(&column.as_str());
    let first_gap = columns.iter().position(|column| !is_named(column));
    first_gap.is_some_and(|gap| {
        columns[gap..]
            .iter()
            .any(|column| !column.is_empty() && is_named(column))
    })
}

async fn believed_rows(connection: &DatabaseConnection) -> f32 {
    let sql = "select reltuples from pg_class where oid = 'delivery'::regclass";
    rows(connection, sql).await[0]
        .try_get("", "reltuples")
        .expect("a number")
}

async fn assert_read_by_index(db: &TestDatabase, statements: &[String]) {
    let connection = db.connect().await;
    let planned: BTreeSet<_> = statements.iter().filter(|sql| is_planned(sql)).collect();
    assert!(planned.len() > 50, "the statements are recorded: {planned:?}");
    for sql in planned {
        let steps = plan(&connection, sql).await;
        println!("{sql}\n    {}", steps.join("\n    "));
        let sorts = |step: &String| is_in_order(sql) && SORTS.iter().any(|sort| step.contains(sort));
        // The few rows of a small table may be sorted: their scan is the step below.
        let sorted = steps.iter().zip(steps.iter().skip(1).map(Some).chain([None]));
        let sorts_many = sorted
            .into_iter()
            .any(|(step, below)| sorts(step) && !below.is_some_and(|step| is_small(step)));
        // These look for the attempts of a message; the index by endpoint would be a detour.
        let of_messages = [REPLAY, FACTS].iter().any(|start| sql.starts_with(start));
        let by_few = sql.contains("\"endpoint_id\" || '' =");
        let detour = |step: &String| (of_messages || by_few) && step.contains("attempt_endpoint");
        // Bound rows name their messages; read by the application alone, its whole history would be compared with them.
        let whole = |step: &String| sql.contains("json_each(") && step.ends_with("(app_id=?)") && is_history(step);
        let bad = steps.iter().any(|step| is_bad(step) || detour(step) || whole(step));
        assert!(!bad && !sorts_many, "{sql}\nreads too much:\n{}", steps.join("\n"));
    }
    connection.close().await.expect("the connection closes");
}

/// The steps that sort. A page or a batch must be read in the order of an index: sorting would read everything that it
/// is a part of.
const SORTS: [&str; 2] = ["Sort ", "TEMP B-TREE FOR ORDER BY"];

const REPLAY: &str =
    "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at) select t.id";

/// The beginning of the statement with which a settlement asks what the notices of a batch of outcomes need.
const FACTS: &str = "select t.place, a.org_id, a.uid";

/// Marks a statement that reads a bounded number of rows in the order of an index, and may sort those to group them.
const GROUPED: &str = " as materialized (";

/// Filters that no index has: the planner expects that few rows pass them, and may sort those.
const FILTERS: [&str; 6] = [
    "\"event_type\" IN",
    "\"message_id\" IN",
    "\"channels\")",
    "EXISTS",
    "\"delivered\" =",
    "\"response_status\" ",
];

/// Returns whether a statement must read in the order of an index. A statement that merges pages may sort them: each
/// page is checked by itself too, with a filter.
fn is_in_order(sql: &str) -> bool {
    if sql.contains(" UNION ALL ") || sql.contains(GROUPED) {
        return false;
    }
    // The newest epoch, of a small table, is no page.
    let sql = sql.replace("order by number desc limit 1", "");
    let filters = sql.split_once(" WHERE ").map_or("", |(_, filters)| filters);
    sql.to_lowercase().contains(" limit ") && !FILTERS.iter().any(|filter| filters.contains(filter))
}

/// Returns whether a statement has a plan; those that begin and end a transaction have none.
fn is_planned(sql: &str) -> bool {
    let word = sql.split_whitespace().next().unwrap_or_default().to_lowercase();
    ["select", "insert", "update", "delete", "with"].contains(&word.as_str())
}

/// Returns whether a step reads a growing table from end to end. Small tables, and the rows that the statement itself
/// brings, may be read whole.
fn is_bad(step: &str) -> bool {
    step.contains("full scan: ") && !is_small(step)
}

/// Returns whether a step reads a table that stays small.
fn is_small(step: &str) -> bool {
    let small = ["process", "installation", "janitor_turn", "poll_epoch"];
    small
        .iter()
        .any(|name| step.split_whitespace().any(|word| word == *name))
}

/// Returns whether a step of SQLite reads a table of history.
fn is_history(step: &str) -> bool {
    ["attempt", "delivery_result", "message", "message_content"]
        .iter()
        .any(|table| step.contains(&format!("_{table}_")))
}

/// Runs `$work` in a transaction of its own and unwraps its result.
macro_rules! in_tx {
    ($store:expr, $tx:ident => $work:expr) => {{
        let $tx = $store.begin().await.expect("a transaction");
        let done = $work.await.expect("the work succeeds");
        $tx.commit().await.expect("a commit");
        done
    }};
}

/// Calls each part of the queue with about a hundred rows to work on.
async fn the_queue_s_parts(db: &TestDatabase) {
    let store = db.open(Clock::test(Timestamp(2_000_000_000_000_000))).await;
    let caps = Caps {
        process: 1000,
        endpoint: 100,
    };
    let slots = Slots::new(
        caps,
        store.clock().clone(),
        store.metrics().clone(),
        store.due().clone(),
    );
    let lasts = Duration::from_secs(60);
    let terms = LeaseTerms {
        owner: "own_1".into(),
        lease_id: 1,
        lasts,
    };
    let mut leases = Vec::new();
    for lane in [Lane::First, Lane::Retry] {
        let claimed = in_tx!(store, tx => queue::claim(&tx, &slots, &terms, lane, 100));
        assert_eq!(claimed.leases.len(), 100);
        leases.extend(claimed.leases);
    }
    let saturated = EndpointId::from(id("ep", 1_000_000));
    let wanted = [Grant {
        endpoint_id: saturated.clone(),
        rows: 50,
    }];
    let parked = in_tx!(store, tx => queue::claim_parked(&tx, &slots, &terms, &wanted));
    assert_eq!(parked.leases.len(), 50);
    let given: Vec<_> = parked.leases.iter().map(Lease::key).collect();
    in_tx!(store, tx => queue::release(&tx, &given));
    for lane in [Lane::First, Lane::Retry] {
        in_tx!(store, tx => queue::park(&tx, lane, std::slice::from_ref(&saturated)));
    }
    queue::lift(&store).await.expect("a look below the floors");
    let lost = [LeaseKey {
        delivery_id: "dlv_lost".into(),
        lease_id: 1,
    }];
    assert!(in_tx!(store, tx => queue::release_lost(&tx, &lost)).is_empty());
    let depth = queue::find_depth(&store).await.expect("the queue's depth");
    assert_eq!(depth.first, queue::DEPTH_MOST, "no more due deliveries are counted");
    let waiting = queue::find_parked_depth(&store)
        .await
        .expect("the number of parked deliveries");
    assert_eq!(waiting, queue::DEPTH_MOST, "no more parked deliveries are counted");
    let found = queue::list_parked(&store, "", 100).await.expect("a list");
    assert_eq!(found, [saturated]);

    let settlements: Vec<_> = leases
        .iter()
        .enumerate()
        .map(|(at, lease)| settlement(lease, at))
        .collect();
    in_tx!(store, tx => queue::settle(&tx, settlements.iter().collect()));
    drop(leases);
    drop(parked);

    if db.kind() == Kind::Postgres {
        let freed = in_tx!(store, tx => process::take_over(&tx, "dead", 1));
        assert_eq!(freed, 1_000, "a first chunk");
        process::list_unknown_owners(&store).await.expect("a list");
    }
    store.close().await;
}

/// Returns a settlement: over many leases all decisions and all changes of health occur, and one in five is late.
fn settlement(lease: &Lease, at: usize) -> Settlement {
    let now = Timestamp(2_000_000_000_000_000);
    Settlement {
        delivery_id: lease.delivery_id.clone(),
        lease_id: if at % 5 == 4 { 7 } else { lease.lease_id },
        app_id: lease.app_id().clone(),
        message_id: lease.message_id.clone(),
        endpoint_id: lease.endpoint_id().clone(),
        trigger: if at.is_multiple_of(7) {
            Trigger::Manual
        } else {
            Trigger::Scheduled
        },
        attempt: Some(AttemptRow {
            id: format!("atmpt_2{at:06}").into(),
            created_at: now,
            url: "http://127.0.0.1:9/".to_owned(),
            response_status: 200,
            response: String::new(),
            duration_ms: 1,
            detail: (!at.is_multiple_of(3)).then(|| r#"{"phase":"answer"}"#.into()),
        }),
        decision: match at % 3 {
            0 => Decision::Delivered,
            1 => Decision::Retry { at: now },
            _ => Decision::Failed,
        },
        attempts_made: 3 + i32::from(at.is_multiple_of(2)),
        health: match at % 4 {
            0 => Health::Restored,
            1 => Health::Failing,
            2 => Health::Exhausted { since: Timestamp(1) },
            _ => Health::Gone410,
        },
    }
}

/// Runs a message's life from the request to the last attempt, as the program does.
async fn a_message_s_whole_life(db: &TestDatabase) {
    let mut rig = Rig::on(db).await;
    let app = rig.application("plans").await;
    rig.endpoint(&app, "plans", "http://127.0.0.1:9/").await;
    for name in ["one", "one", "two"] {
        let mut message = rig.message(&app, "{}");
        message.event_id = Some(name.to_owned());
        message.key = Some(Key {
            scope: "tok".to_owned(),
            key: name.to_owned(),
            body_hash: None,
        });
        rig.intake
            .accept(message)
            .await
            .expect("the message is accepted or replayed");
    }
    let mut taken = rig.message(&app, "{}");
    taken.event_id = Some("one".to_owned());
    rig.intake.accept(taken).await.expect_err("the event id is taken");
    for _ in 0..3 {
        rig.step().await;
        rig.advance(6);
    }
    background_tasks(&mut rig, &app).await;
    let tx = rig.store.begin().await.expect("a transaction");
    let now = rig.clock.now();
    assert_eq!(idempotency::prune(&tx, now, 500).await.expect("expired keys go"), 500);
    assert_eq!(event_id::prune(&tx, now, 500).await.expect("ended event ids go"), 500);
    assert_eq!(console_link::prune(&tx, now, 500).await.expect("ended links go"), 500);
    tx.commit().await.expect("a commit");
    in_tx!(rig.store, tx => poller_consumer::prune(&tx, now, 500));
    in_tx!(rig.store, tx => store::token::prune(&tx, now, 500));
    in_tx!(rig.store, tx => retention::take_turn(&tx, "proc_plans"));
    in_tx!(rig.store, tx => retention::give_turn_back(&tx, "proc_plans"));
    in_tx!(rig.store, tx => retention::prune_contents(&tx, now, 500));
    let mut apps = retention::list_applications(&rig.store, "", 1_000)
        .await
        .expect("a list");
    apps.push(retention::NO_APP.to_owned());
    let (first, end) = (id("msg", 1_050_000), id("msg", 1_050_100));
    let old = retention::list_oldest(&rig.store, &apps, &first, &end)
        .await
        .expect("a list");
    assert_eq!(
        old.len(),
        11,
        "all applications that have messages, and the rows of pollers"
    );
    let pruned = in_tx!(rig.store, tx => retention::prune_history(&tx, &apps, (&first, &end), Place::default(), 1_000));
    assert!(
        pruned.0 >= 500 && pruned.1.is_none(),
        "a hundred rows of each table at least: {pruned:?}"
    );
    for merge in [Merge::Processes, Merge::Hours] {
        let before = Timestamp(3_600_000_000 * 500);
        assert!(
            in_tx!(rig.store, tx => endpoint_hour::merge(&tx, merge, before, 500)) > 0,
            "{merge:?}"
        );
    }
    rig.flush().await;
    in_tx!(rig.store, tx => endpoint_hour::prune(&tx, Timestamp(3_600_000_000 * 100), 500));
    let gone = "update endpoint set deleted_at = 1 where id = $1";
    rig.sql(gone, [id("ep", 1_000_002).into()]).await;
    in_tx!(rig.store, tx => deleted::prune_endpoints(&tx, Timestamp(2), 500));
    in_tx!(rig.store, tx => deleted::prune_endpoints(&tx, Timestamp(0), 500));
    in_tx!(rig.store, tx => audit::prune(&tx, Timestamp(0), 500));
    in_tx!(rig.store, tx => deleted::prune_applications(&tx, Timestamp(0), 500));
}

/// Runs each kind of background task with all its filters, from its start to its end and removal.
async fn background_tasks(rig: &mut Rig, app: &str) {
    let narrow = |state, status_class| {
        Some(ReplayFilter {
            state,
            status_class,
            ..ReplayFilter::default()
        })
    };
    for (kind, filter) in [
        (TaskKind::Recover, None),
        (TaskKind::ReplayMissing, None),
        (TaskKind::BulkReplay, narrow(ReplayState::Any, None)),
        (TaskKind::BulkReplay, narrow(ReplayState::Waiting, Some(0))),
    ] {
        let tx = rig.store.begin().await.expect("a transaction");
        let window = Window {
            since: Timestamp(0),
            until: tx.now,
        };
        let new = NewTask {
            org_id: ORG,
            app_id: app,
            endpoint_id: "ep_plans",
            kind,
            window,
            filter,
        };
        background_task::insert(&tx, new).await.expect("a task");
        tx.commit().await.expect("a commit");
    }
    rig.drain().await;
    assert_eq!(
        rig.count("background_task where status = 0").await,
        0,
        "all tasks have ended"
    );
    let tx = rig.store.begin().await.expect("a transaction");
    background_task::prune(&tx, Timestamp(0), 10)
        .await
        .expect("old ones go");
    background_task::postpone(&tx, "qtask_x", tx.now)
        .await
        .expect("the task is put off");
    tx.commit().await.expect("a commit");
}

/// Returns the paths of every list and of every read of a single thing, with their filters.
fn reads() -> Vec<String> {
    let app = format!("/app/{}", id("app", 1_000_001));
    let endpoint = format!("{app}/endpoint/{}", id("ep", 1_000_001));
    let message = id("msg", 1_000_001);
    let poller = format!("{app}/poller/{}", id("poll", 1_000_001));
    [
        "/app".to_owned(),
        "/app?order=descending".to_owned(),
        app.clone(),
        "/app/uid1000001".to_owned(),
        "/event-type".to_owned(),
        "/event-type?include_archived=true&with_content=true".to_owned(),
        "/event-type/type.1000001".to_owned(),
        format!("{app}/endpoint"),
        format!("{app}/endpoint?order=ascending"),
        format!("{app}/endpoint/uid1000001"),
        format!("{endpoint}/headers"),
        endpoint.clone(),
        format!("{app}/msg/{message}"),
        format!("{app}/msg/event1000001"),
        format!("{app}/msg/{message}/attempt/{}", id("atmpt", 1_000_001)),
        "/operational-webhook/endpoint".to_owned(),
        "/token".to_owned(),
        "/token?order=descending".to_owned(),
        format!("{app}/msg/{message}/endpoint"),
        format!("{endpoint}/stats?since=2025-12-25T00:00:00Z"),
        "/stats/delivery?by=application".to_owned(),
        "/stats/delivery".to_owned(),
        format!("/stats/delivery?by=endpoint&app_id={}", id("app", 1_000_001)),
        format!(
            "/stats/delivery?by=endpoint&app_id={0}&endpoint_id={1}",
            id("app", 1_000_001),
            id("ep", 1_000_001)
        ),
        "/audit".to_owned(),
        format!("/audit?actor={}", id("tok", 1_000_001)),
        format!("/audit?object={}", id("ep", 1_000_001)),
        "/audit?operation=v1.test.1".to_owned(),
        "/audit?operation=v1.test.1&before=2030-01-01T00:00:00Z".to_owned(),
        "/audit?after=2020-01-01T00:00:00Z".to_owned(),
        "/endpoint-health".to_owned(),
        "/endpoint-health?state=disabled".to_owned(),
        "/endpoint-health?state=slow".to_owned(),
        "/background-task".to_owned(),
        "/background-task?order=ascending".to_owned(),
        "/background-task?status=finished&task=endpoint.recover".to_owned(),
        format!("/background-task/{}", id("qtask", 1_000_001)),
        format!("{app}/msg/{message}/explain"),
        format!("{app}/msg/event1000001/explain?limit=2"),
        "/queue".to_owned(),
        format!("{app}/poller"),
        format!("{app}/poller?order=ascending"),
        format!("{app}/poller/uid1000001/settings"),
        format!("{poller}/settings"),
        format!("{poller}/token"),
        format!("{poller}/consumer"),
        format!("{poller}?limit=5"),
        format!("{poller}?event_type=type.1000001&channel=c"),
        format!("{poller}?after=2020-01-01T00:00:00Z"),
        format!("{poller}/consumer/name1000001"),
        format!("{app}/delivery"),
        format!("{app}/delivery?state=failed"),
        format!("{app}/delivery?endpoint_id=uid1000001&event_type=type.1000001"),
        format!("{app}/delivery?before=2030-01-01T00:00:00Z&after=2020-01-01T00:00:00Z"),
    ]
    .into_iter()
    .chain(history())
    .chain(searches())
    .collect()
}

/// Returns searches of every kind.
fn searches() -> impl Iterator<Item = String> {
    let ids = ["app", "ep", "msg", "atmpt", "qtask"].map(|prefix| id(prefix, 1_000_001));
    let names = ["uid1000001", "event1000001", "type.1000001", "tag1000051", "common"].map(str::to_owned);
    let texts = ids.into_iter().chain(names);
    texts.map(|text| format!("/find?q={text}"))
}

/// Returns the lists that grow with every message, with each of their filters.
fn history() -> impl Iterator<Item = String> {
    let app = format!("/app/{}", id("app", 1_000_001));
    let lists = [
        format!("{app}/msg"),
        format!("{app}/attempt/msg/{}", id("msg", 1_000_001)),
        format!("{app}/attempt/endpoint/{}", id("ep", 1_000_001)),
        format!("{app}/endpoint/{}/msg", id("ep", 1_000_001)),
    ];
    let filters = [
        "",
        "?event_types=type.1000001,other",
        "?channel=c",
        "?tag=tag1000051",
        "?tag=tag1000051&status=2&event_types=type.1000001",
        "?before=2030-01-01T00:00:00Z",
        "?after=2020-01-01T00:00:00Z",
        "?before=2030-01-01T00:00:00Z&after=2020-01-01T00:00:00Z",
        "?status=0",
        "?status=2&status_code_class=500",
        "?status=3",
        "?with_content=false",
        "?endpoint_id=uid1000001",
    ];
    // Of a tag that thousands of messages have.
    let common = format!(
        "/app/{}/attempt/endpoint/{}?tag=common",
        id("app", 1_000_001),
        id("ep", 1_000_001)
    );
    lists
        .into_iter()
        .flat_map(move |list| filters.map(|filter| format!("{list}{filter}")))
        .chain([common])
}

async fn the_api_s_calls(db: &TestDatabase) {
    let api = Api::on(db).await;
    for table in ["application", "event_type", "background_task", "audit"] {
        let sql = format!("update {table} set org_id = $1 where org_id = $2");
        let values = [api.org_id.as_str().into(), id("org", 1_000_001).into()];
        let moved = api.rig.sql(&sql, values).await;
        // The queue has left entries of its own.
        assert!(moved == 100 || moved > 100 && table == "audit", "{moved} of {table}");
    }
    for path in reads() {
        let answer = api.get(&path).await;
        let Some(next) = answer.expect(200)["iterator"].as_str() else {
            continue;
        };
        let separator = if path.contains('?') { '&' } else { '?' };
        // A poll goes forwards only.
        let is_poll = path.contains("/poller/") && answer.json.get("restarted").is_some();
        for turn in ["", "-"].iter().take(if is_poll { 1 } else { 2 }) {
            let page = api
                .get(&format!("{path}{separator}limit=2&iterator={turn}{next}"))
                .await;
            page.expect(200);
        }
    }
    let own = api.token_of(&id("app", 1_000_001)).await;
    for query in ["", "?order=ascending", "?status=finished"] {
        let list = api
            .call(&own, "GET", &format!("/background-task{query}"), &[], "")
            .await;
        list.expect(200);
    }
    // Whatever an application's token writes today is counted.
    let endpoint = format!("/app/{}/endpoint/{}", id("app", 1_000_001), id("ep", 1_000_001));
    for body in [r#"{"description": "a"}"#, r#"{"description": "b"}"#] {
        api.call(&own, "PATCH", &endpoint, &[], body).await.expect(200);
    }
    write_everything(&api).await;
}

/// Calls each write once.
async fn write_everything(api: &Api) {
    let app = json!({"name": "n", "uid": "u"});
    api.post_once("/app", "key", app.clone()).await.expect(201);
    api.post("/app?get_if_exists=true", app.clone()).await.expect(200);
    api.put("/app/u", app).await.expect(200);
    api.patch("/app/u", json!({"name": "m"})).await.expect(200);
    api.post("/event-type", json!({"name": "a", "description": ""}))
        .await
        .expect(201);
    api.put("/event-type/a", json!({"description": ""})).await.expect(200);
    api.patch("/event-type/a", json!({"description": "d"}))
        .await
        .expect(200);
    // This endpoint gets notices of the writes that follow.
    let operational = json!({"url": "http://127.0.0.1:9/", "uid": "o"});
    api.post("/operational-webhook/endpoint", operational.clone())
        .await
        .expect(201);
    api.put("/operational-webhook/endpoint/o", operational)
        .await
        .expect(200);
    let endpoint = json!({"url": "http://127.0.0.1:9/", "uid": "e", "eventTypes": ["a"]});
    api.post("/app/u/endpoint", endpoint.clone()).await.expect(201);
    api.put("/app/u/endpoint/e", endpoint).await.expect(200);
    api.patch("/app/u/endpoint/e", json!({"eventTypes": ["a"]}))
        .await
        .expect(200);
    api.get("/app/u/endpoint/e/secret").await.expect(200);
    let message = json!({"eventType": "a", "eventId": "m", "payload": {}, "channels": ["c"], "tags": ["t"]});
    api.post_once("/app/u/msg", "m", message).await.expect(202);
    api.post_once("/app/u/msg/m/endpoint/e/resend", "r", json!({}))
        .await
        .expect(202);
    api.delete("/app/u/msg/m/content").await.expect(204);
    let attempt = id("atmpt", 1_000_001);
    let tried = format!(
        "/app/{}/msg/{}/attempt/{attempt}",
        id("app", 1_000_001),
        id("msg", 1_000_001)
    );
    api.delete(&format!("{tried}/content")).await.expect(204);
    api.post("/app/u/endpoint/e/secret/rotate", json!({})).await.expect(200);
    api.put("/app/u/endpoint/e/headers", json!({"headers": {"a": "b"}}))
        .await
        .expect(204);
    api.patch("/app/u/endpoint/e/headers", json!({"headers": {"a": "b"}}))
        .await
        .expect(204);
    api.post_once(
        "/app/u/endpoint/e/recover",
        "r",
        json!({"since": "2026-01-01T00:00:00Z"}),
    )
    .await
    .expect(202);
    let task = api.get("/background-task").await.expect(200)["data"][0]["id"].clone();
    let task = task.as_str().expect("an id");
    api.post(&format!("/background-task/{task}/cancel"), json!({}))
        .await
        .expect(200);
    let token = json!({"name": "n", "role": "viewer"});
    let made = api.post_once("/token", "t", token).await.field("id");
    api.patch(&format!("/token/{made}"), json!({"role": "sender"}))
        .await
        .expect(200);
    api.delete(&format!("/token/{made}")).await.expect(204);
    let other = json!({"name": "n", "role": "admin"});
    let made = api.post("/token", other).await.field("id");
    // With a configured token it is not asked whether another admin is left.
    let left = token::delete(&api.rig.store, &BY_HAND, &api.org_id, &made, false).await;
    left.expect("another admin is left");
    let link = api.post("/auth/console-link", json!({"role": "viewer"})).await;
    let code = json!({"code": link.field("code")});
    let session = api.post("/auth/console-session", code).await.field("token");
    api.call(&session, "POST", "/auth/logout", &[], "").await.expect(204);
    record_uses(&api.rig.store).await.expect("uses are recorded");
    for sessions in [json!([]), json!(["s"])] {
        let body = json!({"sessionIds": sessions});
        api.post("/auth/app/u/expire-all", body).await.expect(204);
    }
    write_pollers(api).await;
    api.delete("/app/u/endpoint/e").await.expect(204);
    api.delete("/event-type/a").await.expect(204);
    api.delete("/event-type/a?expunge=true").await.expect(204);
    api.delete("/app/u").await.expect(204);
}

/// Calls each write of pollers once, sends them messages in both ways, and looks for a poll that waits.
async fn write_pollers(api: &Api) {
    let poller = json!({"uid": "p", "eventTypes": ["a"]});
    api.post_once("/app/u/poller", "p", poller.clone()).await.expect(201);
    api.put("/app/u/poller/p", poller).await.expect(200);
    api.patch("/app/u/poller/p", json!({"eventTypes": ["a"]}))
        .await
        .expect(200);
    api.post("/app/u/poller/p/secret/rotate", json!({})).await.expect(200);
    // With a key, so that Postgres can tell the type of each parameter from the statement alone.
    for (key, event_id) in [("stepped", json!("polled")), ("at once", json!(null))] {
        let message = json!({"eventType": "a", "eventId": event_id, "payload": {}});
        api.post_once("/app/u/msg", key, message).await.expect(202);
    }
    let page = api.get("/app/u/poller/p/consumer/c").await.field("iterator");
    let next = format!("/app/u/poller/p/consumer/c?iterator={page}");
    api.get(&next).await.expect(200);
    let seek = json!({"after": "2026-01-01T00:00:00Z"});
    api.post("/app/u/poller/p/consumer/c/seek", seek).await.expect(200);
    let token = api.post("/app/u/poller/p/token", json!({"name": "n"})).await;
    let (id, text) = (token.field("id"), token.field("token"));
    api.call(&text, "GET", "/app/u/poller/p", &[], "").await.expect(200);
    api.delete(&format!("/app/u/poller/p/token/{id}")).await.expect(204);
    let store = &api.rig.store;
    let found = rows(&api.rig.db, "select number from poller where uid = 'p'").await;
    let number = found[0].try_get("", "number").expect("a number");
    let mut waiting = store.waits().enter(number, "tests").expect("a place");
    let end = store.clock().monotonic() + Duration::from_secs(1);
    let waits = waiting.wait(store.clock(), (0, String::new()), end);
    let looks = async {
        poll::look(store, true).await.expect("a look");
        store.waits().close();
    };
    tokio::join!(waits, looks);
    poll::find_oldest_writer(store).await.expect("a number, or none");
    api.delete("/app/u/poller/p").await.expect(204);
}
