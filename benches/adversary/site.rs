//! Provides the site of a scenario: a fresh database, one or two processes of the program on it, and SQL beside them.
//!
//! Must not know what a scenario measures.

use crate::Failure;
use crate::machine::Running;
use crate::postgres::Postgres;
use crate::server::Server;
use crate::wire::Connection as Wire;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::timeout;

const DATABASE: &str = "postrider_adversary";
/// A word that every log line about heartbeats contains.
pub const HEARTBEAT: &str = "heartbeat";
const PAGE_DEADLINE: Duration = Duration::from_secs(2);
const TOKEN_DEADLINE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(100);

/// The state that all scenarios share.
pub struct Ground {
    pub program: PathBuf,
    pub scratch: PathBuf,
    pub postgres: Postgres,
    pub quick: bool,
    /// The size of the history that a scenario fills in; `None` means its own.
    pub attempts: Option<u64>,
}

impl Ground {
    /// Returns `quick` in a quick run, otherwise `full`.
    pub fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Returns a time in seconds, as [`Ground::size`] returns a size.
    pub fn seconds(&self, full: u64, quick: u64) -> Duration {
        Duration::from_secs(self.size(full, quick))
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Database {
    Postgres,
    Sqlite,
}

impl Database {
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "Postgres",
            Self::Sqlite => "SQLite",
        }
    }
}

/// A fresh database. Its files are removed when this is dropped.
pub struct Site<'a> {
    ground: &'a Ground,
    pub database: Database,
    url: String,
    folder: PathBuf,
}

impl<'a> Site<'a> {
    /// Creates the database, in place of that of the last scenario.
    pub async fn new(ground: &'a Ground, database: Database) -> Result<Self, Failure> {
        Self::named(ground, database, "site").await
    }

    /// Creates a database for a scenario that has several of them, each with a name.
    pub async fn named(ground: &'a Ground, database: Database, name: &str) -> Result<Self, Failure> {
        let folder = ground.scratch.join(name);
        fs::create_dir(&folder)?;
        let url = match database {
            Database::Postgres => {
                let name = format!("{DATABASE}_{name}");
                ground.postgres.fresh_database(&name).await?.to_string()
            }
            Database::Sqlite => format!("sqlite://{}", folder.join("postrider.sqlite").display()),
        };
        Ok(Self {
            ground,
            database,
            url,
            folder,
        })
    }

    /// Starts the program once and stops it, so that the tables exist, and the organization to which inserted
    /// applications belong.
    pub async fn prepare(&self) -> Result<(), Failure> {
        let replica = self.start("first", &[]).await?;
        replica.server.application("first", None).await?;
        replica.server.stop().await?;
        Ok(())
    }

    /// Starts the program and makes a token. `name` names its log file, so each process of a site needs one of its own.
    pub async fn start(&self, name: &str, settings: &[&str]) -> Result<Replica, Failure> {
        let metrics = SocketAddr::from(([127, 0, 0, 1], crate::free_port()?));
        let mut settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        settings.push(format!("POSTRIDER_METRICS_LISTEN={metrics}"));
        let log = self.folder.join(format!("{name}.log"));
        let server = Server::start(&self.ground.program, &self.url, &settings, log.clone()).await?;
        let token = self.token().await?;
        Ok(Replica {
            server,
            token,
            metrics,
            log,
        })
    }

    /// Makes a token of the organization whose admin token the program's settings hold.
    async fn token(&self) -> Result<String, Failure> {
        let output = self.folder.join("token");
        let mut command = Command::new(&self.ground.program);
        command
            .args(["token", "create", "--organization", "default"])
            .env_clear()
            .env("DATABASE_URL", &self.url)
            .stdin(Stdio::null())
            .stdout(File::create(&output)?);
        let mut process = Running::spawn(&mut command)?;
        if !process.ended_within(TOKEN_DEADLINE).await {
            return Err("`app token create` does not end".into());
        }
        let token = fs::read_to_string(output)?.trim().to_owned();
        if token.is_empty() {
            return Err("`app token create` has printed no token".into());
        }
        Ok(token)
    }

    /// Opens a connection. Postgres only.
    pub async fn connect(&self) -> Result<PgConnection, Failure> {
        Ok(PgConnection::connect(&self.url).await?)
    }

