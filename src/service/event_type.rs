//! Creates, changes, archives and removes event types.
//!
//! Must not check schemas: the API does, by the domain's rules.

use super::once_more;
use crate::error::Result;
use crate::store::entity::event_type::Model;
use crate::store::event_type::{self, Change, Content, already_exists};
use crate::store::idempotency::{self, Key, Reply};
use crate::store::{Store, Tx};

/// Creates an event type. An archived event type of this name is brought back with the new content. `render` makes the
/// reply from its row.
///
/// # Errors
/// `EventTypeExists`; `Conflict` if the idempotency key came with another body before.
pub async fn create(
    store: &Store,
    org_id: &str,
    name: String,
    content: Content,
    key: Option<&Key>,
    render: fn(Model) -> Result<Reply>,
) -> Result<Reply> {
    idempotency::once(store, key, async |tx: &Tx| {
        let made = match event_type::find(tx, org_id, &name).await? {
            Some(known) if known.archived => event_type::update(tx, org_id, &name, content.into()).await?,
            Some(_) => return Err(already_exists()),
            None => event_type::insert(tx, org_id, name, content).await?,
        };
        render(made)
    })
    .await
}

/// Replaces the event type of this name, or creates it if there is none. Also returns whether it is new.
pub async fn put(store: &Store, org_id: &str, name: String, content: Content) -> Result<(Model, bool)> {
    once_more(|| try_put(store, org_id, name.clone(), content.clone())).await
}

async fn try_put(store: &Store, org_id: &str, name: String, content: Content) -> Result<(Model, bool)> {
    let tx = store.begin().await?;
    let done = match event_type::find(&tx, org_id, &name).await? {
        Some(_) => (event_type::update(&tx, org_id, &name, content.into()).await?, false),
        None => (event_type::insert(&tx, org_id, name, content).await?, true),
    };
    tx.commit().await?;
    Ok(done)
}

/// Changes the given fields of an event type.
///
/// # Errors
/// `NotFound`.
pub async fn patch(store: &Store, org_id: &str, name: &str, change: Change) -> Result<Model> {
    let tx = store.begin().await?;
    let changed = event_type::update(&tx, org_id, name, change).await?;
    tx.commit().await?;
    Ok(changed)
}

/// Archives an event type, or removes it for good if `expunge` is set.
///
/// # Errors
/// `NotFound`.
pub async fn delete(store: &Store, org_id: &str, name: &str, expunge: bool) -> Result<()> {
    let tx = store.begin().await?;
    if expunge {
        event_type::delete(&tx, org_id, name).await?;
    } else {
        let archived = Change {
            archived: Some(true),
            ..Change::default()
        };
        event_type::update(&tx, org_id, name, archived).await?;
    }
    tx.commit().await
}
