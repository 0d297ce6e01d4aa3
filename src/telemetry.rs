//! Sets up the process's log on standard error. The submodules hold the log's writer, the fields of its lines, and the
//! metrics for Prometheus.

pub mod log;
pub mod log_fields;
pub mod metrics;
pub mod series;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::thread;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use self::log::Log;
use self::log_fields::WithFields;
use crate::config::{LogFormat, LogSettings};
use crate::error::{Error, Result};

/// The crates that write log lines, which a filter may name.
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
/// Hides the database driver's warnings, unless the filter asks for more. The driver warns of each wait for a
/// connection and each statement that take more than a second, which in an outage are many. The metrics show both.
const QUIET_DRIVER: &str = "sqlx=error";

/// Sets up the process's log, including the log lines of panics. Parts of the filter that mean nothing are left out,
/// with a warning for each.
///
/// # Errors
/// `Config` if the rest of the filter cannot be parsed.
///
/// # Panics
/// If it is called a second time in a process.
pub fn start(settings: &LogSettings, log: &Log) -> Result<()> {
    let filter = Filter::of(&settings.log);
    let directives = EnvFilter::builder()
        .parse(filter.text())
        .map_err(|err| Error::config(format!("POSTRIDER_LOG is not a log filter: '{}'", settings.log)).because(err))?;
    let (lines, form) = (log.lines(), settings.log_format);
    let is_terminal = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(directives)
        .with_writer(move || lines.clone())
        .with_ansi(is_terminal);
    match form {
        LogFormat::Text => subscriber
            .map_event_format(|format| WithFields {
                format: format.with_ansi(is_terminal),
                form,
            })
            .init(),
        LogFormat::Json => subscriber
            .json()
            .flatten_event(true)
            .map_event_format(|format| WithFields { format, form })
            .init(),
    }
    std::panic::set_hook(Box::new(log_panic));
    for name in filter.unknown {
        tracing::warn!(
            name,
            "POSTRIDER_LOG: this is neither a level nor the name of a part of the program; it is ignored"
        );
    }
    Ok(())
}

/// Logs a panic. The standard library's hook writes to standard error directly, and would block if its reader hangs.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let reason = panic.payload_as_str().unwrap_or("it gave no reason");
    let at = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let thread = thread::current();
    tracing::error!(thread = thread.name(), at, reason, backtrace, "a task panicked");
}

/// The directives of a log filter, separated into those that mean something and those that do not. A misspelt level
/// would be taken for the name of a module, and then nothing at all would be logged.
struct Filter<'a> {
    /// Levels, and directives for crates in [`CRATES`].
    known: Vec<&'a str>,
    /// All other directives, which are ignored.
    unknown: Vec<&'a str>,
}

impl<'a> Filter<'a> {
    /// Separates the directives of a comma-separated list.
    fn of(text: &'a str) -> Self {
        let directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
        let (known, unknown) = directives.partition(|directive| {
            let name = directive.split(['=', '[']).next().unwrap_or_default();
            level(directive).is_some() || names_a_crate(name)
        });
        Self { known, unknown }
    }

    /// Returns the known directives as text for [`EnvFilter`]; the default level if there are none.
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

/// Returns the level if a directive is nothing but a level.
fn level(directive: &str) -> Option<LevelFilter> {
    directive.parse().ok()
}

/// Returns whether a name stands for a crate in [`CRATES`] or a module of it. Like [`EnvFilter`], takes a name for the
/// beginning of a module's path.
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
