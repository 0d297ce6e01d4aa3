//! What the program tells while it runs: log lines on standard error (set up once, by cli), and numbers for Prometheus.

pub mod log;
pub mod metrics;
pub mod series;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::thread;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use self::log::Log;
use crate::config::{LogFormat, LogSettings};
use crate::error::{Error, Result};

/// The crates that log something.
const CRATES: [&str; 12] = [
    "postrider",
    "hickory_net",
    "hickory_proto",
    "hickory_resolver",
    "hyper_util",
    "poem",
    "sea_orm",
    "sea_orm_migration",
    "sqlx",
    "sqlx_core",
    "sqlx_postgres",
    "sqlx_sqlite",
];
const DEFAULT_LEVEL: &str = "info";
/// The driver warns of each wait for a connection and each statement of more than a second, in an outage many times over.
/// Metrics tell of both.
const QUIET_DRIVER: &str = "sqlx=error";

/// Sets the process's log up.
///
/// # Errors
/// `Config` when the filter cannot be read.
pub fn start(settings: &LogSettings, log: &Log) -> Result<()> {
    let filter = Filter::of(&settings.log);
    let directives = EnvFilter::builder()
        .parse(filter.text())
        .map_err(|err| Error::config(format!("POSTRIDER_LOG is not a log filter: '{}'", settings.log)).because(err))?;
    let lines = log.lines();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(directives)
        .with_writer(move || lines.clone())
        .with_ansi(std::io::stderr().is_terminal());
    match settings.log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(log_panic));
    for name in filter.unknown {
        tracing::warn!(
            name,
            "POSTRIDER_LOG: this is no level, and no part of the program has the name; it is left out"
        );
    }
    Ok(())
}

/// The usual hook writes to standard error by itself, and would wait for a reader that hangs.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let reason = panic.payload_as_str().unwrap_or("it gave no reason");
    let at = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let thread = thread::current();
    tracing::error!(thread = thread.name(), at, reason, backtrace, "a task panicked");
}

/// What is to be logged, less what means nothing: a level that is misspelt would be taken for a module's name, and then
/// nothing at all would be logged.
struct Filter<'a> {
    known: Vec<&'a str>,
    unknown: Vec<&'a str>,
}

impl<'a> Filter<'a> {
    fn of(text: &'a str) -> Self {
        let directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
        let (known, unknown) = directives.partition(|directive| {
            let name = directive.split(['=', '[']).next().unwrap_or_default();
            level(directive).is_some() || names_a_crate(name)
        });
        Self { known, unknown }
    }

    /// As [`EnvFilter`] reads it. Where nothing is left the default stands.
    fn text(&self) -> String {
        let mut directives = self.known.clone();
        if directives.is_empty() {
            directives.push(DEFAULT_LEVEL);
        }
        let wants_details = |directive: &&str| {
            directive.contains("sqlx") || level(directive).is_some_and(|level| level > LevelFilter::INFO)
        };
        if !directives.iter().any(wants_details) {
            directives.insert(0, QUIET_DRIVER);
        }
        directives.join(",")
    }
}

fn level(directive: &str) -> Option<LevelFilter> {
    directive.parse().ok()
}

/// As a filter does, which takes a name for the beginning of a module's path.
fn names_a_crate(name: &str) -> bool {
    let mut crates = CRATES.iter();
    crates.any(|known| known.starts_with(name) || name.strip_prefix(*known).is_some_and(|rest| rest.starts_with("::")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_keeps_what_means_something_and_names_the_rest() {
        for (given, kept, unknown) in [
            ("info", "sqlx=error,info", vec![]),
            ("debug", "debug", vec![]),
            ("warn, postrider=debug", "sqlx=error,warn,postrider=debug", vec![]),
            ("info,sqlx=warn", "info,sqlx=warn", vec![]),
            ("postrider::loops=trace", "sqlx=error,postrider::loops=trace", vec![]),
            ("inof", "sqlx=error,info", vec!["inof"]),
            ("warn,posrtider=debug", "sqlx=error,warn", vec!["posrtider=debug"]),
            ("postrider_more=debug", "sqlx=error,info", vec!["postrider_more=debug"]),
            ("", "sqlx=error,info", vec![]),
            ("info,poem[call]=trace", "sqlx=error,info,poem[call]=trace", vec![]),
        ] {
            let filter = Filter::of(given);
            assert_eq!((filter.text().as_str(), &filter.unknown), (kept, &unknown), "{given}");
            EnvFilter::builder().parse(filter.text()).expect(given);
        }
    }
}
