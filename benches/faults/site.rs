//! Provides the site of a run: a fresh database on a small disk, and the processes of the program on it.
//!
//! Must not know which faults there are.

use super::api;
use super::cluster::{Cluster, ROLE};
use super::disk::Disk;
use super::kind::Database;
use super::process::Process;
use super::proxy::Proxy;
use super::traffic::{APP, POLLED, TYPES, filter_of};
use crate::Failure;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The poller's uid.
pub const POLLER: &str = "warehouse";
const SQL_DEADLINE: Duration = Duration::from_secs(10);

pub struct Site {
    pub database: Database,
    pub processes: Vec<Process>,
    /// Between the processes and Postgres; `None` on SQLite.
    pub proxy: Option<Proxy>,
    /// `None` on SQLite.
    pub cluster: Option<Cluster>,
    /// `None` if this machine cannot mount a file system. Dropped last.
    pub disk: Option<Disk>,
    /// The endpoints' ids.
    pub endpoints: Vec<String>,
    url: String,
}

impl Site {
    /// Creates the database below `scratch` and starts the processes: two on Postgres, one on SQLite.
    pub async fn start(database: Database, program: &Path, scratch: &Path) -> Result<Self, Failure> {
        let disk = Disk::mount(scratch)?;
        let folder = disk.as_ref().map_or(scratch, |disk| &disk.folder).join("database");
        fs::create_dir(&folder)?;
        let mut site = Self {
            database,
            processes: Vec::new(),
            proxy: None,
            cluster: None,
            disk,
            endpoints: Vec::new(),
            url: format!("sqlite://{}", folder.join("postrider.sqlite").display()),
        };
        if database == Database::Postgres {
            let cluster = Cluster::start(&folder, scratch.join("postgres.log")).await?;
            let proxy = Proxy::to(&cluster.url(ROLE)).await?;
            site.url = proxy.url.clone();
            (site.cluster, site.proxy) = (Some(cluster), Some(proxy));
        }
        let count = if database == Database::Postgres { 2 } else { 1 };
        for number in 0..count {
            let log = scratch.join(format!("process-{number}.log"));
            site.processes
                .push(Process::new(program.to_path_buf(), site.url.clone(), log)?);
        }
        for process in &mut site.processes {
            process.start(&[])?;
            process.is_healthy().await?;
        }
        Ok(site)
    }

    /// Creates the application with its endpoints and its poller.
    pub async fn subscribe(&mut self, receivers: &[SocketAddr]) -> Result<(), Failure> {
        let address = self.processes[0].address;
        let make = async |path: String, body: Value| api::insist(address, "POST", &path, &body).await;
        make("/api/v1/app".into(), json!({"name": APP, "uid": APP})).await?;
        for name in TYPES {
            make("/api/v1/event-type".into(), json!({"name": name, "description": name})).await?;
        }
        for (endpoint, receiver) in receivers.iter().enumerate() {
            let mut body = filter_of(endpoint);
            body["url"] = json!(format!("http://{receiver}/hook"));
            let made = make(format!("/api/v1/app/{APP}/endpoint"), body).await?;
            self.endpoints
                .push(made["id"].as_str().ok_or("an endpoint without id")?.to_owned());
        }
        let poller = json!({"uid": POLLER, "eventTypes": POLLED});
        make(format!("/api/v1/app/{APP}/poller"), poller).await?;
        Ok(())
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.processes.iter().map(|process| process.address).collect()
    }

    pub fn cluster(&mut self) -> Result<&mut Cluster, Failure> {
        self.cluster.as_mut().ok_or_else(|| "this run has no Postgres".into())
    }

    pub fn proxy(&self) -> Result<&Proxy, Failure> {
        self.proxy.as_ref().ok_or_else(|| "this run has no proxy".into())
    }

    /// Starts the processes again that have ended by themselves. Returns their numbers.
    pub fn restart_ended(&mut self) -> Result<Vec<usize>, Failure> {
        let mut ended = Vec::new();
        for (number, process) in self.processes.iter_mut().enumerate() {
            if process.has_ended() {
                process.start(&[])?;
                ended.push(number);
            }
        }
        Ok(ended)
    }

    pub async fn stop_processes(&mut self) -> Result<(), Failure> {
        for process in &mut self.processes {
            process.stop().await?;
        }
        Ok(())
    }

    /// Returns the one number that a query selects. On SQLite no process may run meanwhile.
    pub async fn number(&self, sql: &str) -> Result<i64, Failure> {
        let texts = self.texts(&format!("select cast(({sql}) as text)")).await?;
        Ok(texts.first().ok_or("no number")?.parse()?)
    }

    /// Returns the texts that a query selects, as [`Site::number`] does.
    pub async fn texts(&self, sql: &str) -> Result<Vec<String>, Failure> {
        let sql = AssertSqlSafe(sql);
        Ok(match &self.cluster {
            Some(cluster) => {
                let mut connection = cluster.superuser(SQL_DEADLINE).await?;
                sqlx::query_scalar(sql).fetch_all(&mut connection).await?
            }
            None => {
                let mut connection = SqliteConnection::connect(&self.url).await?;
                let found = sqlx::query_scalar(sql).fetch_all(&mut connection).await?;
                connection.close().await?;
                found
            }
        })
    }

    /// Ends what runs, in order.
    pub async fn end(mut self) -> Result<(), Failure> {
        self.stop_processes().await?;
        if let Some(cluster) = self.cluster.take() {
            cluster.stop().await;
        }
        Ok(())
    }
}

/// A folder that is removed when it is dropped, unless it shall be kept.
pub struct Scratch {
    pub folder: PathBuf,
    pub kept: bool,
}

impl Scratch {
    pub fn new(parent: &Path, name: &str) -> std::io::Result<Self> {
        let folder = parent.join(format!("postrider-faults-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, kept: false })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
