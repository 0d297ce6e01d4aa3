//! What the program tells while it runs: log lines on standard error (set up once, by cli), and numbers for Prometheus.

pub mod metrics;
pub mod series;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSettings};
use crate::error::{Error, Result};

/// Sets the process's log up.
///
/// # Errors
/// `Config` when the filter cannot be read.
pub fn start(settings: &LogSettings) -> Result<()> {
    let filter = EnvFilter::builder()
        .parse(&settings.log)
        .map_err(|err| Error::config(format!("POSTRIDER_LOG is not a log filter: '{}'", settings.log)).because(err))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match settings.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
