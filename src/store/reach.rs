//! One try at the database, with an error that tells an operator what to do. A pool's own errors only tell that time
//! ran out. Must not wait or repeat: app does. Called by app and cli before anything else.

use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::Store;
use super::connect::Pools;
use crate::error::{Error, Kind, Result};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

impl Store {
    /// Connects to Postgres once; an SQLite file that is open has been reached.
    ///
    /// # Errors
    /// `Database` when it may be worth another try, `Config` when it will not be.
    pub async fn reach(&self) -> Result<()> {
        let Pools::Postgres { options, .. } = self.pools() else {
            return Ok(());
        };
        let connection = tokio::time::timeout(CONNECT_DEADLINE, PgConnection::connect_with(options))
            .await
            .map_err(|_| Error::new(Kind::Database, format!("no answer from {} in 5 s", place(options))))?
            .map_err(|err| explain(options, err))?;
        let _ = connection.close().await;
        Ok(())
    }
}

fn place(options: &PgConnectOptions) -> String {
    format!("Postgres at {}:{}", options.get_host(), options.get_port())
}

/// SQLSTATE codes: PostgreSQL documentation, appendix A.
fn explain(options: &PgConnectOptions, err: sqlx::Error) -> Error {
    let code = err
        .as_database_error()
        .and_then(|err| err.code())
        .unwrap_or_default()
        .into_owned();
    let place = place(options);
    let message = match code.as_str() {
        "28P01" | "28000" => format!(
            "{place} refuses the password of \"{}\". A password that was changed after the database was created does \
             not reach it by itself: set the old one, or `alter role ... password ...` in the database",
            options.get_username()
        ),
        "3D000" => format!(
            "{place} has no database \"{}\"",
            options.get_database().unwrap_or(options.get_username())
        ),
        _ => return Error::new(Kind::Database, format!("cannot connect to {place}")).because(err),
    };
    Error::config(message).because(err)
}
