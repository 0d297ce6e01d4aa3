//! Scenario: the screens of an installation that has a long history.
//!
//! Fills the tables of history with the attempts of 90 days, as the program would have written them, and their sums; of
//! the last day one message in twenty waits for a retry. Reports what the tables take on disk, and how long the calls of
//! a console take (console.rs). The large form is 10,000,000 attempts of 10,000 applications; `--attempts` names another
//! size.

use super::console;
use super::report::{Figures, Report};
use super::rows::{DAY, NEVER, id, now, numbered};
use super::site::{Database, Ground, Site};
use crate::Failure;
use futures_util::future::try_join_all;
use postrider::domain::id::Prefix;
use std::ops::Range;
use std::time::Instant;

/// One application for so many attempts.
pub const ATTEMPTS_PER_APPLICATION: u64 = 1_000;
const DAYS: i64 = 90;
const HOUR: i64 = DAY / 24;
const HOURS: u64 = DAYS as u64 * 24;
/// The hours that one transaction fills in on SQLite. Each day has rows of all applications, so each transaction writes
/// nearly all pages again: 10,000,000 attempts by days wrote hundreds of gigabytes. The pages of a transaction stay in a
/// cache of up to 4 GB.
const HOURS_TOGETHER: usize = 15 * 24;
/// The endpoints of the first application, which gets one attempt in ten. All others have one endpoint.
const ENDPOINTS: u64 = 250;
/// The buckets of the histogram in the order of their columns: the column, and where the bucket ends.
const BUCKETS: [(&str, i64); 8] = [
    ("ms_50", 50),
    ("ms_70", 70),
    ("ms_100", 100),
    ("ms_200", 200),
    ("ms_500", 500),
    ("ms_1000", 1_000),
    ("ms_5000", 5_000),
    ("ms_10000", i64::MAX),
];
const TABLES: [&str; 8] = [
    "application",
    "endpoint",
    "message",
    "message_tag",
    "attempt",
    "delivery",
    "delivery_result",
    "endpoint_hour",
];

pub async fn run(ground: &Ground, report: &mut Report) -> Result<(), Failure> {
    for database in [Database::Postgres, Database::Sqlite] {
        one(ground, report, database).await?;
    }
    Ok(())
}

async fn one(ground: &Ground, report: &mut Report, database: Database) -> Result<(), Failure> {
    let attempts = ground.attempts.unwrap_or(ground.size(10_000_000, 50_000));
    let apps = (attempts / ATTEMPTS_PER_APPLICATION).max(10);
    let mut figures = Figures::default();
    let site = Site::new(ground, database).await?;
    site.prepare().await?;
    let filling = Instant::now();
    let busy = fill(&site, attempts, apps).await?;
    figures.add("filled_in_s", filling.elapsed().as_secs_f64());
    for table in ["message", "attempt", "delivery", "endpoint_hour"] {
        let rows = site.number(&format!("select count(*) from {table}")).await?;
        let bytes = site.table_bytes(table).await?;
        figures.add(format!("{table}_rows"), rows as f64);
        figures.add(format!("{table}_mb"), bytes as f64 / 1024.0 / 1024.0);
        figures.add(format!("{table}_bytes_per_row"), bytes as f64 / rows.max(1) as f64);
    }
    let replica = site.start("a", &[]).await?;
    console::time(&replica, &busy, &mut figures).await?;
    let case = format!("{}, {attempts} attempts of {apps} applications", database.name());
    report.add("history", case, figures);
    Ok(())
}

/// Inserts the rows. Returns the id of the application with many endpoints.
pub async fn fill(site: &Site<'_>, attempts: u64, apps: u64) -> Result<String, Failure> {
    let end = now();
    let begin = end - DAYS * DAY;
    for insert in things(site.database, apps, begin) {
        site.execute(&insert).await?;
    }
    let together = match site.database {
        Database::Postgres => 24,
        Database::Sqlite => HOURS_TOGETHER,
    };
    for first in (0..HOURS).step_by(together) {
        // A transaction for each table.
        let mut inserts: [String; 4] = Default::default();
        for hour in first..(first + together as u64).min(HOURS) {
            let new = hour * attempts / HOURS..(hour + 1) * attempts / HOURS;
            let at = begin + hour as i64 * HOUR;
            if new.is_empty() {
                continue;
            }
            for (all, insert) in inserts.iter_mut().zip(happenings(site.database, apps, begin, at, new)) {
                *all += &insert;
                *all += "; ";
            }
        }
        match site.database {
            Database::Postgres => _ = try_join_all(inserts.iter().map(|insert| site.execute(insert))).await?,
            Database::Sqlite => {
                let inserts = inserts.concat();
                let pragmas = "pragma synchronous = off; pragma cache_size = -4000000;";
                site.execute(&format!("{pragmas} begin; {inserts} commit")).await?;
            }
        }
    }
    for insert in sums(end).into_iter().chain(waiting(end)) {
        site.execute(&insert).await?;
    }
    site.settle_tables(&TABLES).await?;
    let first = Prefix::Application.first_id_at(postrider::domain::timestamp::Timestamp(begin));
    Ok(format!("{}{:014}", &first[..first.len() - 14], 0))
}

