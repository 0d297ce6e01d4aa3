//! Defines the options of the load tool, and the values that follow from them.
//!
//! Must not measure or start anything.

use crate::phases::Effort;
use clap::{Parser, ValueEnum};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Measures how fast Postrider accepts and delivers, against pgbench on the same Postgres server, and on SQLite.
#[derive(Parser)]
pub struct Options {
    /// One short round, which shows whether the tool runs and every message arrives
    #[arg(long)]
    pub quick: bool,
    /// Seconds of each measurement [default: 10; with --quick: 2]
    #[arg(long)]
    seconds: Option<u32>,
    /// Rounds, of which the median counts [default: 3; with --quick: 1]
    #[arg(long)]
    rounds: Option<u32>,
    /// Connections of the closed loop
    #[arg(long, default_value_t = 64)]
    pub connections: u32,
    /// Messages per second of the steady measurement
    #[arg(long, default_value_t = 200)]
    pub rate: u32,
    /// Bytes of each message's payload
    #[arg(long, default_value_t = 600)]
    pub payload: usize,
    /// Endpoints to which each message goes, each at a receiver of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub fan_out: u16,
    /// Send a fresh idempotency key with every message, as the SDKs do
    #[arg(long)]
    pub idempotency_keys: bool,
    /// Only these parts; may be repeated
    #[arg(long, value_enum)]
    pub only: Vec<Part>,
    /// A running Postgres server instead of one started here; the URL's role must be allowed to create databases
    #[arg(long, env = "TEST_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// A running Postrider server, http://host:port, instead of ones started here; it must be able to reach 127.0.0.1
    #[arg(long, requires = "token")]
    pub url: Option<String>,
    /// An organization's token of that server
    #[arg(long, env = "POSTRIDER_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A further setting for the servers started here, NAME=VALUE; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Another binary to measure, such as an older one
    #[arg(long)]
    program: Option<PathBuf>,
    /// The folder for databases; it must be on a real disk, or commits cost nothing
    #[arg(long, default_value = "/var/tmp")]
    pub directory: PathBuf,
    /// Seconds to wait for the last message to arrive
    #[arg(long, default_value_t = 60)]
    pub drain: u64,
    /// Threads of this tool
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Added by `cargo bench` itself
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Part {
    Pgbench,
    Postgres,
    Sqlite,
}

impl Options {
    pub fn seconds(&self) -> u32 {
        self.seconds.unwrap_or(if self.quick { 2 } else { 10 })
    }

    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// Returns whether `part` is to be measured: never if a running server is given.
    pub fn wants(&self, part: Part) -> bool {
        self.url.is_none() && (self.only.is_empty() || self.only.contains(&part))
    }

    pub fn program(&self) -> &Path {
        self.program.as_deref().unwrap_or(Path::new(env!("CARGO_BIN_EXE_app")))
    }

    pub fn effort(&self) -> Effort {
        Effort {
            connections: self.connections,
            seconds: self.seconds(),
            rate: self.rate,
            with_keys: self.idempotency_keys,
            drain: Duration::from_secs(self.drain),
        }
    }

    /// Returns the time after which the run is taken to hang: ten measurements and three drains per round, and time to
    /// start and stop servers.
    pub fn longest(&self) -> Duration {
        let round = 10 * u64::from(self.seconds()) + 3 * self.drain + 60;
        Duration::from_secs(120 + u64::from(self.rounds()) * round)
    }

    /// Returns a JSON object of as many bytes as `--payload` asks for, and at least 40.
    pub fn payload(&self) -> String {
        let (start, end) = (r#"{"invoice":"in_0001","note":""#, r#""}"#);
        let filling = self.payload.saturating_sub(start.len() + end.len());
        format!(
            "{start}{}{end}",
            "abcdefghijklmnopqrstuvwxyz "
                .chars()
                .cycle()
                .take(filling)
                .collect::<String>()
        )
    }
}
