//! Scenario: the messages of many applications, interleaved in time, are older than the history that is kept.
//!
//! First, the janitor removes them while checkpoints follow each other closely. The first change of a page after a
//! checkpoint writes the whole page into the write-ahead log, so the log shows how many pages each removed row has
//! touched.
//!
//! Then it removes more of them, on both databases: first at rest, then by turns while messages are accepted at a steady
//! rate and while they are accepted and nothing is removed. The two show how fast it can remove, what that costs, and
//! what it does to the time until a message is accepted.

use super::report::{Figures, Report, median};
use super::rows::{DAY, NEVER, id, now, numbered};
use super::site::{Database, Ground, Site};
use super::traffic::{Others, check_calm, waits_ms};
use crate::Failure;
use postrider::domain::id::Prefix;
use sqlx::PgConnection;
use std::time::{Duration, Instant};

/// The query that counts the old rows of all tables.
const LEFT: &str = "select (select count(*) from message) + (select count(*) from message_content) \
                    + (select count(*) from attempt) + (select count(*) from delivery_result)";
/// A checkpoint is made whenever one part in `SHARE` of the rows has been removed. Between two of its checkpoints a
/// large table has about as many changed pages.
const SHARE: i64 = 20;
const POLL: Duration = Duration::from_millis(20);
/// The number of instants at which messages were accepted.
const SLICES: u64 = 100;
/// The rate at which messages are accepted beside the removal.
const RATE: u32 = 1_000;
/// The setting with which all old messages are to go, and the one with which all are kept.
const REMOVES: &str = "POSTRIDER_HISTORY_RETENTION=7";
const KEEPS: &str = "POSTRIDER_HISTORY_RETENTION=180";
/// Until the program has opened its connections and learned its applications.
const WARM: Duration = Duration::from_secs(2);

pub async fn run(ground: &Ground, report: &mut Report) -> Result<(), Failure> {
    log(ground, report).await?;
    for database in [Database::Postgres, Database::Sqlite] {
        speed(ground, report, database).await?;
    }
    Ok(())
}

/// Measures how fast old messages are removed at rest and beside accepted ones, and what that costs.
async fn speed(ground: &Ground, report: &mut Report, database: Database) -> Result<(), Failure> {
    let messages = ground.attempts.unwrap_or(ground.size(600_000, 10_000));
    let (apps, turns) = (ground.size(2_000, 200), ground.size(4, 1));
    let (rest, length) = (ground.seconds(5, 1), ground.seconds(6, 2));
    let old = format!("select count(*) from message where created_at < {}", now() - 7 * DAY);
    let mut figures = Figures::default();
    let site = Site::new(ground, database).await?;
    site.prepare().await?;
    fill(&site, messages, apps).await?;

    let before = site.number(&old).await?;
    let replica = site.start("rest", &[REMOVES]).await?;
    let (start, used) = (Instant::now(), site.database_time(&replica));
    tokio::time::sleep(rest).await;
    let used = site
        .database_time(&replica)
        .zip(used)
        .map(|(then, before)| then - before);
    let took = start.elapsed();
    replica.server.stop().await?;
    let removed = (before - site.number(&old).await?) as f64;
    figures.add("at_rest_messages_per_s", removed / took.as_secs_f64());
    if let Some(used) = used {
        figures.add("at_rest_database_us_per_message", used * 1e6 / removed.max(1.0));
    }

    let (mut calm, mut beside, mut rates, mut costs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..turns {
        let mut used = [0.0; 2];
        for removes in [turn % 2 == 0, turn % 2 == 1] {
            let before = site.number(&old).await?;
            let setting = if removes { REMOVES } else { KEEPS };
            let replica = site.start("beside", &[setting]).await?;
            let began = Instant::now();
            let others = Others::new(&replica, None).await?;
            others.post_steadily(RATE, WARM).await;
            let from = site.database_time(&replica).unwrap_or_default();
            let volley = others.post_steadily(RATE, length).await;
            used[usize::from(removes)] = site.database_time(&replica).unwrap_or_default() - from;
            check_calm(&volley)?;
            let took = began.elapsed();
            replica.server.stop().await?;
            let times = if removes { &mut beside } else { &mut calm };
            times.push(waits_ms(&volley));
            if removes {
                rates.push((before - site.number(&old).await?) as f64 / took.as_secs_f64());
            }
        }
        let removed = rates.last().copied().unwrap_or_default() * length.as_secs_f64();
        costs.push((used[1] - used[0]) * 1e6 / removed.max(1.0));
    }
    figures.add("beside_messages_per_s", median(rates));
    figures.add("beside_database_us_per_message", median(costs));
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let of = |times: &[Vec<f64>]| -> Vec<f64> {
            let at = |times: &Vec<f64>| times.get((times.len() as f64 * share) as usize).copied();
            times.iter().filter_map(at).collect()
        };
        let ratios = of(&beside)
            .iter()
            .zip(of(&calm))
            .map(|(with, without)| with / without)
            .collect();
        figures.add(format!("calm_{name}_ms"), median(of(&calm)));
        figures.add(format!("beside_{name}_ms"), median(of(&beside)));
        figures.add(format!("{name}_ratio"), median(ratios));
    }
    figures.add("left", site.number(&old).await? as f64);
    let case = format!(
        "{}, {messages} messages of {apps} applications, {RATE} accepted a second",
        database.name()
    );
    report.add("retention", case, figures);
    Ok(())
}

