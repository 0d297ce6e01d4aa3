//! Scenario: a foreign transaction holds the row of one application.
//!
//! That application's customer keeps ten changes of endpoints in flight. Each of them waits for the row, and holds one
//! of the program's connections meanwhile.

use super::beats::{Beats, SAMPLE};
use super::report::{Figures, Report};
use super::site::{Database, Ground, HEARTBEAT, Site};
use super::traffic::{Others, Pressure, add_acceptance, app_of, check_calm, payload, target, while_sampling};
use crate::Failure;
use crate::receiver::Receiver;
use serde_json::json;
use sqlx::Connection;
use std::time::{Duration, Instant};

const CHANGES: usize = 10;
const CONNECTIONS: u32 = 8;
/// How long to wait until the changes have reached the lock.
const UNDER_WAY: Duration = Duration::from_secs(1);

pub async fn run(ground: &Ground, report: &mut Report) -> Result<(), Failure> {
    let (calm, pressed) = (ground.seconds(5, 2), ground.seconds(25, 5));
    let mut figures = Figures::default();
    let site = Site::new(ground, Database::Postgres).await?;
    let receiver = Receiver::start("127.0.0.1", &payload()).await?;
    let replica = site.start("a", &[]).await?;
    let others = Others::new(&replica, Some(&receiver)).await?;
    let server = &replica.server;
    let path = server.application("adversary", None).await?;
    let path = format!("/api/v1/app/{}/endpoint", app_of(&path));
    let mut changes = Vec::new();
    for number in 0..CHANGES {
        let endpoint = json!({ "url": target(&receiver) });
        let endpoint = server.call("POST", &path, &endpoint).await?;
        let endpoint = endpoint["id"].as_str().ok_or("no endpoint")?;
        let change = format!(r#"{{"description":"changed {number}"}}"#);
        changes.push(server.request(&server.token, "PATCH", &format!("{path}/{endpoint}"), &change));
    }

    let volley = others.post_when_answered(CONNECTIONS, calm).await;
    check_calm(&volley)?;
    add_acceptance(&mut figures, "calm_", &volley, calm);
    site.drained(calm).await?;
    receiver.collect(&[], Instant::now()).await;

    let mut foreign = site.connect().await?;
    let mut transaction = foreign.begin().await?;
    sqlx::query("select from application where name = 'adversary' for update")
        .execute(&mut *transaction)
        .await?;
    let pressure = Pressure::start(replica.server.address, changes, Duration::ZERO);
    tokio::time::sleep(UNDER_WAY).await;
    let start = Instant::now();
    let mut beats = Beats::watch(&site).await?;
    let work = others.post_when_answered(CONNECTIONS, pressed);
    let volley = while_sampling(SAMPLE, work, async || beats.look().await).await;
    let took = start.elapsed();
    let arrived = receiver.collect(&[], Instant::now()).await.first.len();
    add_acceptance(&mut figures, "", &volley, pressed);
    figures.add("delivered_per_s", arrived as f64 / took.as_secs_f64());
    figures.add("heartbeat_warnings", replica.logged(HEARTBEAT) as f64);
    beats.add_to(&mut figures, 1);
    figures.add("changes_refused", pressure.answered(400..600));
    transaction.rollback().await?;
    report.add("locked-row", site.database.name(), figures);
    Ok(())
}
