//! Runs the phases of a round on one server: accept, accept and deliver, steady arrivals.
//!
//! Each phase puts its figures and its faults into the report. Must not compare figures: the report computes ratios.

use crate::Failure;
use crate::generator::{Shot, Volley, closed_loop, open_loop};
use crate::machine;
use crate::postgres::Postgres;
use crate::receiver::{Delivered, Receiver};
use crate::report::Report;
use crate::server::Server;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The size and the length of the load.
#[derive(Clone)]
pub struct Effort {
    /// Connections of the closed loop.
    pub connections: u32,
    /// Seconds per measurement.
    pub seconds: u32,
    /// Messages per second of the open loop.
    pub rate: u32,
    /// Whether every message has an idempotency key of its own.
    pub with_keys: bool,
    /// How long to wait for the last message to arrive.
    pub drain: Duration,
}

/// A server under load, and the report for its figures.
pub struct Bench<'a> {
    /// The report's column.
    pub group: &'static str,
    pub server: &'a Server,
    /// The database, if it has processes of its own; `None` for SQLite.
    pub database: Option<&'a Postgres>,
    /// One receiver for each endpoint of a message.
    pub receivers: &'a [Receiver],
    pub body: &'a str,
    pub effort: &'a Effort,
    pub report: &'a mut Report,
}

