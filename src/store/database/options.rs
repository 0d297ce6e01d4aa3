//! The options with which a database is opened. Must not open it.

use std::time::Duration;

/// The database and how a process connects to it.
#[derive(Clone)]
pub struct ConnectOptions {
    /// `sqlite://PATH` or `postgresql://user:password@host:port/name`.
    pub url: String,
    /// The password to use in place of the one in `url`. `None` means that of `url`.
    pub password: Option<String>,
    /// The most connections to Postgres that this process may have.
    pub max_connections: u32,
    /// Whether SQLite flushes to the disk at every commit (`synchronous = full`). If not, a power failure may lose the
    /// last commits.
    pub full_sync: bool,
    /// How long Postgres may take for one answer. After that its connections are replaced.
    pub answer_deadline: Duration,
}

/// How a process holds an SQLite file. Without meaning on Postgres, where any number of processes work side by side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hold {
    /// Takes the file's lock, or fails at once if another process holds it. For `serve`.
    Alone,
    /// Takes the file's lock, and waits this long for another process to release it. For changes of the schema: several
    /// migrators may start at once, and each must wait for the one before it.
    AloneWithin(Duration),
    /// Works beside a process that holds the lock, as a guest, on a file that must exist. Writes wait for their turn.
    /// For an operator's commands.
    Beside,
}
