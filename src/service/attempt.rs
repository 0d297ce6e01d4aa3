//! Writes of attempts, apart from the settler's. Called by api.

use crate::error::Result;
use crate::store::entity::application::Model as Application;
use crate::store::{Store, attempt, message};

/// Removes for good what was answered.
///
/// # Errors
/// `NotFound`.
pub async fn expunge(store: &Store, app: &Application, message: &str, id: &str) -> Result<()> {
    let tx = store.begin().await?;
    let message = message::get(&tx, &app.id, message).await?;
    attempt::delete_content(&tx, &app.id, &message.id, id).await?;
    tx.commit().await
}
