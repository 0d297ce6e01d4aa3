//! Provides a Postgres server of the run's own, which can be killed and started again.
//!
//! All settings that concern durability keep their defaults. Must not know what is stored in it.

use crate::Failure;
use crate::machine::{self, Running};
use crate::postgres::{connect, prepare, unprivileged_user};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use url::Url;

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// The program's own role. It is no superuser, so that the connections that Postgres keeps for superusers are not its.
pub const ROLE: &str = "postrider";
pub const DATABASE: &str = "postrider";
/// Two processes take 24 connections at most.
const SETTINGS: [&str; 4] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=40",
    // The small file system shall not fill by itself.
    "max_wal_size=256MB",
];

pub struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    log: PathBuf,
    port: u16,
    user: Option<(u32, u32)>,
    server: Option<Running>,
}

impl Cluster {
    /// Creates a cluster below `folder` and starts its server. `log` is the file for what the server says.
    pub async fn start(folder: &Path, log: PathBuf) -> Result<Self, Failure> {
        let programs = machine::directory_with(&["initdb", "postgres"])
            .ok_or("no initdb and postgres on PATH or in /usr/lib/postgresql/*/bin")?;
        let user = unprivileged_user()?;
        let data = folder.join("postgres");
        fs::create_dir(&data)?;
        if let Some((uid, gid)) = user {
            chown(&data, Some(uid), Some(gid))?;
        }
        let made = prepare(programs.join("initdb"), user, &File::create(&log)?)?
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale"])
            .arg("--pgdata")
            .arg(&data)
            .status()?;
        if !made.success() {
            return Err(format!("initdb failed: {}", fs::read_to_string(&log)?).into());
        }
        let port = crate::free_port()?;
        let mut cluster = Self {
            programs,
            data,
            log,
            port,
            user,
            server: None,
        };
        cluster.start_server()?;
        let setup =
            format!("create role {ROLE} login; create role others login; create database {DATABASE} owner {ROLE}");
        for statement in setup.split("; ") {
            cluster.execute(statement).await?;
        }
        Ok(cluster)
    }

    /// Returns the URL of the program's database, for its own role or for the superuser.
    pub fn url(&self, role: &str) -> String {
        format!("postgresql://{role}@127.0.0.1:{}/{DATABASE}", self.port)
    }

    fn start_server(&mut self) -> Result<(), Failure> {
        let log = OpenOptions::new().append(true).open(&self.log)?;
        let mut server = prepare(self.programs.join("postgres"), self.user, &log)?;
        server.arg("-D").arg(&self.data);
        server.args(["-c", &format!("port={}", self.port)]);
        server.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        self.server = Some(Running::spawn(&mut server)?);
        Ok(())
    }

    /// Kills all processes of the server at once.
    pub fn kill(&mut self) -> Result<(), Failure> {
        let mut server = self.server.take().ok_or("the server does not run")?;
        let own = server.0.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        let mut kill = Command::new("kill");
        kill.arg("-9").arg(own.to_string()).args(children.split_whitespace());
        // One of the children may have ended by itself, which makes the command fail.
        let _ = kill.stderr(std::process::Stdio::null()).status()?;
        server.0.wait()?;
        Ok(())
    }

    /// Starts the server if it does not run, and waits until it takes connections.
    pub async fn revive(&mut self) -> Result<(), Failure> {
        let deadline = std::time::Instant::now() + START_DEADLINE;
        loop {
            let runs = match &mut self.server {
                Some(server) => server.0.try_wait()?.is_none(),
                None => false,
            };
            if !runs {
                self.start_server()?;
            }
            match self.superuser(Duration::from_secs(2)).await {
                Ok(_) => return Ok(()),
                Err(error) if std::time::Instant::now() >= deadline => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Opens a connection as the superuser to the program's database.
    pub async fn superuser(&self, limit: Duration) -> Result<PgConnection, Failure> {
        connect(&Url::parse(&self.url("postgres"))?, limit).await
    }

    /// Runs a statement as the superuser, outside of the program's database.
    pub async fn execute(&self, statement: &str) -> Result<(), Failure> {
        let mut url = Url::parse(&self.url("postgres"))?;
        url.set_path("postgres");
        let mut connection = connect(&url, START_DEADLINE).await?;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// Stops the server (a fast shutdown).
    pub async fn stop(mut self) {
        if let Some(mut server) = self.server.take() {
            server.signal("INT");
            server.ended_within(STOP_DEADLINE).await;
        }
    }
}

/// Ends the server's children too, which a kill of the first process alone would leave behind.
impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            server.signal("QUIT");
            let _ = server.0.wait();
        }
    }
}
