//! Opens the database that a URL names, and makes the [`Store`] for it. Must not decide how a process holds an SQLite
//! file.

use super::options::{ConnectOptions, Hold};
use super::sqlite_file::sqlite_path;
use super::store::Store;
use super::{postgres, sqlite};
use crate::clock::Clock;
use crate::error::Result;

impl Store {
    /// Opens the database for a process that serves it: an SQLite file is held by this process alone. Postgres is
    /// connected to at the first use.
    ///
    /// # Errors
    /// `Config` if the URL is of an unknown kind, or if the SQLite file cannot be opened or is held by another process.
    pub async fn open(options: &ConnectOptions, clock: Clock) -> Result<Self> {
        Self::open_as(Hold::Alone, options, clock).await
    }

    /// Opens the database as [`Store::open`] does, but holds an SQLite file as `hold` says.
    ///
    /// # Errors
    /// `Config` as [`Store::open`], and if `hold` is [`Hold::Beside`] and the file does not exist.
    pub async fn open_as(hold: Hold, options: &ConnectOptions, clock: Clock) -> Result<Self> {
        let pools = match sqlite_path(&options.url) {
            Some(path) => sqlite::open(&path, hold, options.full_sync).await?,
            None => postgres::open(options)?,
        };
        Ok(Self::new(pools, clock))
    }
}
