//! What a process counts of its own work, by the names that dashboards and alerts know. No label carries anything of a
//! tenant. Must not query: what only the database knows is added by who writes the page. Every store has one, so that
//! all parts of a process reach it; written by intake, slots, dispatcher and service, read by the API's probes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::series::{Counter, Gauge, Histogram, Page, SECONDS};
use crate::domain::delivery::Decision;
use crate::domain::timestamp::Timestamp;

/// Messages in one commit.
const MESSAGES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];
const OUTCOMES: [&str; 3] = ["delivered", "retried", "failed"];
/// Of an answer's status; `none` where there was no answer.
const CLASSES: [&str; 6] = ["none", "2xx", "3xx", "4xx", "5xx", "other"];

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Waits for a connection, or on SQLite for the turn to write, that were given up. Of the process: the driver's error,
/// where it is seen, knows no store.
pub static DATABASE_TIMEOUTS: Counter = Counter::new();

/// Requests that were refused as too many waited for the database. Of the process, for the same reason.
pub static DATABASE_REFUSALS: Counter = Counter::new();

/// Log lines that were dropped. Of the process: its log knows no store.
pub static LOG_LINES_DROPPED: Counter = Counter::new();

pub struct Metrics {
    started: Timestamp,
    pub accepted: Counter,
    pub acceptance: Histogram,
    pub batch: Histogram,
    pub commit: Histogram,
    pub in_flight: Gauge,
    pub unsettled: Gauge,
    /// By outcome and class of status.
    attempts: [[AtomicU64; CLASSES.len()]; OUTCOMES.len()],
    attempt: Histogram,
    pub settle: Histogram,
    pub endpoints_disabled: Counter,
    pub taken_over: Counter,
    /// Writes that wait for a connection, or on SQLite for their turn.
    pub database_waiting: Gauge,
}

impl Metrics {
    /// Of a process that starts now.
    pub fn new(started: Timestamp) -> Self {
        Self {
            started,
            accepted: Counter::new(),
            acceptance: Histogram::new(SECONDS),
            batch: Histogram::new(MESSAGES),
            commit: Histogram::new(SECONDS),
            in_flight: Gauge::default(),
            unsettled: Gauge::default(),
            attempts: Default::default(),
            attempt: Histogram::new(SECONDS),
            settle: Histogram::new(SECONDS),
            endpoints_disabled: Counter::new(),
            taken_over: Counter::new(),
            database_waiting: Gauge::default(),
        }
    }

    /// An attempt that was made, with the status of its answer (0: none).
    pub fn attempted(&self, decision: Decision, status: i32, took: Duration) {
        let outcome = match decision {
            Decision::Delivered => 0,
            Decision::Retry { .. } => 1,
            Decision::Failed => 2,
        };
        let class = match status {
            0 => 0,
            200..600 => usize::try_from(status / 100).unwrap_or(6) - 1,
            _ => CLASSES.len() - 1,
        };
        self.attempts[outcome][class].fetch_add(1, Ordering::Relaxed);
        self.attempt.observe_time(took);
    }

    pub fn write(&self, page: &mut Page) {
        page.gauge(
            "postrider_start_time_seconds",
            "When this process started, in seconds since 1970.",
            self.started.0 as f64 / 1e6,
        );
        self.write_intake(page);
        self.write_deliveries(page);
        page.counter(
            "postrider_endpoints_disabled_total",
            "Endpoints that were disabled.",
            &self.endpoints_disabled,
        );
        page.counter(
            "postrider_leases_taken_over_total",
            "Deliveries that were in flight in a process that died, and were made due again.",
            &self.taken_over,
        );
        page.gauge(
            "postrider_database_waiting",
            "Writes that wait for a database connection, or on SQLite for their turn.",
            self.database_waiting.get() as f64,
        );
        page.counter(
            "postrider_database_timeouts_total",
            "Waits for a database connection or a turn that were given up.",
            &DATABASE_TIMEOUTS,
        );
        page.counter(
            "postrider_database_refusals_total",
            "Requests that were answered 503 as too many of their customer, or of all, waited for the database.",
            &DATABASE_REFUSALS,
        );
        page.counter(
            "postrider_log_lines_dropped_total",
            "Log lines that could not be written: their reader was gone or too slow, or its disk was full.",
            &LOG_LINES_DROPPED,
        );
    }

    fn write_intake(&self, page: &mut Page) {
        page.counter(
            "postrider_messages_accepted_total",
            "Messages that were stored; repeats of a request do not count.",
            &self.accepted,
        );
        page.histogram(
            "postrider_acceptance_seconds",
            "From a checked message to its commit, as its sender waits.",
            &self.acceptance,
        );
        page.histogram(
            "postrider_batch_messages",
            "Messages that shared a commit.",
            &self.batch,
        );
        page.histogram(
            "postrider_commit_seconds",
            "One batch of messages: reads, writes and commit.",
            &self.commit,
        );
    }

    fn write_deliveries(&self, page: &mut Page) {
        page.gauge(
            "postrider_deliveries_in_flight",
            "Deliveries that are being sent, or are about to be.",
            self.in_flight.get() as f64,
        );
        page.gauge(
            "postrider_deliveries_unsettled",
            "Deliveries that were sent, and whose outcome is not stored yet.",
            self.unsettled.get() as f64,
        );
        let name = "postrider_attempts_total";
        page.head(
            name,
            "counter",
            "Attempts by what followed and by the class of the answer's status.",
        );
        for (outcome, counts) in OUTCOMES.iter().zip(&self.attempts) {
            for (class, count) in CLASSES.iter().zip(counts) {
                // Just the 2xx answers deliver.
                if (*class == "2xx") == (*outcome == "delivered") {
                    let labels = [("outcome", *outcome), ("status", *class)];
                    page.sample(name, &labels, count.load(Ordering::Relaxed) as f64);
                }
            }
        }
        page.histogram(
            "postrider_attempt_seconds",
            "One attempt, from connect to the answer's end.",
            &self.attempt,
        );
        page.histogram(
            "postrider_settle_seconds",
            "One batch of outcomes: writes and commit.",
            &self.settle,
        );
    }
}
