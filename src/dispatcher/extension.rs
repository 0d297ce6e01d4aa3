//! Puts off the end of the leases whose deliveries were sent and wait to be settled, so that no other process sends them
//! again while the database is slow, or somebody has locked what a settle writes. Must not touch leases that are still
//! being sent: those last as long as an attempt may. On SQLite no other process could claim them.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, has_replicas};
use crate::error::Result;
use crate::store::database::outage;
use crate::store::queue;

const PERIOD: Duration = Duration::from_secs(1);
/// Leases that are younger than this are left alone, which are all of them while outcomes are settled in time.
const AFTER: Duration = Duration::from_secs(20);

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

/// Extends what is older than 20 s. The rows of a settle that is under way are locked: they are left out, and nobody can
/// claim them meanwhile; the settler extends them when its statement has failed.
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
