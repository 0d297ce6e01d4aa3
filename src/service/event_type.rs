//! Creates, changes, archives and removes event types.
//!
//! Must not check schemas: the API does, by the domain's rules.

use super::{audit, once_more};
use crate::domain::audit::Origin;
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
    origin: &Origin<'_>,
    org_id: &str,
    name: String,
    content: Content,
    key: Option<&Key>,
    render: fn(Model) -> Result<Reply>,
) -> Result<Reply> {
    idempotency::once(store, key, async |tx: &Tx| {
        let made = match event_type::find(tx, org_id, &name).await? {
            Some(known) if known.archived => update(tx, origin, &known, content.into()).await?,
            Some(_) => return Err(already_exists()),
            None => insert(tx, origin, org_id, name, content).await?,
        };
        render(made)
    })
    .await
}

/// Inserts an event type, with its audit entry.
async fn insert(tx: &Tx, origin: &Origin<'_>, org_id: &str, name: String, content: Content) -> Result<Model> {
    let made = event_type::insert(tx, org_id, name, content).await?;
    audit::created(tx, origin, org_id, (&made).into()).await?;
    Ok(made)
}

/// Changes the event type `known`, with the audit entry.
async fn update(tx: &Tx, origin: &Origin<'_>, known: &Model, change: Change) -> Result<Model> {
    let changed = event_type::update(tx, &known.org_id, &known.name, change).await?;
    audit::changed(tx, origin, &known.org_id, known.into(), (&changed).into()).await?;
    Ok(changed)
}

/// Replaces the event type of this name, or creates it if there is none. Also returns whether it is new.
pub async fn put(
    store: &Store,
    origin: &Origin<'_>,
    org_id: &str,
    name: String,
    content: Content,
) -> Result<(Model, bool)> {
    once_more(|| try_put(store, origin, org_id, name.clone(), content.clone())).await
}

async fn try_put(
    store: &Store,
    origin: &Origin<'_>,
    org_id: &str,
    name: String,
    content: Content,
) -> Result<(Model, bool)> {
    let tx = store.begin().await?;
    let done = match event_type::find(&tx, org_id, &name).await? {
        Some(known) => (update(&tx, origin, &known, content.into()).await?, false),
        None => (insert(&tx, origin, org_id, name, content).await?, true),
    };
    tx.commit().await?;
    Ok(done)
}

/// Changes the given fields of an event type.
///
/// # Errors
/// `NotFound`.
pub async fn patch(store: &Store, origin: &Origin<'_>, org_id: &str, name: &str, change: Change) -> Result<Model> {
    let tx = store.begin().await?;
    let known = event_type::get(&tx, org_id, name, None).await?;
    let changed = update(&tx, origin, &known, change).await?;
    tx.commit().await?;
    Ok(changed)
}

/// Archives an event type, or removes it for good if `expunge` is set.
///
/// # Errors
/// `NotFound`.
pub async fn delete(store: &Store, origin: &Origin<'_>, org_id: &str, name: &str, expunge: bool) -> Result<()> {
    let tx = store.begin().await?;
    let known = event_type::get(&tx, org_id, name, None).await?;
    if expunge {
        event_type::delete(&tx, org_id, name).await?;
        audit::deleted(&tx, origin, org_id, (&known).into()).await?;
    } else {
        let archived = Change {
            archived: Some(true),
            ..Change::default()
        };
        update(&tx, origin, &known, archived).await?;
    }
    tx.commit().await
}
