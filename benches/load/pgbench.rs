//! Measures the yardstick: pgbench with two single-row inserts of 600 bytes in one transaction, on the same server.
//!
//! Two rows are the least that an accepted message with one delivery needs.

use crate::Failure;
use crate::machine::{self, Running};
use crate::postgres::Postgres;
use crate::report::{POSTGRES, Report};
use sqlx::{Connection, PgConnection};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const DATABASE: &str = "postrider_bench_pgbench";
const TABLES: &str = "create table first (id bigint generated always as identity primary key, body text not null);
    create table second (id bigint generated always as identity primary key, body text not null)";

/// Returns whether this machine has pgbench.
pub fn is_there() -> bool {
    machine::directory_with(&["pgbench"]).is_some()
}

/// Measures 16 and then 64 clients for `seconds` each, on tables that are new at the start.
pub async fn run(postgres: &Postgres, seconds: u32, scratch: &Path, report: &mut Report) -> Result<(), Failure> {
    let url = postgres.fresh_database(DATABASE).await?;
    let mut connection = PgConnection::connect(url.as_str()).await?;
    sqlx::raw_sql(TABLES).execute(&mut connection).await?;
    connection.close().await?;
    let text = "x".repeat(600);
    let script = scratch.join("two-inserts.sql");
    let insert = |table: &str| format!("insert into {table} (body) values ('{text}');\n");
    fs::write(
        &script,
        format!("begin;\n{}{}commit;\n", insert("first"), insert("second")),
    )?;
    for clients in [16, 64] {
        postgres.checkpoint().await;
        let before = postgres.processor_time();
        let rate = one(&url, clients, seconds, &script).await?;
        let used = postgres
            .processor_time()
            .zip(before)
            .map(|(after, before)| after - before);
        report.add(POSTGRES, &format!("pgbench {clients}"), rate);
        if let Some(used) = used {
            report.add(
                POSTGRES,
                &format!("pgbench {clients}, database"),
                used * 1e6 / (rate * f64::from(seconds)),
            );
        }
    }
    postgres.drop_database(DATABASE).await
}

/// Runs pgbench once and returns its transactions per second.
async fn one(url: &url::Url, clients: u32, seconds: u32, script: &Path) -> Result<f64, Failure> {
    let programs = machine::directory_with(&["pgbench"]).ok_or("no pgbench on this machine")?;
    let output = script.with_extension(format!("{clients}.out"));
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(clients as usize);
    let mut command = Command::new(programs.join("pgbench"));
    command
        .args([
            "-n",
            "-M",
            "prepared",
            "-c",
            &clients.to_string(),
            "-j",
            &threads.to_string(),
        ])
        .args(["-T", &seconds.to_string(), "-f"])
        .args([script.as_os_str(), url.as_str().as_ref()])
        .stdin(Stdio::null())
        .stdout(File::create(&output)?)
        .stderr(File::create(output.with_extension("err"))?);
    let mut process = Running::spawn(&mut command)?;
    let ended = process.ended_within(Duration::from_secs(u64::from(seconds) + 30)).await;
    let text = fs::read_to_string(&output)?;
    let complaint = || {
        format!(
            "pgbench: {text}{}",
            fs::read_to_string(output.with_extension("err")).unwrap_or_default()
        )
    };
    if !ended || !process.0.wait()?.success() {
        return Err(complaint().into());
    }
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    lines.next_back().ok_or_else(|| complaint().into())
}