impl Bench<'_> {
    /// Measures the rate of 202s for messages without an endpoint, after a short warm-up.
    pub async fn accept(&mut self) -> Result<(), Failure> {
        let shot = self.shot("accept", &[]).await?;
        let warm_up = closed_loop(&shot, self.effort.connections, self.length() / 5).await;
        self.check("warm-up", &warm_up);
        let meter = self.start_meter().await;
        let volley = closed_loop(&shot, self.effort.connections, self.length()).await;
        self.check("accept", &volley);
        let end = volley
            .accepted
            .iter()
            .map(|message| message.answered)
            .max()
            .unwrap_or(meter.start);
        self.rate("accepted", &meter, end, volley.accepted.len());
        let waits = volley
            .accepted
            .iter()
            .map(|message| (message.answered - message.sent).as_secs_f64() * 1e3)
            .collect();
        self.spread("answer", waits);
        Ok(())
    }

    /// Measures the rate of messages to one endpoint or several, until the last message has arrived everywhere.
    pub async fn deliver(&mut self) -> Result<(), Failure> {
        let shot = self.shot("deliver", self.receivers).await?;
        let meter = self.start_meter().await;
        let volley = closed_loop(&shot, self.effort.connections, self.length()).await;
        self.check("accept and deliver", &volley);
        let delivered = self.await_arrivals("accept and deliver", &volley).await;
        let end = delivered.last.unwrap_or(meter.start);
        self.rate("delivered", &meter, end, volley.accepted.len());
        Ok(())
    }

    /// Measures at a steady rate how long after the API's response a message arrives.
    pub async fn steady(&mut self) -> Result<(), Failure> {
        let shot = self.shot("steady", self.receivers).await?;
        let volley = open_loop(&shot, self.effort.rate, self.length()).await;
        self.check("steady", &volley);
        let delivered = self.await_arrivals("steady", &volley).await;
        let pairs = volley
            .accepted
            .iter()
            .filter_map(|message| Some((message.answered, *delivered.first.get(&message.id)?)));
        self.spread(
            "arrival",
            pairs.map(|(answered, arrived)| signed_ms(answered, arrived)).collect(),
        );
        let waits = volley
            .accepted
            .iter()
            .map(|message| signed_ms(message.sent, message.answered))
            .collect();
        self.spread("steady answer", waits);
        Ok(())
    }

    pub fn memory(&mut self) {
        self.figure("memory", self.server.memory_mb("VmRSS:"));
    }

    fn length(&self) -> Duration {
        Duration::from_secs(self.effort.seconds.into())
    }

    /// Creates an application with an endpoint for each receiver, and prepares the request that posts messages to it.
    async fn shot(&self, name: &str, receivers: &[Receiver]) -> Result<Arc<Shot>, Failure> {
        let targets = receivers
            .iter()
            .map(|receiver| format!("http://{}/hook", receiver.address));
        let path = self.server.application(&format!("load {name}"), targets).await?;
        let Server { address, token, .. } = self.server;
        Ok(Arc::new(Shot::new(
            *address,
            token,
            &path,
            self.body,
            self.effort.with_keys,
        )))
    }

    /// Waits until every accepted message has arrived at every receiver, or the drain is over. Missing and damaged
    /// messages are faults.
    async fn await_arrivals(&mut self, phase: &str, volley: &Volley) -> Delivered {
        let deadline = Instant::now() + self.effort.drain;
        let sent = volley.accepted.len();
        let mut got = Delivered::default();
        for receiver in self.receivers {
            got.add(receiver.collect(&volley.accepted, deadline).await);
        }
        for (count, what) in [(got.missing, "never arrived"), (got.damaged, "arrived damaged")] {
            if count > 0 {
                self.report.fault(format!(
                    "{}, {phase}: {count} of {sent} accepted messages {what}",
                    self.group
                ));
            }
        }
        self.figure("duplicates", Some(got.duplicates as f64));
        self.figure("missing", Some(got.missing as f64));
        got
    }

    /// Reports every refused request as a fault, and also if none was accepted.
    fn check(&mut self, phase: &str, volley: &Volley) {
        for (reason, count) in &volley.refused {
            self.report.fault(format!(
                "{}, {phase}: {count} requests were not accepted: {reason}",
                self.group
            ));
        }
        if volley.accepted.is_empty() {
            self.report
                .fault(format!("{}, {phase}: nothing was accepted", self.group));
        }
    }

    async fn start_meter(&self) -> Meter {
        if let Some(postgres) = self.database {
            postgres.checkpoint().await;
        }
        Meter {
            program: self.server.processor_time(),
            database: self.database.and_then(Postgres::processor_time),
            tool: machine::processor_time(std::process::id()),
            idle: machine::idle_and_all(),
            start: Instant::now(),
        }
    }

    /// Adds the figures since the meter was started: messages per second, processor time per message in microseconds,
    /// and the share of idle processors.
    fn rate(&mut self, phase: &str, meter: &Meter, end: Instant, count: usize) {
        let count = count.max(1) as f64;
        let each = |before: Option<f64>, after: Option<f64>| Some((after? - before?) * 1e6 / count);
        let database = self.database.and_then(Postgres::processor_time);
        self.figure(phase, Some(count / (end - meter.start).as_secs_f64().max(1e-9)));
        self.figure(
            &format!("{phase}, program"),
            each(meter.program, self.server.processor_time()),
        );
        self.figure(&format!("{phase}, database"), each(meter.database, database));
        self.figure(
            &format!("{phase}, tool"),
            each(meter.tool, machine::processor_time(std::process::id())),
        );
        let idle = meter.idle.zip(machine::idle_and_all());
        let share = idle.map(|(before, after)| 100.0 * (after.0 - before.0) / (after.1 - before.1).max(1.0));
        self.figure(&format!("{phase}, idle"), share);
    }

    /// Adds the median and the 99th percentile of `values`.
    fn spread(&mut self, name: &str, mut values: Vec<f64>) {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            values
                .get(((values.len() as f64 - 1.0).max(0.0) * share) as usize)
                .copied()
        };
        self.figure(&format!("{name} p50"), at(0.5));
        self.figure(&format!("{name} p99"), at(0.99));
    }

    fn figure(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.report.add(self.group, name, value);
        }
    }
}

/// The readings at the start of a measurement, processor times in seconds.
struct Meter {
    start: Instant,
    program: Option<f64>,
    database: Option<f64>,
    tool: Option<f64>,
    idle: Option<(f64, f64)>,
}

/// Measures the requests per second that the generator reaches against a server in this program that does nothing.
pub async fn ceiling(address: SocketAddr, body: &str, effort: &Effort) -> f64 {
    let shot = Arc::new(Shot::new(
        address,
        "token",
        "/api/v1/app/app_0/msg",
        body,
        effort.with_keys,
    ));
    let start = Instant::now();
    let volley = closed_loop(&shot, effort.connections, Duration::from_secs(1)).await;
    volley.accepted.len() as f64 / start.elapsed().as_secs_f64()
}

/// Returns the milliseconds from one instant to the other, negative if `to` is earlier: a message may arrive before the
/// response to its sender does.
fn signed_ms(from: Instant, to: Instant) -> f64 {
    match to.checked_duration_since(from) {
        Some(later) => later.as_secs_f64() * 1e3,
        None => -(from - to).as_secs_f64() * 1e3,
    }
}