/// Measures what removing writes into Postgres' log.
async fn log(ground: &Ground, report: &mut Report) -> Result<(), Failure> {
    let (messages, apps) = (ground.size(20_000, 2_000), ground.size(2_000, 200));
    let limit = ground.seconds(300, 60);
    let mut figures = Figures::default();
    let site = Site::new(ground, Database::Postgres).await?;
    site.prepare().await?;
    fill(&site, messages, apps).await?;
    let rows = site.number(LEFT).await?;
    let mut connection = site.connect().await?;
    sqlx::query("checkpoint").execute(&mut connection).await?;

    let from = wal_position(&mut connection).await?;
    let start = Instant::now();
    let _replica = site.start("a", &[REMOVES]).await?;
    let (mut left, mut checkpoint_at, mut checkpoints) = (rows, rows, 0_u32);
    let mut end = start;
    while left > 0 && start.elapsed() < limit {
        tokio::time::sleep(POLL).await;
        let now_left = site.number(LEFT).await?;
        if now_left < left {
            (left, end) = (now_left, Instant::now());
        }
        if checkpoint_at - left >= rows / SHARE {
            sqlx::query("checkpoint").execute(&mut connection).await?;
            checkpoint_at = left;
            checkpoints += 1;
        }
    }
    let wal = (wal_position(&mut connection).await? - from) as f64;
    let removed = (rows - left).max(1) as f64;
    figures.add("wal_mb", wal / 1024.0 / 1024.0);
    figures.add("wal_bytes_per_row", wal / removed);
    figures.add("rows_removed", removed);
    figures.add("rows_left", left as f64);
    figures.add("removed_in_s", (end - start).as_secs_f64());
    figures.add("checkpoints", f64::from(checkpoints));
    let case = format!("{}, {messages} messages of {apps} applications", site.database.name());
    report.add("retention", case, figures);
    Ok(())
}

/// Inserts messages of half a day, dealt out to the applications, with one attempt each.
async fn fill(site: &Site<'_>, messages: u64, apps: u64) -> Result<(), Failure> {
    let first = now() - 30 * DAY;
    let application = id(site.database, Prefix::Application, first, "n");
    let insert = format!(
        "insert into application (id, org_id, name, metadata, created_at, updated_at) \
         select {application}, (select org_id from application limit 1), 'old', '{{}}', {first}, {first}"
    );
    site.execute(&numbered(site.database, apps, &insert)).await?;
    let each = messages / SLICES;
    for slice in 0..SLICES {
        let then = first + (slice as i64 + 1) * (DAY / 2) / SLICES as i64;
        for insert in inserts(site.database, apps, (first, then), slice * each) {
            site.execute(&numbered(site.database, each, &insert)).await?;
        }
    }
    site.settle_tables(&[
        "application",
        "message",
        "message_content",
        "attempt",
        "delivery_result",
    ])
    .await
}

/// Returns the statements that insert messages with their contents, attempts and results, accepted at the second
/// instant and numbered from `from` on. The first instant is that of their applications.
fn inserts(database: Database, apps: u64, (made_at, then): (i64, i64), from: u64) -> [String; 4] {
    // A bigint: its products are beyond an integer of Postgres.
    let number = format!("({from} + cast(n as bigint))");
    // A prime deals the messages out, so that neighbours in a page belong to applications that are far apart.
    let owner = format!("({number} * 7919) % {apps} + 1");
    let app = id(database, Prefix::Application, made_at, &owner);
    let endpoint = id(database, Prefix::Endpoint, made_at, &owner);
    let message = id(database, Prefix::Message, then, &number);
    let attempt = id(database, Prefix::Attempt, then, &number);
    // 576 characters that hardly compress.
    let note = match database {
        Database::Postgres => {
            format!("(select string_agg(md5({number} || '.' || i), '') from generate_series(1, 18) as i)")
        }
        Database::Sqlite => "hex(randomblob(288))".to_owned(),
    };
    let body = format!("'{{\"note\":\"' || {note} || '\"}}'");
    [
        format!(
            "insert into message (app_id, id, event_type, created_at, expires_at) \
             select {app}, {message}, 'invoice.paid', {then}, {NEVER}"
        ),
        format!(
            "insert into message_content (app_id, message_id, body, expires_at) \
             select {app}, {message}, {body}, {NEVER}"
        ),
        format!(
            "insert into attempt (app_id, message_id, id, endpoint_id, url, trigger, delivered, response_status, response, \
             duration_ms, created_at) \
             select {app}, {message}, {attempt}, {endpoint}, 'http://127.0.0.1:1/hook', 0, true, 204, '', 12, {then}"
        ),
        format!(
            "insert into delivery_result (app_id, message_id, endpoint_id, state, updated_at) \
             select {app}, {message}, {endpoint}, 0, {then}"
        ),
    ]
}

/// Returns the position in the write-ahead log in bytes.
async fn wal_position(connection: &mut PgConnection) -> Result<i64, Failure> {
    let sql = "select (pg_current_wal_insert_lsn() - '0/0')::int8";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}
