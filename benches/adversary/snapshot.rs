//! Scenario: a repeatable-read transaction, such as a dump or a report, stays open while rows pass through the queue.
//!
//! Vacuum may not remove these rows, so a statement that reads the queue from its beginning reads all of them. More
//! rows pass at an ordinary rate while the statements are measured.

use super::report::{Figures, Report};
use super::rows::{id, now};
use super::site::{Database, Ground, Site};
use crate::Failure;
use postrider::domain::id::Prefix;
use sqlx::{Connection, PgConnection};
use std::time::{Duration, Instant};

/// Rows per transaction.
const BATCH: u64 = 5_000;
/// Rows per second that pass while the statements are measured, in transactions of `STEADY_BATCH`.
const STEADY: u64 = 2_000;
const STEADY_BATCH: u64 = 500;

pub async fn run(ground: &Ground, report: &mut Report) -> Result<(), Failure> {
    let (rows, lease) = (ground.size(1_000_000, 50_000), ground.seconds(60, 2));
    let length = ground.seconds(15, 3);
    let mut figures = Figures::default();
    let site = Site::new(ground, Database::Postgres).await?;
    let replica = site.start("a", &[]).await?;
    site.execute("create extension pg_stat_statements").await?;
    let mut own = site.connect().await?;
    add_statements(&mut figures, "calm_", &mut own, length).await?;

    let mut foreign = site.connect().await?;
    let mut transaction = foreign.begin_with("begin isolation level repeatable read").await?;
    sqlx::query("select count(*) from delivery")
        .execute(&mut *transaction)
        .await?;
    let start = Instant::now();
    for batch in 0..rows / BATCH {
        site.execute(&passing_rows(batch * BATCH, BATCH, lease)).await?;
    }
    let took = start.elapsed();
    let measured = async {
        // A claim reads an index entry only once the lease in it has ended. The two seconds separate the rows that were
        // inserted as fast as possible from those that pass during the measurement.
        tokio::time::sleep(lease + Duration::from_secs(2)).await;
        add_statements(&mut figures, "", &mut own, length).await
    };
    tokio::select! {
        measured = measured => measured?,
        failed = pass_steadily(&site, rows, lease) => failed?,
    }
    transaction.rollback().await?;
    figures.add("rows_passed_in_s", took.as_secs_f64());
    figures.add("claim_warnings", replica.logged("claimed") as f64);
    report.add(
        "snapshot",
        format!("{}, {rows} rows since and {STEADY} a second", site.database.name()),
        figures,
    );
    Ok(())
}

/// Lets rows pass through the queue at the steady rate for as long as it is polled.
async fn pass_steadily(site: &Site<'_>, from: u64, lease: Duration) -> Result<(), Failure> {
    let mut each = tokio::time::interval(Duration::from_secs(1) * STEADY_BATCH as u32 / STEADY as u32);
    for batch in 0.. {
        each.tick().await;
        site.execute(&passing_rows(from + batch * STEADY_BATCH, STEADY_BATCH, lease))
            .await?;
    }
    Ok(())
}

/// Returns the statements that insert leased rows, as for messages that are sent at once, and remove them.
fn passing_rows(from: u64, count: u64, lease: Duration) -> String {
    let now = now();
    let until = now + i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
    let number = format!("{from} + n");
    let delivery = id(Database::Postgres, Prefix::Delivery, now, &number);
    let message = id(Database::Postgres, Prefix::Message, now, &number);
    let bound = |number: u64| id(Database::Postgres, Prefix::Delivery, now, &number.to_string());
    format!(
        "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at, owner, lease_id) \
         select {delivery}, 'app_passing', {message}, 'ep_passing', 0, 0, {until}, 'proc_passing', 1 \
         from generate_series(1, {count}) as n; \
         delete from delivery where id >= {} and id <= {}",
        bound(from + 1),
        bound(from + count)
    )
}

/// Waits for `length`, and adds how long the program's claims and beats took in the database during that time.
async fn add_statements(
    figures: &mut Figures,
    prefix: &str,
    connection: &mut PgConnection,
    length: Duration,
) -> Result<(), Failure> {
    sqlx::query("select pg_stat_statements_reset()")
        .execute(&mut *connection)
        .await?;
    tokio::time::sleep(length).await;
    for (name, which) in [
        (
            "claim",
            "query ilike '%update delivery%' and query ilike '%skip locked%'",
        ),
        ("beat", "query ilike '%update process set beat%'"),
    ] {
        let sql = format!(
            "select coalesce(sum(total_exec_time) / sum(calls), 0)::float8, coalesce(max(mean_exec_time), 0)::float8, \
             coalesce(max(max_exec_time), 0)::float8, coalesce(sum(calls), 0)::float8 \
             from pg_stat_statements join pg_database on pg_database.oid = dbid \
             where datname = current_database() and {which}"
        );
        let (mean, worst_mean, worst, calls): (f64, f64, f64, f64) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await?;
        figures.add(format!("{prefix}{name}_mean_ms"), mean);
        if name == "claim" {
            // Each lane has its own statement, and only that of first attempts reads these rows.
            figures.add(format!("{prefix}{name}_slower_lane_mean_ms"), worst_mean);
        }
        figures.add(format!("{prefix}{name}_max_ms"), worst);
        figures.add(format!("{prefix}{name}s"), calls);
    }
    Ok(())
}
