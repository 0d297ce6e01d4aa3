//! Provides the server that is measured: starts the real program with environment variables, or uses a running one.
//!
//! Must not know more about it than the REST contract and its documented settings.

use crate::Failure;
use crate::machine::{self, Running};
use crate::wire::{Connection, status};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::timeout;

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const CALL_DEADLINE: Duration = Duration::from_secs(10);
const TOKEN: &str = "load-tool-admin-token-0123456789";

pub struct Server {
    pub address: SocketAddr,
    pub token: String,
    process: Option<Running>,
    log: PathBuf,
}

impl Server {
    /// Starts `program` on a free port and waits until it is healthy.
    pub async fn start(program: &Path, database: &str, more: &[String], log: PathBuf) -> Result<Self, Failure> {
        let address = SocketAddr::from(([127, 0, 0, 1], crate::free_port()?));
        let mut command = Command::new(program);
        command
            .arg("serve")
            .env_clear()
            .env("DATABASE_URL", database)
            .env("POSTRIDER_LISTEN", address.to_string())
            .env("POSTRIDER_ADMIN_TOKEN", TOKEN)
            .env("POSTRIDER_ENCRYPTION_KEY", "load-tool-encryption-key-0123456789abcdef")
            .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
            .env("POSTRIDER_MIGRATE", "true")
            .env("POSTRIDER_LOG", "warn")
            .envs(more.iter().filter_map(|pair| pair.split_once('=')))
            .stdin(Stdio::null())
            .stdout(File::create(log.with_extension("out"))?)
            .stderr(File::create(&log)?);
        let process = Some(Running::spawn(&mut command)?);
        let mut server = Self {
            address,
            token: TOKEN.to_owned(),
            process,
            log,
        };
        server.wait_until_healthy().await?;
        Ok(server)
    }

    /// Returns a server that runs already, given as `http://host:port`.
    pub async fn attach(url: &str, token: &str) -> Result<Self, Failure> {
        let url = url::Url::parse(url).map_err(|error| format!("--url: {error}"))?;
        let host = url
            .host_str()
            .filter(|_| url.scheme() == "http")
            .ok_or("--url: must be http://host:port")?;
        let port = url.port_or_known_default().unwrap_or(80);
        let address = tokio::net::lookup_host((host, port))
            .await?
            .next()
            .ok_or("--url: no address")?;
        Ok(Self {
            address,
            token: token.to_owned(),
            process: None,
            log: PathBuf::new(),
        })
    }

    /// Creates an application with one endpoint for each of `targets`, and returns the path to post messages to.
    pub async fn application(&self, name: &str, targets: impl IntoIterator<Item = String>) -> Result<String, Failure> {
        let application = self.call("POST", "/api/v1/app", &json!({ "name": name })).await?;
        let id = application["id"].as_str().ok_or("POST /app: no id in the answer")?;
        for url in targets {
            self.call("POST", &format!("/api/v1/app/{id}/endpoint"), &json!({ "url": url }))
                .await?;
        }
        Ok(format!("/api/v1/app/{id}/msg"))
    }

    /// Returns the seconds of processor time so far; `None` for a server that this program did not start.
    pub fn processor_time(&self) -> Option<f64> {
        machine::processor_time(self.process.as_ref()?.0.id())
    }

    /// Returns [`machine::memory_mb`] of the server; `None` for a server that this program did not start.
    pub fn memory_mb(&self, name: &str) -> Option<f64> {
        machine::memory_mb(self.process.as_ref()?.0.id(), name)
    }

    /// Stops the server with SIGTERM, and returns what it has logged (warnings and errors only).
    pub async fn stop(mut self) -> Result<String, Failure> {
        if let Some(mut process) = self.process.take() {
            process.signal("TERM");
            if !process.ended_within(STOP_DEADLINE).await {
                return Err(format!("the server did not stop within {STOP_DEADLINE:?}; {}", self.logged()).into());
            }
        }
        Ok(self.logged())
    }

    async fn wait_until_healthy(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let answer = timeout(CALL_DEADLINE, self.exchange("GET", "/api/v1/health", "")).await;
            if matches!(answer, Ok(Ok((200..=204, _)))) {
                return Ok(());
            }
            let process = self.process.as_mut().ok_or("no process")?;
            if let Some(code) = process.0.try_wait()? {
                return Err(format!("the server ended with {code} instead of starting; {}", self.logged()).into());
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "the server was not healthy within {START_DEADLINE:?}; {}",
                    self.logged()
                )
                .into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Calls the API with the server's token and returns the body of the response, which must be a 2xx.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        let body = body.to_string();
        let exchange = self.exchange(method, path, &body);
        let (status, text) = timeout(CALL_DEADLINE, exchange)
            .await
            .map_err(|_| format!("{method} {path}: no answer"))??;
        if !(200..300).contains(&status) {
            return Err(format!("{method} {path}: {status} {text}").into());
        }
        Ok(serde_json::from_str(&text)?)
    }

    /// Returns a complete request with a JSON body, ready to be written to a connection.
    pub fn request(&self, token: &str, method: &str, path: &str, body: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
    }

    async fn exchange(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut connection = Connection::open(self.address).await?;
        let request = self.request(&self.token, method, path, body);
        connection.send(request.as_bytes()).await?;
        let frame = connection.receive().await?.ok_or(std::io::ErrorKind::ConnectionReset)?;
        Ok((
            status(connection.head(&frame))?,
            String::from_utf8_lossy(connection.body(&frame)).into_owned(),
        ))
    }

    /// Returns the number of lines that the server has logged, and the last five; empty if there are none.
    fn logged(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        match lines.len() {
            0 => String::new(),
            count => format!(
                "it logged {count} lines, the last: {}",
                lines[count.saturating_sub(5)..].join("\n")
            ),
        }
    }
}
