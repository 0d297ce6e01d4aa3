//! Removes what is kept no longer, in small chunks between others' writes: idempotency keys, tokens of applications,
//! payloads, old background tasks, old messages with their attempts and results, deleted endpoints and applications. Every
//! replica does; what one is removing the others leave alone.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::store::{Store, background_task, deleted, idempotency, retention, token};

const PERIOD: Duration = Duration::from_secs(60);
/// Rows in one transaction.
const CHUNK: u64 = 500;
/// How long background tasks that have ended are shown.
const TASKS_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long a token of an application is still listed when it has ended.
const ENDED_TOKENS: Duration = Duration::from_hours(24);
/// A deleted endpoint or application is kept at least so long, for deliveries that waited when it was deleted have come up
/// and ended by then: the longest wait of a retry schedule is 36 days.
const DELETED_KEPT: Duration = Duration::from_hours(40 * 24);
/// Applications whose history one turn looks at.
const APPLICATIONS: u64 = 1_000;

pub(super) struct Janitor {
    store: Store,
    /// How long messages, attempts and results are kept.
    history: Duration,
    /// Where the look at applications goes on.
    after: String,
}

impl Janitor {
    pub fn new(store: Store, history: Duration) -> Self {
        Self {
            store,
            history,
            after: String::new(),
        }
    }

    pub async fn run(mut self, ended: CancellationToken) {
        loop {
            let turn = tokio::select! {
                turn = self.turn() => turn,
                () = ended.cancelled() => return,
            };
            if let Err(err) = turn {
                tracing::warn!(%err, "what is kept no longer could not be removed; trying again in a minute");
            }
            tokio::select! {
                () = self.store.clock().sleep(PERIOD) => {}
                () = ended.cancelled() => return,
            }
        }
    }

    /// All expired keys, tokens and payloads, old tasks, and the old history of the next applications.
    pub async fn turn(&mut self) -> Result<()> {
        let mut pruned = CHUNK;
        while pruned == CHUNK {
            let tx = self.store.begin().await?;
            let keys = idempotency::prune(&tx, CHUNK).await?;
            let tokens = token::prune(&tx, tx.now.minus(ENDED_TOKENS), CHUNK).await?;
            pruned = keys.max(tokens);
            tx.commit().await?;
        }
        pruned = CHUNK;
        while pruned == CHUNK {
            let tx = self.store.begin().await?;
            pruned = retention::prune_contents(&tx, CHUNK).await?;
            tx.commit().await?;
        }
        pruned = CHUNK;
        while pruned == CHUNK {
            let tx = self.store.begin().await?;
            pruned = background_task::prune(&tx, tx.now.minus(TASKS_KEPT), CHUNK).await?;
            tx.commit().await?;
        }
        let before = self.store.clock().now().minus(self.history);
        let (old, last) = retention::list_with_history(&self.store, &self.after, before, APPLICATIONS).await?;
        for app_id in old {
            pruned = CHUNK;
            while pruned == CHUNK {
                let tx = self.store.begin().await?;
                pruned = retention::prune_history(&tx, &app_id, before, CHUNK).await?;
                tx.commit().await?;
            }
        }
        self.after = last.unwrap_or_default();
        self.prune_deleted().await
    }

    /// Endpoints and applications that were deleted before the history that is kept.
    async fn prune_deleted(&self) -> Result<()> {
        let before = self.store.clock().now().minus(self.history.max(DELETED_KEPT));
        let mut pruned = CHUNK;
        while pruned == CHUNK {
            let tx = self.store.begin().await?;
            let endpoints = deleted::prune_endpoints(&tx, before, CHUNK).await?;
            let applications = deleted::prune_applications(&tx, before, CHUNK).await?;
            pruned = endpoints.max(applications);
            tx.commit().await?;
        }
        Ok(())
    }
}
