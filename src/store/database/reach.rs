//! Tries once to reach the database, and explains a failure so that an operator knows what to do. A pool's own errors
//! only say that the time was up.
//!
//! Must not wait and try again: app does.

use std::io::ErrorKind;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor, Row};

use super::backend::without_line;
use super::store::Pools;
use crate::error::{Error, Kind, Result};
use crate::store::{Backend, Store};

/// How long the connection and the query for the version may take together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// The encoding that a Postgres database must have: texts of any language are stored, and texts that are too long are
/// cut between two characters.
const ENCODING: &str = "UTF8";

impl Store {
    /// Connects to Postgres once, over a connection apart from the pools; an SQLite file is open already. Returns a
    /// text that names the database and its version.
    ///
    /// # Errors
    /// `Database` if another try may succeed, `Config` if an operator has to change something first.
    pub async fn reach(&self) -> Result<String> {
        match self.pools() {
            Pools::Postgres { options, .. } => {
                let asked = tokio::time::timeout(CONNECT_DEADLINE, ask_postgres(options)).await;
                asked.map_err(|_| Error::new(Kind::Database, format!("no answer from {} in 5 s", place(options))))?
            }
            Pools::Sqlite { file, .. } => {
                let version = Statement::from_string(Backend::Sqlite.orm(), "select sqlite_version()");
                let row = self.pool().query_one_raw(version).await?;
                let version: Option<String> = row.map(|row| row.try_get_by_index(0)).transpose()?;
                Ok(format!(
                    "SQLite {} in {}",
                    version.unwrap_or_default(),
                    file.path().display()
                ))
            }
        }
    }
}

async fn ask_postgres(options: &PgConnectOptions) -> Result<String> {
    let failed = |err| explain(options, &err);
    let mut connection = PgConnection::connect_with(options).await.map_err(failed)?;
    let what = "select current_setting('server_version'), current_setting('server_encoding'), current_database()::text";
    let row = connection.fetch_one(what).await.map_err(failed)?;
    let text = |column: usize| row.try_get::<String, _>(column).map_err(failed);
    let (version, encoding, name) = (text(0)?, text(1)?, text(2)?);
    let _ = connection.close().await;
    if encoding != ENCODING {
        return Err(Error::config(format!(
            "the database \"{name}\" of {} has the encoding {encoding}, and must have {ENCODING}: create another one, with \
             `create database NAME template template0 encoding '{ENCODING}' locale_provider 'libc' locale 'C'`",
            place(options)
        )));
    }
    Ok(format!("Postgres {version} at {}, database {name}", address(options)))
}

fn place(options: &PgConnectOptions) -> String {
    format!("Postgres at {}", address(options))
}

fn address(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Turns an error of connecting into one that says what to do. SQLSTATE codes: PostgreSQL documentation, appendix A.
fn explain(options: &PgConnectOptions, err: &sqlx::Error) -> Error {
    let code = err
        .as_database_error()
        .and_then(|err| err.code())
        .unwrap_or_default()
        .into_owned();
    let place = place(options);
    let user = options.get_username();
    let message = match code.as_str() {
        "28P01" => format!(
            "{place} refuses the password of \"{user}\". A password that was changed after the database was created does \
             not reach it by itself: set the old one, or `alter role ... password ...` in the database"
        ),
        "28000" => format!(
            "{place} does not let \"{user}\" in, whatever the password: its pg_hba.conf allows no such connection, or the \
             role may not log in"
        ),
        "3D000" => format!("{place} has no database \"{}\"", options.get_database().unwrap_or(user)),
        _ if is_refusal_of_tls(options, err) => format!("cannot connect to {place} over TLS as its URL demands"),
        _ => return Error::new(Kind::Database, format!("cannot connect to {place}")).because(plain(err)),
    };
    Error::config(message).because(plain(err))
}

fn plain(err: &sqlx::Error) -> String {
    without_line(&err.to_string(), err).to_owned()
}

/// Returns whether TLS failed: the server does not speak it, a file of certificates is missing, or the server's
/// certificate or ours was refused. Another try would end in the same way.
fn is_refusal_of_tls(options: &PgConnectOptions, err: &sqlx::Error) -> bool {
    let is_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
    match err {
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => true,
        sqlx::Error::Io(err) if err.kind() == ErrorKind::NotFound => !is_socket,
        sqlx::Error::Io(err) => err.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()),
        _ => false,
    }
}
