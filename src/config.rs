//! Defines every setting once: its option, environment name, `*_FILE` form, default, check, and whether it is secret.
//!
//! clap reads options and variables into these structs. Secrets stay private fields: an accessor reads a secret from
//! its value or its file and checks it. The `///` of a field is its help text, and says the same as the table in
//! docs/operating.md. Must not act on a setting: no connection, no task.

mod database_url;
mod parse;
mod secret;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use parse::{ancestors, days, public_url, seconds, socket_address};
use secret::read_secret;
pub(crate) use secret::resolve;
pub use secret::{Rotating, Secret, replace, write_missing};

use crate::domain::retry::RetrySchedule;
use crate::domain::target::{Networks, TargetPolicy};
use crate::error::{Error, Result};

const DEFAULT_DATABASE: &str = "sqlite://data/postrider.sqlite";
/// Connections to Postgres by default: one for wake-ups, one for the heartbeat, two for accepting, four for the queue
/// and four for the API.
pub const USUAL_CONNECTIONS: u32 = 12;
/// The fewest connections to Postgres: with fewer, the API or the queue would have a single one.
pub const LEAST_CONNECTIONS: u32 = 8;

/// The settings that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogSettings {
    /// What is logged to standard error: error, warn, info, debug or trace, also by module: info,postrider=debug
    #[arg(
        long,
        env = "POSTRIDER_LOG",
        value_name = "FILTER",
        default_value = "info",
        global = true
    )]
    pub log: String,

    /// How log lines are written
    #[arg(long, env = "POSTRIDER_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// Readable text
    Text,
    /// One JSON object per line
    Json,
}

/// The database and how it is used.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct DatabaseSettings {
    /// The database: sqlite://PATH or postgresql://user:password@host:5432/name
    /// [default: sqlite://data/postrider.sqlite]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<Secret>,

    /// A file to read DATABASE_URL from
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "FILE")]
    database_url_file: Option<PathBuf>,

    /// The database's password, instead of one in the URL
    #[arg(
        long,
        env = "POSTRIDER_DATABASE_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true
    )]
    database_password: Option<Secret>,

    /// A file to read the database's password from
    #[arg(long, env = "POSTRIDER_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    database_password_file: Option<PathBuf>,

    /// Connections of this process to Postgres, at most; 8 to 1000
    #[arg(long, env = "POSTRIDER_DATABASE_CONNECTIONS", value_name = "N", default_value_t = USUAL_CONNECTIONS, value_parser = clap::value_parser!(u32).range(i64::from(LEAST_CONNECTIONS)..=1000))]
    pub database_connections: u32,

    /// SQLite: "full" loses nothing in a power failure; "normal" is faster and may lose the last commits
    #[arg(long, env = "POSTRIDER_SQLITE_SYNC", value_name = "MODE", value_enum, default_value_t = SqliteSync::Full)]
    pub sqlite_sync: SqliteSync,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SqliteSync {
    Full,
    Normal,
}

impl DatabaseSettings {
    /// Returns the database's URL in the form that the store reads.
    ///
    /// # Errors
    /// `Config` if the URL is given both as a value and as a file, if its file cannot be read, or if it names no
    /// database that the store can open.
    pub fn url(&self) -> Result<Secret> {
        let (value, file) = (self.database_url.as_ref(), self.database_url_file.as_deref());
        let url = resolve("DATABASE_URL", value, file)?;
        let url = url.unwrap_or_else(|| Secret::from(DEFAULT_DATABASE.to_owned()));
        database_url::check("DATABASE_URL", &url)
    }

    /// Returns the password that replaces one in the URL; `None` means that the URL's own is used.
    ///
    /// # Errors
    /// `Config` if the password is given both as a value and as a file, or if its file cannot be read.
    pub fn password(&self) -> Result<Option<Secret>> {
        let (value, file) = (self.database_password.as_ref(), self.database_password_file.as_deref());
        resolve("POSTRIDER_DATABASE_PASSWORD", value, file)
    }
}

/// The URL for migrations, if it is not DATABASE_URL.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct MigrateSettings {
    /// Another URL for migrations: a direct one if DATABASE_URL leads to a pooler [default: DATABASE_URL]
    #[arg(long, env = "MIGRATE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    migrate_database_url: Option<Secret>,

    /// A file to read MIGRATE_DATABASE_URL from
    #[arg(long, env = "MIGRATE_DATABASE_URL_FILE", value_name = "FILE")]
    migrate_database_url_file: Option<PathBuf>,
}

impl MigrateSettings {
    /// Returns the URL for migrations; `None` means that they use DATABASE_URL.
    ///
    /// # Errors
    /// `Config` as for [`DatabaseSettings::url`].
    pub fn url(&self) -> Result<Option<Secret>> {
        let (value, file) = (
            self.migrate_database_url.as_ref(),
            self.migrate_database_url_file.as_deref(),
        );
        let url = resolve("MIGRATE_DATABASE_URL", value, file)?;
        let checked = url.map(|url| database_url::check("MIGRATE_DATABASE_URL", &url));
        checked.transpose()
    }
}

