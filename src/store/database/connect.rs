//! Opens the database that a URL names, and makes the handle on it. Must not decide how a process holds its file.

use super::options::{ConnectOptions, Hold};
use super::sqlite_file::sqlite_path;
use super::store::Store;
use super::{postgres, sqlite};
use crate::clock::Clock;
use crate::error::Result;

impl Store {
    /// Opens the pools, an SQLite file alone; Postgres connects at the first use.
    ///
    /// # Errors
    /// `Config` when the URL is of no kind that we know, or another process serves this SQLite file.
    pub async fn open(options: &ConnectOptions, clock: Clock) -> Result<Self> {
        Self::open_as(Hold::Alone, options, clock).await
    }

    /// As [`Store::open`], holding an SQLite file as `hold` says.
    ///
    /// # Errors
    /// `Config` as for [`Store::open`], and when there is no file to work beside another process on.
    pub async fn open_as(hold: Hold, options: &ConnectOptions, clock: Clock) -> Result<Self> {
        let pools = match sqlite_path(&options.url) {
            Some(path) => sqlite::open(&path, hold, options.full_sync).await?,
            None => postgres::open(options)?,
        };
        Ok(Self::new(pools, clock))
    }
}
