//! Scenario: what a long history costs whoever uses the program afterwards.
//!
//! There are two databases with the same applications and endpoints: one has a history of 90 days (history.rs), the
//! other so little of it that every list just has a full first page. A process runs on each. Load is put on one and then
//! the other, in changing order; the calls of a console are made on both in turn. Each figure comes three times: with
//! little history, with much, and the ratio of the two. The large form is 10,000,000 attempts; `--attempts` names another
//! size.

use super::console::{self, Call};
use super::history::{ATTEMPTS_PER_APPLICATION, fill};
use super::report::{Figures, Report, median};
use super::site::{Database, Ground, Replica, Site};
use super::traffic::{Others, check_calm, payload};
use crate::Failure;
use crate::receiver::Receiver;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Gives each endpoint of the application with many endpoints more attempts than a first page has.
const LITTLE: u64 = 40_000;
const CONNECTIONS: u32 = 64;
/// How often each call is made on each database.
const CALLS: usize = 41;
/// The rate at which the time until a message arrives is measured.
const RATE: u32 = 200;
/// How long deliveries may take after the last message was accepted.
const PATIENCE: Duration = Duration::from_secs(60);
/// Until the program has opened its connections and learned its applications.
const WARM: Duration = Duration::from_secs(1);

/// The values of each figure with little history, and with much.
type Pairs = BTreeMap<String, [Vec<f64>; 2]>;

/// One of the two databases, and a process on it.
struct Side<'a> {
    site: Site<'a>,
    replica: Replica,
    calls: Vec<Call>,
    idle: Others,
    served: Others,
    receiver: Receiver,
}

pub async fn run(ground: &Ground, report: &mut Report) -> Result<(), Failure> {
    for database in [Database::Postgres, Database::Sqlite] {
        one(ground, report, database).await?;
    }
    Ok(())
}

async fn one(ground: &Ground, report: &mut Report, database: Database) -> Result<(), Failure> {
    let attempts = ground.attempts.unwrap_or(ground.size(10_000_000, 50_000));
    let apps = (attempts / ATTEMPTS_PER_APPLICATION).max(10);
    let filling = Instant::now();
    let sides = [
        Side::new(ground, database, "little", LITTLE.min(attempts), apps).await?,
        Side::new(ground, database, "much", attempts, apps).await?,
    ];
    let mut figures = Figures::default();
    figures.add("filled_in_s", filling.elapsed().as_secs_f64());
    let mut pairs = Pairs::new();
    for round in 0..ground.size(3, 1) {
        for which in [round % 2, (round + 1) % 2] {
            let measured = sides[which].load(ground.seconds(4, 1)).await?;
            for (name, value) in measured {
                pairs.entry(name).or_default()[which].push(value);
            }
        }
    }
    let [little, much] = [&sides[0], &sides[1]];
    for ((name, path), (_, path_with_much)) in little.calls.iter().zip(&much.calls) {
        let pair = pairs.entry(format!("list_{name}_ms")).or_default();
        for _ in 0..ground.size(CALLS, 5) {
            pair[0].push(console::once(&little.replica, path).await?);
            pair[1].push(console::once(&much.replica, path_with_much).await?);
        }
    }
    for (name, [little, much]) in pairs {
        let (little, much) = (median(little), median(much));
        figures.add(format!("{name}_little"), little);
        figures.add(format!("{name}_much"), much);
        figures.add(format!("{name}_ratio"), much / little);
    }
    let case = format!("{}, {attempts} attempts of {apps} applications", database.name());
    report.add("growth", case, figures);
    Ok(())
}

impl<'a> Side<'a> {
    /// Fills a new database and starts the program on it.
    async fn new(
        ground: &'a Ground,
        database: Database,
        name: &str,
        attempts: u64,
        apps: u64,
    ) -> Result<Self, Failure> {
        let site = Site::named(ground, database, name).await?;
        site.prepare().await?;
        let busy = fill(&site, attempts, apps).await?;
        if database == Database::Postgres {
            site.execute("create extension if not exists pg_stat_statements")
                .await?;
        }
        let receiver = Receiver::start("127.0.0.1", &payload()).await?;
        let replica = site.start("a", &[]).await?;
        // Before there are applications that are younger than the history.
        let calls = console::calls(&replica, &busy).await?;
        let idle = Others::new(&replica, None).await?;
        let served = Others::new(&replica, Some(&receiver)).await?;
        idle.post_steadily(RATE, WARM).await;
        let warm = served.post_steadily(RATE, WARM).await;
        receiver.collect(&warm.accepted, Instant::now() + PATIENCE).await;
        Ok(Self {
            site,
            replica,
            calls,
            idle,
            served,
            receiver,
        })
    }

    /// Puts load on the program, and returns the figures.
    async fn load(&self, length: Duration) -> Result<Vec<(String, f64)>, Failure> {
        let mut figures = Vec::new();
        let mut add = |name: &str, value: f64| figures.push((name.to_owned(), value));
        let began = Instant::now();
        let volley = self.idle.post_when_answered(CONNECTIONS, length).await;
        check_calm(&volley)?;
        add(
            "accepted_per_s",
            volley.accepted.len() as f64 / began.elapsed().as_secs_f64(),
        );

        self.reset_statements().await?;
        let before = self.settled().await;
        let began = Instant::now();
        let volley = self.served.post_when_answered(CONNECTIONS, length).await;
        check_calm(&volley)?;
        let arrived = self.receiver.collect(&volley.accepted, Instant::now() + PATIENCE).await;
        if arrived.missing > 0 {
            return Err(format!("{} messages never arrived", arrived.missing).into());
        }
        let took = arrived.last.unwrap_or(began) - began;
        add("delivered_per_s", volley.accepted.len() as f64 / took.as_secs_f64());
        let after = self.settled().await;
        if let (Some((sum, count)), Some((before, counted))) = (after, before) {
            add("settle_ms", (sum - before) * 1e3 / (count - counted).max(1.0));
        }
        if self.site.database == Database::Postgres {
            add("claim_ms", self.claim_ms().await?);
        }

        let volley = self.served.post_steadily(RATE, length).await;
        check_calm(&volley)?;
        let arrived = self.receiver.collect(&volley.accepted, Instant::now() + PATIENCE).await;
        let waits = volley.accepted.iter().filter_map(|message| {
            let at = arrived.first.get(&message.id)?;
            Some((*at - message.sent).as_secs_f64() * 1e3)
        });
        add("arrival_p50_ms", median(waits.collect()));
        Ok(figures)
    }

    /// Returns how many seconds settlements have taken in all, and their number.
    async fn settled(&self) -> Option<(f64, f64)> {
        let sum = self.replica.metric("settle_seconds_sum").await?;
        Some((sum, self.replica.metric("settle_seconds_count").await?))
    }

    async fn reset_statements(&self) -> Result<(), Failure> {
        match self.site.database {
            Database::Postgres => self.site.execute("select pg_stat_statements_reset()").await,
            Database::Sqlite => Ok(()),
        }
    }

    /// Returns how long a claim took in Postgres in the mean, since the statements were reset.
    async fn claim_ms(&self) -> Result<f64, Failure> {
        let sql = "select coalesce((sum(total_exec_time) * 1000 / sum(calls))::bigint, 0) \
                   from pg_stat_statements join pg_database on pg_database.oid = dbid \
                   where datname = current_database() and query ilike '%update delivery%' and query ilike '%skip locked%'";
        Ok(self.site.number(sql).await? as f64 / 1e3)
    }
}
