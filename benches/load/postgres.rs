//! Provides the Postgres server that is measured: starts one in a scratch folder, or attaches to a running one by its
//! URL.
//!
//! Must not change a setting that affects durability or speed: Postgres is measured as it is by default.

use crate::Failure;
use crate::machine::{self, Running};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use url::Url;

const START_DEADLINE: Duration = Duration::from_secs(30);

/// A running Postgres server.
pub struct Postgres {
    pub url: Url,
    /// The version and the settings that matter, for the report.
    pub settings: String,
    /// The id of the server's first process; `None` if it runs on another machine.
    postmaster: Option<u32>,
    /// The process that this program started; `None` if it attached to a running server.
    process: Option<Running>,
}

impl Postgres {
    /// Starts the server programs of this machine on a free port, with `settings` (`NAME=VALUE`) and the defaults of
    /// all others.
    pub async fn start(scratch: &Path, settings: &[&str]) -> Result<Self, Failure> {
        let programs = machine::directory_with(&["initdb", "postgres"])
            .ok_or("no initdb and postgres on PATH or in /usr/lib/postgresql/*/bin; give --database-url")?;
        let folder = scratch.join("postgres");
        fs::create_dir(&folder)?;
        let user = unprivileged_user()?;
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid))?;
        }
        let log = File::create(scratch.join("postgres.log"))?;
        let data = folder.join("data");
        let initdb = prepare(programs.join("initdb"), user, &log)?
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--no-locale",
                "--pgdata",
            ])
            .arg(&data)
            .status()?;
        if !initdb.success() {
            return Err(format!("initdb failed: {}", fs::read_to_string(scratch.join("postgres.log"))?).into());
        }
        let port = crate::free_port()?;
        let mut server = prepare(programs.join("postgres"), user, &log)?;
        server
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")])
            .args(["-c", "unix_socket_directories="])
            .args(settings.iter().flat_map(|setting| ["-c", setting]));
        let process = Running::spawn(&mut server)?;
        let mut server = Self::attach(&format!("postgresql://postgres@127.0.0.1:{port}/postgres")).await?;
        server.process = Some(process);
        Ok(server)
    }

    /// Attaches to a server that runs already. Its processor time is known only if it runs on this machine.
    pub async fn attach(url: &str) -> Result<Self, Failure> {
        let url = Url::parse(url).map_err(|error| format!("--database-url: {error}"))?;
        let mut connection = connect(&url, START_DEADLINE).await?;
        let mut settings = Vec::new();
        for name in [
            "server_version",
            "fsync",
            "synchronous_commit",
            "shared_buffers",
            "max_wal_size",
        ] {
            let value: String = sqlx::query_scalar("select current_setting($1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await?;
            settings.push(format!("{name} = {value}"));
        }
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut connection)
            .await?;
        Ok(Self {
            url,
            settings: settings.join(", "),
            postmaster: postmaster_of(backend.cast_unsigned()),
            process: None,
        })
    }

    /// Creates an empty database of this name, in place of an existing one, and returns its URL.
    pub async fn fresh_database(&self, name: &str) -> Result<Url, Failure> {
        self.drop_database(name).await?;
        self.run(&format!("create database {name}")).await?;
        let mut url = self.url.clone();
        url.set_path(name);
        Ok(url)
    }

    pub async fn drop_database(&self, name: &str) -> Result<(), Failure> {
        self.run(&format!("drop database if exists {name} with (force)")).await
    }

    /// Makes a checkpoint. Called before each measurement, so that all start with the same distance to the next
    /// checkpoint.
    pub async fn checkpoint(&self) {
        if let Err(error) = self.run("checkpoint").await {
            eprintln!("no checkpoint before this measurement: {error}");
        }
    }

    /// Returns the seconds of processor time of all the server's processes.
    pub fn processor_time(&self) -> Option<f64> {
        machine::processor_time_with_children(self.postmaster?)
    }

    /// Stops the server if this program started it (a fast shutdown).
    pub async fn stop(mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal("INT");
            process.ended_within(Duration::from_secs(20)).await;
        }
    }

    async fn run(&self, statement: &str) -> Result<(), Failure> {
        let mut connection = connect(&self.url, Duration::from_secs(5)).await?;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.signal("QUIT");
            let _ = process.0.wait();
        }
    }
}

/// Connects, and tries again until `limit` is over: a server that was just started does not accept connections yet.
pub async fn connect(url: &Url, limit: Duration) -> Result<PgConnection, Failure> {
    let deadline = Instant::now() + limit;
    loop {
        match PgConnection::connect(url.as_str()).await {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() >= deadline => return Err(format!("Postgres: {error}").into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Returns the parent of a server process; `None` if the process is not one of this machine.
fn postmaster_of(backend: u32) -> Option<u32> {
    let name = fs::read_to_string(format!("/proc/{backend}/comm")).ok()?;
    name.starts_with("postgres").then(|| machine::parent_of(backend))?
}

/// Returns the user and group to run the server as, if this program runs as root: `postgres` or `nobody`, because
/// initdb refuses to run as root. `None` means that this program does not run as root.
pub fn unprivileged_user() -> Result<Option<(u32, u32)>, Failure> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let row: Vec<&str> = users
            .lines()
            .map(|line| line.split(':').collect())
            .find(|row: &Vec<&str>| row[0] == name)?;
        Some((row.get(2)?.parse().ok()?, row.get(3)?.parse().ok()?))
    };
    let found = ids("postgres").or_else(|| ids("nobody"));
    found
        .map(Some)
        .ok_or_else(|| "root, and no user postgres or nobody to run Postgres as".into())
}

/// Prepares a command that runs as `user` and writes to `log`.
pub fn prepare(program: PathBuf, user: Option<(u32, u32)>, log: &File) -> Result<Command, Failure> {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .current_dir("/");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    Ok(command)
}
