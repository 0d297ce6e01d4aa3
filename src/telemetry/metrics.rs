//! The counts that a process keeps of its own work, and their names, on which dashboards and alerts depend.
//!
//! Each store has one set of them, so that all parts of the process reach it. Any part may count at any time; /metrics
//! reads.
//!
//! No label may contain anything of a tenant. Must not query: figures from the database are added where /metrics is
//! written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::series::{Counter, Gauge, Histogram, Page, SECONDS};
use crate::domain::delivery::Decision;
use crate::domain::timestamp::Timestamp;

/// Bounds for the number of messages in one commit.
const MESSAGES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];
/// The label `outcome` of an attempt: what followed from it.
const OUTCOMES: [&str; 3] = ["delivered", "retried", "failed"];
/// The label `status` of an attempt: the class of the answer's status, or `none` if there was no answer.
const CLASSES: [&str; 6] = ["none", "2xx", "3xx", "4xx", "5xx", "other"];

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How many waits for a connection, or on SQLite for the turn to write, were given up. Counted for the whole process:
/// where the driver's error is seen, the store is not known.
pub static DATABASE_TIMEOUTS: Counter = Counter::new();

/// How many requests were refused because too many waited for the database. Counted for the whole process, for the same
/// reason.
pub static DATABASE_REFUSALS: Counter = Counter::new();

/// How many log lines were dropped. Counted for the whole process: the log knows no store.
pub static LOG_LINES_DROPPED: Counter = Counter::new();

/// The counts of one process.
pub struct Metrics {
    started: Timestamp,
    /// Messages that were stored; a repetition under the same idempotency key does not count.
    pub accepted: Counter,
    /// Seconds from a checked message to its commit.
    pub acceptance: Histogram,
    /// Messages in one commit.
    pub batch: Histogram,
    /// Seconds that one batch of messages takes in the database.
    pub commit: Histogram,
    /// Deliveries that have a slot.
    pub in_flight: Gauge,
    /// Deliveries that were sent but whose outcome is not stored yet.
    pub unsettled: Gauge,
    /// How many attempts were made, by outcome and by class of status.
    attempts: [[AtomicU64; CLASSES.len()]; OUTCOMES.len()],
    /// Seconds that one attempt takes.
    attempt: Histogram,
    /// Seconds that one batch of outcomes takes in the database.
    pub settle: Histogram,
    pub endpoints_disabled: Counter,
    /// Deliveries that were in flight in a process that died, and were made due again by this one.
    pub taken_over: Counter,
    /// Writes that wait for a connection, or on SQLite for their turn.
    pub database_waiting: Gauge,
}

impl Metrics {
    /// Makes the counts of a process that started at `started`.
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

    /// Counts an attempt. `status` is the status of the answer, or 0 if there was no answer.
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

    /// Writes all counts to the page.
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
            "Waits for a database connection, or on SQLite for the turn to write, that were given up.",
            &DATABASE_TIMEOUTS,
        );
        page.counter(
            "postrider_database_refusals_total",
            "Requests answered with 503 because too many of their customer, or of all, waited for the database.",
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
            "From a checked message to its commit, for which the sender waits.",
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
            "Attempts by outcome and by the class of the answer's status.",
        );
        for (outcome, counts) in OUTCOMES.iter().zip(&self.attempts) {
            for (class, count) in CLASSES.iter().zip(counts) {
                // Only a 2xx delivers, and it always does, so the other combinations never occur.
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
