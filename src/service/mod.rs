//! Writes: each public function is one transaction, except where its file says otherwise. Reads go to the store
//! directly.
//!
//! Must not know HTTP, parse requests or write SQL.

pub mod application;
pub mod attempt;
mod audit;
pub mod background_task;
pub mod console_link;
pub mod delivery;
pub mod endpoint;
pub mod endpoint_secret;
pub mod event_type;
pub mod key_rotation;
pub mod message;
pub mod operational;
pub mod organization;
pub mod poller;
pub mod poller_consumer;
pub mod poller_token;
pub mod portal;
pub mod token;

use crate::error::{Kind, Result};
use crate::store::is_deadlock;

/// Runs a transaction, and runs it a second time if it failed in a way that another transaction may have caused, by a
/// write between this one's read and its own write. The second read finds a row that was inserted in the meantime, even
/// if that row took the last free place of a limit, and no longer finds a row that was deleted. A request that is
/// refused for another reason is refused twice. On SQLite transactions run one after the other, so this never happens.
// Of sixteen equal PUTs at once some were answered with 409 or 503. Rejected: `on conflict do update`, since a PUT by
// id may bring any uid and must not take another row's; locking the application first in every PUT, which deadlocks
// with each change of an endpoint.
async fn once_more<T, F>(transaction: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    match transaction().await {
        Err(err)
            if is_deadlock(&err)
                || matches!(
                    err.kind,
                    Kind::Conflict | Kind::EventTypeExists | Kind::LimitReached | Kind::NotFound
                ) =>
        {
            transaction().await
        }
        done => done,
    }
}

/// Runs a transaction, and runs it a second time if Postgres has ended it because of a deadlock: a change of a uid holds
/// the uid and waits for the application's row, while a creation with that uid holds the row and waits for the uid. One
/// of the two is ended after a second, and the other one has then committed when the second run looks for the uid.
// Rejected: locking the application first in every change, which deadlocks with settlements.
async fn after_deadlock<T, F>(transaction: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    match transaction().await {
        Err(err) if is_deadlock(&err) => transaction().await,
        done => done,
    }
}
