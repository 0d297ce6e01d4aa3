//! Scenario: a customer's portal token asks for pages of messages on a channel that no message has.
//!
//! Each page reads all messages of that customer.

use super::beats::{Beats, SAMPLE};
use super::report::{Figures, Report};
use super::rows::{NEVER, id, now, numbered};
use super::site::{Database, Ground, HEARTBEAT, Replica, Site};
use super::traffic::{Others, Pressure, add_acceptance, app_of, check_calm, payload, while_sampling};
use crate::Failure;
use crate::receiver::Receiver;
use postrider::domain::id::Prefix;
use serde_json::json;
use std::time::{Duration, Instant};

/// Messages per second of all other customers together.
const RATE: u32 = 100;

pub async fn run(ground: &Ground, report: &mut Report) -> Result<(), Failure> {
    let on_postgres = (Database::Postgres, ground.size(3_000_000, 300_000), 24);
    let on_sqlite = (Database::Sqlite, ground.size(1_000_000, 100_000), 12);
    for (database, messages, connections) in [on_postgres, on_sqlite] {
        one(ground, report, database, messages, connections).await?;
    }
    Ok(())
}

async fn one(
    ground: &Ground,
    report: &mut Report,
    database: Database,
    messages: u64,
    connections: usize,
) -> Result<(), Failure> {
    let (calm, pressed, drain) = (ground.seconds(5, 2), ground.seconds(30, 5), ground.seconds(90, 10));
    let mut figures = Figures::default();
    let site = Site::new(ground, database).await?;
    let receiver = Receiver::start("127.0.0.1", &payload()).await?;
    let replica = site.start("a", &[]).await?;
    // The second process gets no requests. If the first one seems dead, it takes over its deliveries and sends them
    // again, which shows as duplicates.
    let second = match database {
        Database::Postgres => Some(site.start("b", &[]).await?),
        Database::Sqlite => None,
    };
    let others = Others::new(&replica, Some(&receiver)).await?;
    let read = read_request(&site, &replica, messages).await?;

    let volley = others.post_steadily(RATE, calm).await;
    check_calm(&volley)?;
    add_acceptance(&mut figures, "calm_", &volley, calm);
    receiver.collect(&volley.accepted, Instant::now() + calm).await;

    let pressure = Pressure::start(replica.server.address, vec![read; connections], Duration::ZERO);
    let mut beats = match database {
        Database::Postgres => Some(Beats::watch(&site).await?),
        Database::Sqlite => None,
    };
    let work = others.post_steadily(RATE, pressed);
    let volley = while_sampling(SAMPLE, work, async || {
        if let Some(beats) = &mut beats {
            beats.look().await;
        }
    })
    .await;
    let end = Instant::now();
    let (answered, refused) = (pressure.answered(200..300), pressure.answered(500..600));
    let wal = site.wal_file_mb();
    drop(pressure);
    let got = receiver.collect(&volley.accepted, end + drain).await;
    let mut duplicates = got.duplicates;
    if database == Database::Postgres {
        site.drained(drain).await?;
        let late = receiver.collect(&[], Instant::now()).await;
        duplicates += late.first.len() + late.duplicates;
    }

    add_acceptance(&mut figures, "", &volley, pressed);
    let accepted = volley.accepted.len().max(1) as f64;
    let in_time = got.first.values().filter(|instant| **instant <= end).count();
    figures.add("delivered_in_time_percent", 100.0 * in_time as f64 / accepted);
    figures.add("missing", got.missing as f64);
    figures.add("duplicates", duplicates as f64);
    figures.add("reads_answered", answered);
    figures.add("reads_refused", refused);
    match beats {
        Some(beats) => {
            let replicas = [Some(&replica), second.as_ref()].into_iter().flatten();
            let logged: usize = replicas.map(|replica| replica.logged(HEARTBEAT)).sum();
            figures.add("heartbeat_warnings", logged as f64);
            beats.add_to(&mut figures, 2);
        }
        None => figures.add("wal_file_mb", wal),
    }
    let case = format!("{}, {messages} messages, {connections} connections", database.name());
    report.add("readers", case, figures);
    Ok(())
}

/// Fills one application with messages and returns the request that reads them all.
async fn read_request(site: &Site<'_>, replica: &Replica, messages: u64) -> Result<String, Failure> {
    let server = &replica.server;
    let path = server.application("adversary", None).await?;
    let app = app_of(&path);
    let now = now();
    let message = id(site.database, Prefix::Message, now, "n");
    let fill = format!(
        "insert into message (app_id, id, event_type, channels, created_at, expires_at) \
         select '{app}', {message}, 'invoice.paid', '[\"orders\"]', {now}, {NEVER}"
    );
    site.execute(&numbered(site.database, messages, &fill)).await?;
    site.settle_tables(&["message"]).await?;
    let access = format!("/api/v1/auth/app-portal-access/{app}");
    let opened = server.call("POST", &access, &json!({ "readOnly": true })).await?;
    let token = opened["token"].as_str().ok_or("no token")?;
    Ok(server.request(token, "GET", &format!("{path}?channel=none&limit=1"), ""))
}
