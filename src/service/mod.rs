//! Writes: one public function, one transaction. Reads need none of it.
//! Must not: know HTTP, parse requests, write SQL. Called by api and cli.

pub mod application;
pub mod attempt;
pub mod background_task;
pub mod delivery;
pub mod endpoint;
pub mod endpoint_secret;
pub mod event_type;
pub mod key_rotation;
pub mod message;
pub mod operational;
pub mod organization;
pub mod portal;
pub mod token;

use crate::error::{Kind, Result};

/// Runs a transaction, and once more if it failed for what another one wrote between its look and its write: a row that was
/// inserted meanwhile (or took the last place) is found by the second look, one that was deleted is not. A refusal that has
/// another reason is only refused twice. On SQLite transactions run one after the other, and none meets this.
async fn once_more<T, F>(transaction: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    match transaction().await {
        Err(err)
            if matches!(
                err.kind,
                Kind::Conflict | Kind::EventTypeExists | Kind::LimitReached | Kind::NotFound
            ) =>
        {
            transaction().await
        }
        done => done,
    }
}
