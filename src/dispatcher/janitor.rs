//! Removes what has expired, in small chunks: idempotency keys.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::store::{Store, idempotency};

const PERIOD: Duration = Duration::from_secs(60);
/// Rows in one transaction.
const CHUNK: u64 = 500;

pub(super) async fn run(store: Store, ended: CancellationToken) {
    loop {
        if let Err(err) = prune(&store).await {
            tracing::warn!(%err, "expired idempotency keys could not be removed; trying again in a minute");
        }
        tokio::select! {
            () = store.clock().sleep(PERIOD) => {}
            () = ended.cancelled() => return,
        }
    }
}

async fn prune(store: &Store) -> Result<()> {
    loop {
        let tx = store.begin().await?;
        let pruned = idempotency::prune(&tx, CHUNK).await?;
        tx.commit().await?;
        if pruned < CHUNK {
            return Ok(());
        }
    }
}
