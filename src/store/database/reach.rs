//! One try at the database, with an error that tells an operator what to do. A pool's own errors only tell that time
//! ran out. Must not wait or repeat: app does. Called by app and cli before anything else.

use std::io::ErrorKind;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor, Row};

use super::backend::without_line;
use super::store::Pools;
use crate::error::{Error, Kind, Result};
use crate::store::{Backend, Store};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Texts of any language are stored, and what is shortened is cut between two characters.
const ENCODING: &str = "UTF8";

impl Store {
    /// Connects to Postgres once; an SQLite file that is open has been reached. Returns which database it is, with its
    /// version.
    ///
    /// # Errors
    /// `Database` when it may be worth another try, `Config` when it will not be.
    pub async fn reach(&self) -> Result<String> {
        match self.pools() {
            Pools::Postgres { options, .. } => {
                let asked = tokio::time::timeout(CONNECT_DEADLINE, ask_postgres(options)).await;
                asked.map_err(|_| Error::new(Kind::Database, format!("no answer from {} in 5 s", place(options))))?
            }
            Pools::Sqlite { file, .. } => {
                let version = Statement::from_string(Backend::Sqlite.orm(), "select sqlite_version()");
                let row = self.reader().query_one_raw(version).await?;
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

/// SQLSTATE codes: PostgreSQL documentation, appendix A.
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

/// Whether the server speaks no TLS, a file of certificates is missing, or the server's certificate or ours is refused:
/// another try would end in the same way.
fn is_refusal_of_tls(options: &PgConnectOptions, err: &sqlx::Error) -> bool {
    let is_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
    match err {
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => true,
        sqlx::Error::Io(err) if err.kind() == ErrorKind::NotFound => !is_socket,
        sqlx::Error::Io(err) => err.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()),
        _ => false,
    }
}
