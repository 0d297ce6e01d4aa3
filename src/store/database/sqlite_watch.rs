//! Watches the SQLite file while it is served: checks that it is still there, and has its log cut after data was
//! removed for good. Must not open the file.

use std::time::Duration;

use super::store::{Pools, Store};
use crate::error::Result;

/// How often a process checks that its file is still there. Each commit checks the database too (shared.rs).
const WATCH_PERIOD: Duration = Duration::from_secs(1);

impl Store {
    /// Fails if the SQLite file or its lock is no longer the one that was opened, so that new data would be lost. Never
    /// fails on Postgres.
    ///
    /// # Errors
    /// `Unavailable`, with the reason.
    pub fn check_file(&self) -> Result<()> {
        match self.pools() {
            Pools::Sqlite { file, .. } => file.check(),
            Pools::Postgres { .. } => Ok(()),
        }
    }

    /// Checks the SQLite file once a second, and cuts its log if an earlier cut was not possible. On Postgres waits
    /// without end.
    ///
    /// # Errors
    /// As [`Store::check_file`]; it ends in no other way.
    pub async fn watch_file(&self) -> Result<()> {
        if let Pools::Postgres { .. } = self.pools() {
            return std::future::pending().await;
        }
        loop {
            self.check_file()?;
            self.cut_marked_log().await;
            self.clock().sleep(WATCH_PERIOD).await;
        }
    }

    /// Cuts the log after a transaction that removed data for good has committed. If that is not possible now, or the
    /// last cut was less than a second ago, [`Store::watch_file`] does it later.
    pub(crate) async fn forget(&self) {
        if let Pools::Sqlite { log, .. } = self.pools() {
            log.mark();
            self.cut_marked_log().await;
        }
    }

    /// Cuts the log if it is marked. Runs to its end even if the caller is cancelled.
    async fn cut_marked_log(&self) {
        if !matches!(self.pools(), Pools::Sqlite { log, .. } if log.is_marked()) {
            return;
        }
        let store = self.clone();
        let cut = tokio::spawn(async move {
            match store.pools() {
                Pools::Sqlite { writer, log, file, .. } => log.cut(writer, file, store.clock().monotonic()).await,
                Pools::Postgres { .. } => Ok(()),
            }
        });
        if let Ok(Err(err)) = cut.await {
            tracing::warn!(%err, "SQLite's log could not be cut after data was removed for good; trying again");
        }
    }
}
