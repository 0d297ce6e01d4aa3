//! Scenario: a foreign transaction locks the table of attempts, as building an index does, so no outcome can be stored.
//!
//! Meanwhile messages are accepted and sent, and their receiver answers at once with a long text.

use super::report::{Figures, Report};
use super::site::{Database, Ground, Site};
use super::traffic::{Others, add_acceptance, payload, while_sampling};
use crate::Failure;
use crate::receiver::Receiver;
use sqlx::Connection;
use std::time::{Duration, Instant};

/// Messages per second of all customers together.
const RATE: u32 = 1_000;
const QUICK_RATE: u32 = 200;
const ANSWER_BYTES: usize = 20_000;
const SAMPLE: Duration = Duration::from_secs(1);

pub async fn run(ground: &Ground, report: &mut Report) -> Result<(), Failure> {
    let (locked, drain) = (ground.seconds(70, 8), ground.seconds(180, 20));
    let mut figures = Figures::default();
    let site = Site::new(ground, Database::Postgres).await?;
    let receiver = Receiver::start_answering("127.0.0.1", &payload(), &long_answer()).await?;
    let replica = site.start("a", &[]).await?;
    let second = site.start("b", &[]).await?;
    let others = Others::new(&replica, Some(&receiver)).await?;
    let resident = replica.server.memory_mb("VmRSS:");

    let mut foreign = site.connect().await?;
    let mut transaction = foreign.begin().await?;
    sqlx::query("lock table attempt in exclusive mode")
        .execute(&mut *transaction)
        .await?;
    let (mut unsettled, mut in_flight) = (None::<f64>, None::<f64>);
    let work = others.post_steadily(ground.size(RATE, QUICK_RATE), locked);
    let volley = while_sampling(SAMPLE, work, async || {
        unsettled = most(unsettled, replica.metric("unsettled").await);
        in_flight = most(in_flight, replica.metric("deliveries_in_flight").await);
    })
    .await;
    let end = Instant::now();
    transaction.rollback().await?;
    let drained = site.drained(drain).await?;
    let got = receiver.collect(&volley.accepted, Instant::now()).await;

    add_acceptance(&mut figures, "", &volley, locked);
    let sent = got.first.values().filter(|instant| **instant <= end).count();
    figures.add("sent_while_locked", sent as f64);
    let peak = replica.server.memory_mb("VmHWM:");
    for (name, value) in [
        ("resident_before_mb", resident),
        ("peak_resident_mb", peak),
        ("second_peak_resident_mb", second.server.memory_mb("VmHWM:")),
        ("most_unsettled", unsettled),
        ("most_in_flight", in_flight),
    ] {
        if let Some(value) = value {
            figures.add(name, value);
        }
    }
    figures.add("duplicates", got.duplicates as f64);
    figures.add("missing", got.missing as f64);
    figures.add("drained", f64::from(u8::from(drained)));
    figures.add("drained_after_s", end.elapsed().as_secs_f64());
    report.add("slow-settle", site.database.name(), figures);
    Ok(())
}

/// Returns the larger of both values, if there is any.
fn most(before: Option<f64>, now: Option<f64>) -> Option<f64> {
    before.into_iter().chain(now).reduce(f64::max)
}

fn long_answer() -> Vec<u8> {
    let text = "x".repeat(ANSWER_BYTES);
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {ANSWER_BYTES}\r\n\r\n{text}").into()
}