const ENCRYPTION_KEY: &str = "POSTRIDER_ENCRYPTION_KEY";
/// The fewest characters of an encryption key.
const ENCRYPTION_KEY_MIN: usize = 32;

/// The key that seals endpoint secrets and custom headers.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Secrets")]
pub struct KeySettings {
    /// Encrypts endpoints' secrets and custom headers at rest: at least 32 characters. On SQLite it is made beside the
    /// database if it is not given, on Postgres it must be given. Two lines while it is rotated: the new key, then the
    /// former one
    #[arg(long, env = "POSTRIDER_ENCRYPTION_KEY", value_name = "TEXT", hide_env_values = true)]
    encryption_key: Option<Secret>,

    /// A file to read the encryption key from
    #[arg(long, env = "POSTRIDER_ENCRYPTION_KEY_FILE", value_name = "FILE")]
    encryption_key_file: Option<PathBuf>,
}

impl KeySettings {
    /// Returns the encryption key, with the former one while it is rotated; `None` means that no setting gives one.
    ///
    /// # Errors
    /// `Config` if the key is given both as a value and as a file, cannot be read, is too short or has more than two
    /// lines.
    pub fn encryption_key(&self) -> Result<Option<Rotating>> {
        let (value, file) = (self.encryption_key.as_ref(), self.encryption_key_file.as_deref());
        let key = resolve(ENCRYPTION_KEY, value, file)?;
        key.map(|key| Rotating::parse(ENCRYPTION_KEY, &key, ENCRYPTION_KEY_MIN))
            .transpose()
    }
}

/// Reads the file at `path`, which holds the encryption key, and the former one while it is rotated.
///
/// # Errors
/// `Config` if the file cannot be read, is empty, holds more than two lines or a key that is too short.
pub fn read_encryption_key(path: &Path) -> Result<Rotating> {
    Rotating::parse(ENCRYPTION_KEY, &read_secret(ENCRYPTION_KEY, path)?, ENCRYPTION_KEY_MIN)
}

/// The address that the API listens on.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Serving")]
pub struct ListenSettings {
    /// Address and port of the API; :8080 means all IPv4 addresses of the machine
    #[arg(
        long,
        env = "POSTRIDER_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080",
        value_parser = socket_address
    )]
    pub listen: SocketAddr,
}

/// The URL of the server for browsers.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Serving")]
pub struct PublicSettings {
    /// Where browsers reach this server; links begin with it [default: http:// and the listening address]
    #[arg(long, env = "POSTRIDER_PUBLIC_URL", value_name = "URL", value_parser = public_url)]
    pub public_url: Option<String>,
}

/// The default limit of endpoints in one application.
pub const ENDPOINTS_PER_APPLICATION: u32 = 1000;