/// Returns the statements that insert applications and endpoints. One endpoint in fifty fails, one in a hundred is
/// disabled.
fn things(database: Database, apps: u64, at: i64) -> [String; 3] {
    let application = id(database, Prefix::Application, at, "n - 1");
    let insert = format!(
        "insert into application (id, org_id, uid, name, metadata, created_at, updated_at) \
         select {application}, (select org_id from application limit 1), 'customer-' || (n - 1), 'old', '{{}}', {at}, {at}"
    );
    let endpoint = |app: &str, number: &str| {
        format!(
            "insert into endpoint (app_id, id, uid, url, description, disabled, metadata, headers, secrets, \
             failing_since, created_at, updated_at) select {}, {}, 'endpoint-' || ({number}), \
             'http://127.0.0.1:1/', '', n % 100 = 7, '{{}}', '{{}}', '[]', \
             case when n % 50 = 3 then {at} + n end, {at}, {at} + n",
            id(database, Prefix::Application, at, app),
            id(database, Prefix::Endpoint, at, number),
        )
    };
    [
        numbered(database, apps, &insert),
        numbered(database, ENDPOINTS, &endpoint("0", "n - 1")),
        numbered(database, apps - 1, &endpoint("n", &format!("{ENDPOINTS} + n"))),
    ]
}

/// Returns the statements that insert messages accepted at `at` with these numbers, each with one attempt and its result,
/// and one in ten with a tag. `begin` is the instant of applications and endpoints.
fn happenings(database: Database, apps: u64, begin: i64, at: i64, new: Range<u64>) -> [String; 4] {
    // A bigint: its products are beyond an integer of Postgres.
    let number = format!("({} + cast(n as bigint))", new.start);
    // A prime deals the messages out, so that neighbours in a page belong to applications that are far apart.
    let other = format!("1 + ({number} * 7919) % {}", apps - 1);
    let owner = format!("case when {number} % 10 = 0 then 0 else {other} end");
    let target =
        format!("case when {number} % 10 = 0 then ({number} / 10) % {ENDPOINTS} else {ENDPOINTS} + {other} end");
    let app = id(database, Prefix::Application, begin, &owner);
    let endpoint = id(database, Prefix::Endpoint, begin, &target);
    let message = id(database, Prefix::Message, at, &number);
    let attempt = id(database, Prefix::Attempt, at, &number);
    let fails = format!("{number} % 20 = 1");
    let all = |insert: String| numbered(database, new.end - new.start, &insert);
    [
        all(format!(
            "insert into message (app_id, id, event_type, event_id, created_at, expires_at) \
             select {app}, {message}, 'invoice.paid', 'event-' || {number}, {at}, {NEVER}"
        )),
        all(format!(
            "insert into message_tag (app_id, message_id, tag) select {app}, {message}, 'order-' || ({number} / 100)"
        )) + &format!(" where {number} % 10 = 0"),
        all(format!(
            "insert into attempt (app_id, message_id, id, endpoint_id, url, trigger, delivered, response_status, response, \
             duration_ms, created_at) \
             select {app}, {message}, {attempt}, {endpoint}, 'http://127.0.0.1:1/hook', 0, not ({fails}), \
             case when {fails} then 500 else 204 end, '', 20 + ({number} * 37) % 900 + case when {number} % 997 = 0 then 6000 \
             else 0 end, {at}"
        )),
        all(format!(
            "insert into delivery_result (app_id, message_id, endpoint_id, state, updated_at) \
             select {app}, {message}, {endpoint}, case when {fails} then 2 else 0 end, {at}"
        )),
    ]
}

/// Returns the statements that sum up the attempts: by hours for 35 days, by days before. The last day is not merged.
fn sums(end: i64) -> [String; 3] {
    let day = end - end % DAY - 35 * DAY;
    let young = end - DAY;
    let mut begin = 0;
    let counts = BUCKETS.map(|(_, end)| {
        let count =
            format!("nullif(sum(case when duration_ms >= {begin} and duration_ms < {end} then 1 else 0 end), 0)");
        begin = end;
        count
    });
    let (names, counts) = (BUCKETS.map(|(name, _)| name).join(", "), counts.join(", "));
    let insert = |source: i64, length: i64, condition: &str| {
        format!(
            "insert into endpoint_hour (app_id, endpoint_id, hour, source, delivered, failed, status_5xx, last_success, {names}) \
             select app_id, endpoint_id, created_at - created_at % {length}, {source}, \
             nullif(sum(case when delivered then 1 else 0 end), 0), nullif(sum(case when delivered then 0 else 1 end), 0), \
             nullif(sum(case when delivered then 0 else 1 end), 0), max(case when delivered then created_at end), {counts} \
             from attempt where {condition} group by 1, 2, 3"
        )
    };
    [
        insert(-1, DAY, &format!("created_at < {day}")),
        insert(0, HOUR, &format!("created_at >= {day} and created_at < {young}")),
        insert(4_711, HOUR, &format!("created_at >= {young}")),
    ]
}

/// Returns the statements that let the failed messages of the last day wait for a retry, due after the run.
fn waiting(end: i64) -> [String; 2] {
    let (young, due) = (end - DAY, end + DAY);
    let delivery = "'dlv_' || substr(message_id, 5)";
    [
        format!(
            "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at) \
             select {delivery}, app_id, message_id, endpoint_id, 0, 1, {due} from attempt \
             where created_at >= {young} and not delivered"
        ),
        format!("update delivery_result set state = 1, next_at = {due} where state = 2 and updated_at >= {young}"),
    ]
}
