//! What a database is opened with. Must not open it.

use std::time::Duration;

#[derive(Clone)]
pub struct ConnectOptions {
    /// `sqlite://PATH` or `postgresql://user:password@host:port/name`.
    pub url: String,
    /// Instead of the password in `url`.
    pub password: Option<String>,
    /// Postgres connections of this process.
    pub max_connections: u32,
    /// SQLite: flush at every commit (`FULL`); without it the last commits may be lost with the power.
    pub full_sync: bool,
    /// How long Postgres may take over an answer; then it is connected to anew.
    pub answer_deadline: Duration,
}

/// How a process holds an SQLite file. On Postgres every process is a guest, whatever it asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hold {
    /// For `serve`: no other holder at all, or an error at once.
    Alone,
    /// To change the schema: waits this long for another holder to end, as several migrators at once must.
    AloneWithin(Duration),
    /// For an operator's command: works beside a holder, on a file that exists. Its writes wait their turn.
    Beside,
}