/// The settings of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeSettings {
    #[command(flatten)]
    pub listen: ListenSettings,

    #[command(flatten)]
    pub database: DatabaseSettings,

    /// Migrate a Postgres database before serving it; SQLite is always migrated
    #[arg(long, env = "POSTRIDER_MIGRATE", value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set, help_heading = "Database")]
    pub migrate: bool,

    #[command(flatten)]
    pub migrations: MigrateSettings,

    /// Accepted messages in one commit, at most; 1 to 200
    #[arg(long, env = "POSTRIDER_INTAKE_BATCH", value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=200), help_heading = "Database")]
    pub intake_batch: u16,

    #[command(flatten)]
    pub key: KeySettings,

    /// A token for the organization "default", valid from the start: at least 20 characters, no white space. Two lines
    /// while it is rotated: the new token, then the former one
    #[arg(
        long,
        env = "POSTRIDER_ADMIN_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        help_heading = "Secrets"
    )]
    admin_token: Option<Secret>,

    /// A file to read the admin token from
    #[arg(
        long,
        env = "POSTRIDER_ADMIN_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Secrets"
    )]
    admin_token_file: Option<PathBuf>,

    /// Private networks that deliveries may reach: CIDRs, comma-separated, such as 127.0.0.0/8 [default: none]
    #[arg(
        long,
        env = "POSTRIDER_ALLOW_TARGETS",
        value_name = "CIDRS",
        default_value = "",
        hide_default_value = true,
        help_heading = "Deliveries"
    )]
    allow_targets: TargetPolicy,

    /// Networks that deliveries may not reach, even if they are public or allowed: CIDRs, comma-separated
    /// [default: none]
    #[arg(
        long,
        env = "POSTRIDER_REFUSE_TARGETS",
        value_name = "CIDRS",
        default_value = "",
        hide_default_value = true,
        help_heading = "Deliveries"
    )]
    refuse_targets: Networks,

    /// Seconds between the attempts, comma-separated, at most 50; each wait varies by up to a fifth. Empty: one
    /// attempt, no retry
    #[arg(
        long,
        env = "POSTRIDER_RETRY_SCHEDULE",
        value_name = "SECONDS",
        default_value = "5,300,1800,7200,18000,36000,36000",
        help_heading = "Deliveries"
    )]
    pub retry_schedule: RetrySchedule,

    /// Deliveries of this process in flight, at most
    #[arg(long, env = "POSTRIDER_CONCURRENCY", value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Deliveries")]
    pub concurrency: u32,

    /// Deliveries of this process in flight to one endpoint, at most
    // 128: with 64 a fast endpoint waited for claims of its parked rows and got a third of the deliveries; 256 was no
    // faster, and four endpoints that hang would fill all 1,024 slots.
    #[arg(long, env = "POSTRIDER_ENDPOINT_CONCURRENCY", value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Deliveries")]
    pub endpoint_concurrency: u32,

    /// Seconds that one attempt may take in all; 1 to 60
    #[arg(long, env = "POSTRIDER_ATTEMPT_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = seconds::<1, 60>, help_heading = "Deliveries")]
    pub attempt_timeout: Duration,

    /// Endpoints of one application, at most, and so the deliveries of one message
    #[arg(long, env = "POSTRIDER_ENDPOINTS_PER_APPLICATION", value_name = "N", default_value_t = ENDPOINTS_PER_APPLICATION, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Deliveries")]
    pub endpoints_per_application: u32,

    /// Send id, timestamp and signatures also as svix-id, svix-timestamp and svix-signature
    #[arg(long, env = "POSTRIDER_SVIX_HEADERS", value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set, help_heading = "Deliveries")]
    pub svix_headers: bool,

    /// Days that messages, their attempts and results are kept; 7 to 36500. A payload may be removed earlier, after its
    /// message's payloadRetentionPeriod
    #[arg(long, env = "POSTRIDER_HISTORY_RETENTION", value_name = "DAYS", default_value = "180", value_parser = days::<7, 36_500>, help_heading = "Database")]
    pub history_retention: Duration,

    /// Days that entries of the audit log are kept; 1 to 36500
    #[arg(long, env = "POSTRIDER_AUDIT_RETENTION", value_name = "DAYS", default_value = "400", value_parser = days::<1, 36_500>, help_heading = "Database")]
    pub audit_retention: Duration,

    #[command(flatten)]
    pub public: PublicSettings,

    /// Origins whose pages may show the portal in a frame, comma-separated, such as https://app.example.com; * means any
    #[arg(long, env = "POSTRIDER_PORTAL_ANCESTORS", value_name = "ORIGINS", default_value = "*", value_parser = ancestors, help_heading = "Serving")]
    pub portal_ancestors: String,

    /// Seconds that an endpoint may fail, with no success in between, before it is disabled; 0: never
    #[arg(long, env = "POSTRIDER_DISABLE_AFTER", value_name = "SECONDS", default_value = "432000", value_parser = seconds::<0, 31_536_000>, help_heading = "Deliveries")]
    pub disable_after: Duration,

    /// Address and port of /metrics, /livez and /readyz, such as 127.0.0.1:9464 [default: off]
    #[arg(
        long,
        env = "POSTRIDER_METRICS_LISTEN",
        value_name = "ADDRESS",
        value_parser = socket_address,
        help_heading = "Serving"
    )]
    pub metrics_listen: Option<SocketAddr>,

    /// Seconds that requests and deliveries in flight have to end after SIGTERM; 0 to 3600
    #[arg(long, env = "POSTRIDER_SHUTDOWN_GRACE", value_name = "SECONDS", default_value = "30", value_parser = seconds::<0, 3600>,
        help_heading = "Serving")]
    pub shutdown_grace: Duration,

    /// Seconds that the process stays after its last work and refuses connections, so that proxies notice before its
    /// address disappears; 0 to 60
    #[arg(long, env = "POSTRIDER_SHUTDOWN_LINGER", value_name = "SECONDS", default_value = "0", value_parser = seconds::<0, 60>,
        help_heading = "Serving")]
    pub shutdown_linger: Duration,
}

impl ServeSettings {
    /// Returns the rule for the addresses that deliveries may reach.
    pub fn targets(&self) -> TargetPolicy {
        self.allow_targets.clone().refusing(self.refuse_targets.clone())
    }

    /// Returns the operator's token, with the former one while it is rotated; `None` means that there is none.
    ///
    /// # Errors
    /// `Config` if the token is given both as a value and as a file, cannot be read, is too short, has more than two
    /// lines or contains white space.
    pub fn admin_token(&self) -> Result<Option<Rotating>> {
        let name = "POSTRIDER_ADMIN_TOKEN";
        let token = resolve(name, self.admin_token.as_ref(), self.admin_token_file.as_deref())?;
        let Some(token) = token else { return Ok(None) };
        let tokens = Rotating::parse(name, &token, 20)?;
        // After `Bearer` a header has one word (RFC 6750, 2.1). White space around it is removed from what a request
        // brings, so a token that begins or ends with some could never match.
        if tokens.iter().any(|token| token.expose().contains(char::is_whitespace)) {
            return Err(Error::config(format!("{name} must not contain white space")));
        }
        Ok(Some(tokens))
    }
}
