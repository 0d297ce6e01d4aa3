//! Keeps Postgres' planner statistics of the table `delivery` fresh.
//!
//! The queue is empty most of the time. Claims that were planned then read the whole table once a burst has filled it,
//! in 50 ms each, until autovacuum notices it up to a minute later. Does nothing on SQLite, which plans without such
//! statistics. Must not make a claim wait: it runs beside the claimer.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::database::outage;
use crate::store::{Backend, Store, queue};

/// How often the table's size is compared with the statistics.
const PERIOD: Duration = Duration::from_secs(1);
/// The pause after a refresh that failed or changed nothing, as for a role that does not own the table.
const IN_VAIN: Duration = Duration::from_secs(60);

/// Refreshes the statistics whenever the table has outgrown them, until `ended`.
pub(crate) async fn run(store: Store, ended: CancellationToken) {
    if store.backend() == Backend::Sqlite {
        return;
    }
    loop {
        let renewed = tokio::select! {
            renewed = queue::renew_statistics(&store) => renewed,
            () = ended.cancelled() => return,
        };
        let pause = match renewed {
            Ok(true) => PERIOD,
            Ok(false) => IN_VAIN,
            Err(err) => {
                outage::note_failure(
                    &err,
                    "the queue's planner statistics could not be refreshed; trying again in a minute",
                );
                IN_VAIN
            }
        };
        tokio::select! {
            () = store.clock().sleep(pause) => {}
            () = ended.cancelled() => return,
        }
    }
}
