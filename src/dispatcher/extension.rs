//! Extends the leases of outcomes that wait to be settled, so that no other process sends their deliveries again while
//! the database is slow, or another session has locked rows that a settlement writes.
//!
//! Does nothing on SQLite, where no other process could claim them. Must not extend leases that are still being sent:
//! they last as long as an attempt may.

use std::sync::Arc;
use std::time::Duration;

use super::shared::{Shared, has_replicas};
use crate::error::Result;
use crate::store::database::outage;
use crate::store::queue;

/// How often old leases are looked for.
const PERIOD: Duration = Duration::from_secs(1);
/// Younger leases are not extended. As long as outcomes are settled in time, that is all of them.
const AFTER: Duration = Duration::from_secs(20);

/// Extends old leases once a second until the dispatcher ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let clock = shared.store.clock().clone();
    loop {
        tokio::select! {
            () = clock.sleep(PERIOD) => {}
            () = shared.ended.cancelled() => return,
        }
        tokio::select! {
            () = extend(&shared) => {}
            () = shared.ended.cancelled() => return,
        }
    }
}

/// Extends the leases of unsettled outcomes that are older than 20 s. Rows that a running settlement has locked are
/// left out: no process can claim them while they are locked, and the settler calls this once its statement has failed.
/// A failure is logged.
pub(super) async fn extend(shared: &Shared) {
    if !has_replicas(&shared.store) {
        return;
    }
    if let Err(err) = try_to_extend(shared).await {
        let what = "leases of outcomes that wait to be stored could not be extended; trying again in a second";
        outage::note_failure(&err, what);
    }
}

async fn try_to_extend(shared: &Shared) -> Result<()> {
    let now = shared.store.clock().monotonic();
    let leases = shared.held.list_unsettled(now + shared.lease.saturating_sub(AFTER));
    if leases.is_empty() {
        return Ok(());
    }
    let owner = shared.slots.owner();
    let tx = shared.store.begin().await?;
    let extended = queue::extend(&tx, &leases, owner.as_deref(), shared.lease).await?;
    tx.commit().await?;
    shared.held.set_end(&extended, now + shared.lease);
    Ok(())
}
