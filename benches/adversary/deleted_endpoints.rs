//! Scenario: a customer has created and deleted endpoints in a loop, and goes on posting.
//!
//! On Postgres this customer also changes its application five times per second, so that a process has to read the
//! application again and cannot use what it remembers.

use super::report::{Figures, Report};
use super::rows::{id, now, numbered};
use super::site::{Database, Ground, Site};
use super::traffic::{Others, Pressure, add_acceptance, app_of, check_calm, shot};
use crate::Failure;
use crate::generator::closed_loop;
use postrider::domain::id::Prefix;
use std::time::Duration;

const OWN_CONNECTIONS: u32 = 2;
const OTHERS_CONNECTIONS: u32 = 12;
const BETWEEN_CHANGES: Duration = Duration::from_millis(200);

pub async fn run(ground: &Ground, report: &mut Report) -> Result<(), Failure> {
    for database in [Database::Postgres, Database::Sqlite] {
        one(ground, report, database).await?;
    }
    Ok(())
}

async fn one(ground: &Ground, report: &mut Report, database: Database) -> Result<(), Failure> {
    let (length, deleted) = (ground.seconds(10, 2), ground.size(200_000, 100_000));
    let mut figures = Figures::default();
    let site = Site::new(ground, database).await?;
    let replica = site.start("a", &[]).await?;
    let others = Others::new(&replica, None).await?;
    let path = replica.server.application("adversary", None).await?;
    let own = shot(&replica, &path);
    let app = app_of(&path);
    let server = &replica.server;
    let change = server.request(
        &server.token,
        "PATCH",
        &format!("/api/v1/app/{app}"),
        r#"{"name":"adversary"}"#,
    );
    let changes = match database {
        Database::Postgres => vec![change],
        Database::Sqlite => Vec::new(),
    };
    for (prefix, fill) in [("calm_", false), ("", true)] {
        if fill {
            site.execute(&deleted_endpoints(database, app, deleted)).await?;
            site.settle_tables(&["endpoint"]).await?;
        }
        let pressure = Pressure::start(server.address, changes.clone(), BETWEEN_CHANGES);
        let (volley, own) = tokio::join!(
            others.post_when_answered(OTHERS_CONNECTIONS, length),
            closed_loop(&own, OWN_CONNECTIONS, length)
        );
        if !fill {
            check_calm(&volley)?;
        }
        add_acceptance(&mut figures, prefix, &volley, length);
        let own = own.accepted.len() as f64 / length.as_secs_f64();
        figures.add(format!("{prefix}own_accepted_per_s"), own);
        if !changes.is_empty() {
            figures.add(format!("{prefix}changes"), pressure.answered(200..300));
        }
    }
    let case = format!("{}, {deleted} deleted", database.name());
    report.add("deleted-endpoints", case, figures);
    Ok(())
}

/// Returns the statement that inserts `count` deleted endpoints of `app`.
fn deleted_endpoints(database: Database, app: &str, count: u64) -> String {
    let now = now();
    let endpoint = id(database, Prefix::Endpoint, now, "n");
    let insert = format!(
        "insert into endpoint (app_id, id, url, description, disabled, metadata, headers, secrets, created_at, updated_at, deleted_at) \
         select '{app}', {endpoint}, 'http://127.0.0.1:1/', '', false, '{{}}', '{{}}', '[]', {now}, {now}, {now}"
    );
    numbered(database, count, &insert)
}
