//! Scenario: very many endpoints have parked rows and a rate of one request per second, and their receiver is fast.
//!
//! The same rows are measured without a rate too; the difference is the cost of the rate.

use super::report::{Figures, Report};
use super::rows::{NEVER, id, now, numbered};
use super::site::{Database, Ground, Site};
use super::traffic::{Others, add_acceptance, target};
use crate::Failure;
use crate::receiver::Receiver;
use postrider::domain::id::Prefix;
use std::time::{Duration, Instant};

const ENDPOINTS_PER_APPLICATION: u64 = 1_000;
/// Messages per second of all other customers together. They have no endpoint.
const RATE: u32 = 48;
/// How long to wait until the program has found the first parked rows.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// The fewest rows of an endpoint.
const LEAST_ROWS: u64 = 3;

pub async fn run(ground: &Ground, report: &mut Report) -> Result<(), Failure> {
    let counts: &[u64] = ground.size(&[2_000, 20_000, 100_000], &[1_000]);
    for endpoints in counts {
        for rate in [Some(1), None] {
            one(ground, report, *endpoints, rate).await?;
        }
    }
    Ok(())
}

async fn one(ground: &Ground, report: &mut Report, endpoints: u64, rate: Option<u32>) -> Result<(), Failure> {
    let length = ground.seconds(15, 3);
    let mut figures = Figures::default();
    let site = Site::new(ground, Database::Postgres).await?;
    let receiver = Receiver::start("127.0.0.1", "{}").await?;
    site.prepare().await?;
    let seconds = (UNDER_WAY + length).as_secs() + 5;
    // More rows in all than a fast program sends in this time; with a rate, no more than the rate allows to send.
    let rows = (ground.size(100_000, 10_000) / endpoints).max(LEAST_ROWS);
    let rows = rate.map_or(rows, |rate| rows.min(seconds * u64::from(rate)));
    fill(&site, &target(&receiver), endpoints, rows, rate).await?;

    let replica = site.start("a", &[]).await?;
    let others = Others::new(&replica, None).await?;
    tokio::time::sleep(UNDER_WAY).await;
    let before = receiver.collect(&[], Instant::now()).await;
    let (start, used) = (Instant::now(), replica.server.processor_time());
    let volley = others.post_steadily(RATE, length).await;
    let (end, used_then) = (Instant::now(), replica.server.processor_time());
    let got = receiver.collect(&[], end).await;
    // Each message goes to many endpoints here, so a further arrival is no duplicate.
    let arrived = got.first.len() + got.duplicates;
    let early = before.first.len() + before.duplicates;

    figures.add("delivered_per_s", arrived as f64 / (end - start).as_secs_f64());
    figures.add("delivered_before", early as f64);
    figures.add("rows", (endpoints * rows) as f64);
    if let Some(used) = used_then.zip(used).map(|(after, before)| after - before) {
        figures.add("program_cpu_s", used);
        figures.add("program_cpu_us_per_row", used * 1e6 / arrived.max(1) as f64);
    }
    add_acceptance(&mut figures, "others_", &volley, length);
    let rate = if rate.is_some() { "one a second each" } else { "no rate" };
    let case = format!("{}, {endpoints} endpoints, {rate}", site.database.name());
    report.add("parked", case, figures);
    Ok(())
}

/// Inserts applications with a thousand endpoints each, and `rows` parked deliveries for each of the endpoints.
async fn fill(site: &Site<'_>, url: &str, endpoints: u64, rows: u64, rate: Option<u32>) -> Result<(), Failure> {
    let now = now();
    let each = ENDPOINTS_PER_APPLICATION.min(endpoints);
    let made = |prefix, number: &str| id(site.database, prefix, now, number);
    let app_of_endpoint = made(Prefix::Application, &format!("(n - 1) / {each}"));
    let app = made(Prefix::Application, "n - 1");
    let app_of_message = made(Prefix::Application, &format!("(n - 1) / {rows}"));
    let message = made(Prefix::Message, "n");
    let endpoint = made(Prefix::Endpoint, "n");
    let rate = rate.map_or_else(|| "null".to_owned(), |rate| rate.to_string());
    let apps = endpoints / each;
    let application = format!(
        "insert into application (id, org_id, name, metadata, created_at, updated_at) \
         select {app}, (select org_id from application limit 1), 'parked', '{{}}', {now}, {now}"
    );
    let insert_endpoint = format!(
        "insert into endpoint (app_id, id, url, description, disabled, throttle_rate, metadata, headers, secrets, created_at, updated_at) \
         select {app_of_endpoint}, {endpoint}, '{url}', '', false, {rate}, '{{}}', '{{}}', '[]', {now}, {now}"
    );
    let insert_message = format!(
        "insert into message (app_id, id, event_type, created_at, expires_at) \
         select {app_of_message}, {message}, 'invoice.paid', {now}, {NEVER}"
    );
    let content = format!(
        "insert into message_content (app_id, message_id, body, expires_at) \
         select {app_of_message}, {message}, '{{}}', {NEVER}"
    );
    for (count, insert) in [
        (apps, application),
        (endpoints, insert_endpoint),
        (apps * rows, insert_message),
        (apps * rows, content),
    ] {
        site.execute(&numbered(site.database, count, &insert)).await?;
    }
    // The ids interleave the endpoints, as real traffic does: each endpoint's first row comes before any second row.
    let of_endpoint = format!("(n - 1) % {endpoints}");
    let delivery = made(Prefix::Delivery, "n");
    let app = made(Prefix::Application, &format!("({of_endpoint}) / {each}"));
    let message = made(
        Prefix::Message,
        &format!("({of_endpoint}) / {each} * {rows} + (n - 1) / {endpoints} + 1"),
    );
    let endpoint = made(Prefix::Endpoint, &format!("{of_endpoint} + 1"));
    let parked = format!(
        "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at) \
         select {delivery}, {app}, {message}, {endpoint}, 0, 0, null"
    );
    site.execute(&numbered(site.database, endpoints * rows, &parked))
        .await?;
    site.settle_tables(&["application", "endpoint", "message", "message_content", "delivery"])
        .await
}
