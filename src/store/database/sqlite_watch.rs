//! Looks after the SQLite file while it is served: that it is still there, and that its log is cut after something was
//! removed for good. Must not open the file.

use std::time::Duration;

use super::store::{Pools, Store};
use crate::error::Result;

/// How often a process makes sure that its file is there. What it accepts is proved by each commit besides.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

impl Store {
    /// Fails if what is written now would be lost, since the SQLite file is not the one that was opened. Never on Postgres.
    ///
    /// # Errors
    /// `Unavailable`, with the reason.
    pub fn check_file(&self) -> Result<()> {
        match self.pools() {
            Pools::Sqlite { file, .. } => file.check(),
            Pools::Postgres { .. } => Ok(()),
        }
    }

    /// Looks after the SQLite file once a second, and cuts its log where that was not possible before. On Postgres it waits for
    /// ever.
    ///
    /// # Errors
    /// As [`Store::check_file`]; it never ends otherwise.
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

    /// Cuts the log, because it holds what a committed transaction removed for good. If that is not possible now, or was done
    /// less than a second ago, [`Store::watch_file`] does it.
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
            tracing::warn!(%err, "SQLite's log was not cut after something was removed for good; it is tried again");
        }
    }
}
