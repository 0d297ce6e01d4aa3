//! One round on one server: accept, accept and deliver, steady arrivals; each gives its figures and its faults.
//!
//! Must not compare: figures go into the report under their names, ratios are made there. Called by load.rs.

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

/// How hard and how long.
#[derive(Clone)]
pub struct Effort {
    pub connections: u32,
    pub seconds: u32,
    pub rate: u32,
    pub with_keys: bool,
    pub drain: Duration,
}

/// A server under load, its database if that has processes of its own, and where figures go.
pub struct Bench<'a> {
    pub group: &'static str,
    pub server: &'a Server,
    pub database: Option<&'a Postgres>,
    /// One for each endpoint of a message.
    pub receivers: &'a [Receiver],
    pub body: &'a str,
    pub effort: &'a Effort,
    pub report: &'a mut Report,
}

impl Bench<'_> {
    /// Messages without an endpoint: the rate of 202s, after a short warm-up.
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

    /// Messages to one endpoint, or to several: counted until the last of them has arrived everywhere.
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

    /// A steady open loop: how long after its answer a message arrives.
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

    /// Messages a second and microseconds of processor time a message since the meter was started.
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

struct Meter {
    start: Instant,
    program: Option<f64>,
    database: Option<f64>,
    tool: Option<f64>,
    idle: Option<(f64, f64)>,
}

/// Requests a second of the generator against a server in this program that does nothing.
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

fn signed_ms(from: Instant, to: Instant) -> f64 {
    match to.checked_duration_since(from) {
        Some(later) => later.as_secs_f64() * 1e3,
        None => -(from - to).as_secs_f64() * 1e3,
    }
}