    /// Runs statements separated by `;`.
    pub async fn execute(&self, sql: &str) -> Result<(), Failure> {
        match self.database {
            Database::Postgres => {
                let mut connection = self.connect().await?;
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
            }
            Database::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.url).await?;
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
                connection.close().await?;
            }
        }
        Ok(())
    }

    /// Returns the one number that a query selects. On SQLite a query that takes long keeps a program from cutting its
    /// log meanwhile.
    pub async fn number(&self, sql: &str) -> Result<i64, Failure> {
        Ok(match self.database {
            Database::Postgres => {
                let number = sqlx::query_scalar(AssertSqlSafe(sql));
                number.fetch_one(&mut self.connect().await?).await?
            }
            Database::Sqlite => {
                let number = sqlx::query_scalar(AssertSqlSafe(sql));
                let mut connection = SqliteConnection::connect(&self.url).await?;
                let found = number.fetch_one(&mut connection).await?;
                connection.close().await?;
                found
            }
        })
    }

    /// Returns the bytes of a table with its indexes, as [`Site::number`] does.
    pub async fn table_bytes(&self, table: &str) -> Result<i64, Failure> {
        let sql = match self.database {
            Database::Postgres => format!("select pg_total_relation_size('{table}')"),
            Database::Sqlite => format!(
                "select sum(pgsize) from dbstat where name in (select name from sqlite_master where tbl_name = '{table}')"
            ),
        };
        self.number(&sql).await
    }

    /// Brings the planner statistics and the visibility map up to date, so that no run depends on when autovacuum does
    /// it.
    pub async fn settle_tables(&self, tables: &[&str]) -> Result<(), Failure> {
        for table in tables {
            let sql = match self.database {
                Database::Postgres => format!("vacuum analyze {table}"),
                Database::Sqlite => format!("analyze {table}; pragma wal_checkpoint(truncate)"),
            };
            self.execute(&sql).await?;
        }
        Ok(())
    }

    /// Waits until the queue is empty; returns whether that happened within `limit`. Postgres only.
    pub async fn drained(&self, limit: Duration) -> Result<bool, Failure> {
        self.reached(limit, "select count(*) from delivery", 0).await
    }

    /// Waits until the query returns `wanted`; returns whether that happened within `limit`. Postgres only.
    pub async fn reached(&self, limit: Duration, sql: &str, wanted: i64) -> Result<bool, Failure> {
        let deadline = Instant::now() + limit;
        while self.number(sql).await? != wanted {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(true)
    }

    /// Returns the seconds of processor time that the database has used; on SQLite, which is part of the program, those
    /// of the program.
    pub fn database_time(&self, replica: &Replica) -> Option<f64> {
        match self.database {
            Database::Postgres => self.ground.postgres.processor_time(),
            Database::Sqlite => replica.server.processor_time(),
        }
    }

    /// Returns the size of SQLite's write-ahead log.
    pub fn wal_file_mb(&self) -> f64 {
        let wal = fs::metadata(self.folder.join("postrider.sqlite-wal"));
        wal.map_or(0.0, |data| data.len() as f64 / 1024.0 / 1024.0)
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A process of the program. It is killed when this is dropped.
pub struct Replica {
    pub server: Server,
    /// An organization's token. The program has to look it up in the database, unlike the admin token in its settings.
    pub token: String,
    metrics: SocketAddr,
    log: PathBuf,
}

impl Replica {
    /// Counts the log lines that contain this text.
    pub fn logged(&self, text: &str) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Returns the sum of all samples whose name contains `name`. `None` means no such sample, or no response.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let page = timeout(PAGE_DEADLINE, self.page()).await.ok()?.ok()?;
        let samples = page.lines().filter(|line| {
            !line.starts_with('#') && line.split(['{', ' ']).next().is_some_and(|key| key.contains(name))
        });
        let values = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.reduce(|sum, value| sum + value)
    }

    async fn page(&self) -> std::io::Result<String> {
        let mut connection = Wire::open(self.metrics).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\n\r\n", self.metrics);
        connection.send(request.as_bytes()).await?;
        let frame = connection.receive().await?.ok_or(std::io::ErrorKind::ConnectionReset)?;
        Ok(String::from_utf8_lossy(connection.body(&frame)).into_owned())
    }
}
