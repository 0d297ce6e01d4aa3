//! Provides a process of the program under test, which is started again at the same address, as by a supervisor.
//!
//! Must not know more about it than its documented settings and the probe of its health.

use super::api;
use crate::Failure;
use crate::machine::Running;
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(45);
const POLL: Duration = Duration::from_millis(20);
/// Fifty retries, one every second: nothing that arrives late waits for a schedule.
const EVERY_SECOND: [&str; 50] = ["1"; 50];

pub struct Process {
    pub address: SocketAddr,
    pub log: PathBuf,
    program: PathBuf,
    database: String,
    running: Option<Running>,
}

impl Process {
    /// Describes a process at a free port; it does not run yet. `log` keeps what all its starts say.
    pub fn new(program: PathBuf, database: String, log: PathBuf) -> std::io::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], crate::free_port()?));
        Ok(Self {
            address,
            log,
            program,
            database,
            running: None,
        })
    }

    /// Starts the process, with these environment variables beside its settings.
    pub fn start(&mut self, more: &[(&str, String)]) -> Result<(), Failure> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command
            .arg("serve")
            .env_clear()
            .env("DATABASE_URL", &self.database)
            .env("POSTRIDER_LISTEN", self.address.to_string())
            .env("POSTRIDER_ADMIN_TOKEN", api::TOKEN)
            .env("POSTRIDER_ENCRYPTION_KEY", "fault-harness-encryption-key-0123456789")
            .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
            .env("POSTRIDER_MIGRATE", "true")
            .env("POSTRIDER_RETRY_SCHEDULE", EVERY_SECOND.join(","))
            // The lease of an attempt is 30 s longer than this.
            .env("POSTRIDER_ATTEMPT_TIMEOUT", "5")
            // No endpoint is disabled: its receiver is to blame for nothing.
            .env("POSTRIDER_DISABLE_AFTER", "0")
            .env("POSTRIDER_SHUTDOWN_GRACE", "10")
            .env("POSTRIDER_LOG", "info")
            .env("RUST_BACKTRACE", "1")
            .envs(more.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.running = Some(Running::spawn(&mut command)?);
        Ok(())
    }

    /// Waits until the process responds, and starts it again if it ends instead.
    pub async fn is_healthy(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if matches!(
                api::call(self.address, "GET", "/api/v1/health", "").await,
                Ok((200..=204, _))
            ) {
                return Ok(());
            }
            if self.has_ended() {
                self.start(&[])?;
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "not healthy after {START_DEADLINE:?}; the log ends: {}",
                    self.last_lines()
                )
                .into());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Returns whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        let ended = |running: &mut Running| matches!(running.0.try_wait(), Ok(Some(_)));
        self.running.as_mut().is_some_and(ended)
    }

    /// Kills the process (`kill -9`) and waits for its end.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Sends a signal such as `STOP`.
    pub fn signal(&self, name: &str) {
        if let Some(running) = &self.running {
            running.signal(name);
        }
    }

    /// Stops the process in order.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        running.signal("TERM");
        if !running.ended_within(STOP_DEADLINE).await {
            return Err(format!(
                "not stopped after {STOP_DEADLINE:?}; the log ends: {}",
                self.last_lines()
            )
            .into());
        }
        Ok(())
    }

    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        api::insist(self.address, "GET", path, &Value::Null).await
    }

    fn last_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}
