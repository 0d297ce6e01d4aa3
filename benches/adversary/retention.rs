//! Scenario: the messages of many applications, interleaved in time, are older than the history that is kept.
//!
//! The janitor removes them while checkpoints follow each other closely. The first change of a page after a checkpoint
//! writes the whole page into the write-ahead log, so the log shows how many pages each removed row has touched.

use super::report::{Figures, Report};
use super::rows::{DAY, NEVER, id, now, numbered};
use super::site::{Database, Ground, Site};
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

pub async fn run(ground: &Ground, report: &mut Report) -> Result<(), Failure> {
    let (messages, apps) = (ground.size(20_000, 2_000), ground.size(2_000, 200));
    let limit = ground.seconds(300, 60);
    let mut figures = Figures::default();
    let site = Site::new(ground, Database::Postgres).await?;
    let replica = site.start("first", &[]).await?;
    // Creates the organization to which the inserted applications belong.
    replica.server.application("first", None).await?;
    replica.server.stop().await?;
    fill(&site, messages, apps).await?;
    let rows = site.number(LEFT).await?;
    let mut connection = site.connect().await?;
    sqlx::query("checkpoint").execute(&mut connection).await?;

    let from = wal_position(&mut connection).await?;
    let start = Instant::now();
    let _replica = site.start("a", &["POSTRIDER_HISTORY_RETENTION=7"]).await?;
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
    site.execute(&numbered(apps, &insert)).await?;
    let each = messages / SLICES;
    for slice in 0..SLICES {
        let then = first + (slice as i64 + 1) * (DAY / 2) / SLICES as i64;
        for insert in inserts(site.database, apps, (first, then), slice * each) {
            site.execute(&numbered(each, &insert)).await?;
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
    let number = format!("({from} + n)");
    // A prime deals the messages out, so that neighbours in a page belong to applications that are far apart.
    let owner = format!("({number} * 7919) % {apps} + 1");
    let app = id(database, Prefix::Application, made_at, &owner);
    let endpoint = id(database, Prefix::Endpoint, made_at, &owner);
    let message = id(database, Prefix::Message, then, &number);
    let attempt = id(database, Prefix::Attempt, then, &number);
    // 576 characters that hardly compress.
    let body = format!(
        "'{{\"note\":\"' || (select string_agg(md5({number} || '.' || i), '') from generate_series(1, 18) as i) || '\"}}'"
    );
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
