//! Removes the texts of answers from attempts.
//!
//! Must not record attempts: the settler does.

use super::audit::{self, Thing};
use crate::domain::audit::{ObjectKind, Origin};
use crate::error::Result;
use crate::store::entity::application::Model as Application;
use crate::store::{Store, attempt, message};

/// Removes the text of a receiver's answer from an attempt for good. `message` is an id or event id, `id` the id of the
/// attempt.
///
/// # Errors
/// `NotFound`.
pub async fn expunge(store: &Store, origin: &Origin<'_>, app: &Application, message: &str, id: &str) -> Result<()> {
    let tx = store.begin().await?;
    let message = message::get(&tx, &app.id, message).await?;
    attempt::delete_content(&tx, &app.id, &message.id, id).await?;
    let gone = Thing::of(app, ObjectKind::Attempt, id).with("messageId", &message.id);
    audit::noted(&tx, origin, &app.org_id, gone).await?;
    tx.commit().await
}
