//! Keeps what Postgres believes of the queue's size near the truth. Beside the claims, which must wait for nothing of it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::database::outage;
use crate::store::{Backend, Store, queue};

const PERIOD: Duration = Duration::from_secs(1);
/// The pause after a try that did not help.
const IN_VAIN: Duration = Duration::from_secs(60);

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
                    "the queue's statistics could not be renewed; trying again in a minute",
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
