//! Creates, changes and deletes applications.
//!
//! Must not write operational applications, which hold an organization's operational endpoints: `operational` does.

use super::{after_deadlock, audit, once_more};
use crate::domain::audit::Origin;
use crate::error::{Error, Kind, Result};
use crate::store::application::{self, Change, Content};
use crate::store::entity::application::Model;
use crate::store::idempotency::{self, Key, Reply};
use crate::store::{Store, Tx, endpoint, poller};

/// Creates an application. If `get_if_exists` is set and an application has the uid already, leaves it as it is and
/// makes the reply from it. `render` makes the reply from the application and from whether it is new.
///
/// # Errors
/// `Conflict` if the uid is taken, or if the idempotency key came with another body before.
pub async fn create(
    store: &Store,
    origin: &Origin<'_>,
    org_id: &str,
    content: Content,
    get_if_exists: bool,
    key: Option<&Key>,
    render: fn(&Model, bool) -> Result<Reply>,
) -> Result<Reply> {
    match get_if_exists {
        true => once_more(|| try_create(store, origin, org_id, content.clone(), true, key, render)).await,
        false => try_create(store, origin, org_id, content, false, key, render).await,
    }
}

/// Returns the application that `named` names by id or uid. If there is none, creates it from `content`, whose uid must
/// be `named`.
///
/// # Errors
/// As [`get_or_insert`].
pub async fn get_or_create(
    store: &Store,
    origin: &Origin<'_>,
    org_id: &str,
    named: &str,
    content: &Content,
) -> Result<Model> {
    once_more(|| try_get_or_create(store, origin, org_id, named, content)).await
}

async fn try_get_or_create(
    store: &Store,
    origin: &Origin<'_>,
    org_id: &str,
    named: &str,
    content: &Content,
) -> Result<Model> {
    let tx = store.begin().await?;
    let found = get_or_insert(&tx, origin, org_id, named, Some(content.clone())).await?;
    tx.commit().await?;
    Ok(found)
}

/// Does the same as [`get_or_create`] within the caller's transaction. After a `Conflict` the caller must drop the
/// transaction.
///
/// # Errors
/// `NotFound` if there is no such application and no `content`; `ApplicationUidMissing` or `ApplicationUidMismatch` if
/// the uid of `content` is not `named`; `Conflict` if another transaction creates the application at the same time.
pub(super) async fn get_or_insert(
    tx: &Tx,
    origin: &Origin<'_>,
    org_id: &str,
    named: &str,
    content: Option<Content>,
) -> Result<Model> {
    if let Some(known) = application::find(tx, org_id, named).await? {
        return Ok(known);
    }
    let content = content.ok_or_else(|| Error::not_found("application"))?;
    let broken = match content.uid.as_deref() {
        Some(uid) if uid == named => return insert(tx, origin, org_id, content).await,
        Some(_) => Error::new(Kind::ApplicationUidMismatch, "must be the uid that the path names"),
        None => Error::new(Kind::ApplicationUidMissing, "is required, as the path names it"),
    };
    Err(broken.at(["body", "application", "uid"]))
}

/// Inserts an application, with its audit entry.
async fn insert(tx: &Tx, origin: &Origin<'_>, org_id: &str, content: Content) -> Result<Model> {
    let made = application::insert(tx, org_id, content).await?;
    audit::created(tx, origin, org_id, (&made).into()).await?;
    Ok(made)
}

/// Changes the application `known`, with the audit entry.
async fn update(tx: &Tx, origin: &Origin<'_>, org_id: &str, known: &Model, change: Change) -> Result<Model> {
    let changed = application::update(tx, org_id, &known.id, change).await?;
    audit::changed(tx, origin, org_id, known.into(), (&changed).into()).await?;
    Ok(changed)
}

async fn try_create(
    store: &Store,
    origin: &Origin<'_>,
    org_id: &str,
    content: Content,
    get_if_exists: bool,
    key: Option<&Key>,
    render: fn(&Model, bool) -> Result<Reply>,
) -> Result<Reply> {
    idempotency::once(store, key, async |tx: &Tx| {
        let known = match (&content.uid, get_if_exists) {
            (Some(uid), true) => application::find_by_uid(tx, org_id, uid).await?,
            _ => None,
        };
        match known {
            Some(known) => render(&known, false),
            None => render(&insert(tx, origin, org_id, content).await?, true),
        }
    })
    .await
}

/// Replaces the application with this id or uid, or creates one if there is none. Also returns whether it is new.
///
/// # Errors
/// `Conflict` if the uid is taken.
pub async fn put(
    store: &Store,
    origin: &Origin<'_>,
    org_id: &str,
    id_or_uid: &str,
    content: Content,
) -> Result<(Model, bool)> {
    once_more(|| try_put(store, origin, org_id, id_or_uid, content.clone())).await
}

async fn try_put(
    store: &Store,
    origin: &Origin<'_>,
    org_id: &str,
    id_or_uid: &str,
    content: Content,
) -> Result<(Model, bool)> {
    let tx = store.begin().await?;
    let done = match application::find(&tx, org_id, id_or_uid).await? {
        Some(known) => (update(&tx, origin, org_id, &known, content.into()).await?, false),
        None => (insert(&tx, origin, org_id, content).await?, true),
    };
    tx.commit().await?;
    Ok(done)
}

/// Changes the given fields of an application.
///
/// # Errors
/// `NotFound`; `Conflict` if the uid is taken.
pub async fn patch(store: &Store, origin: &Origin<'_>, org_id: &str, id_or_uid: &str, change: Change) -> Result<Model> {
    after_deadlock(|| try_patch(store, origin, org_id, id_or_uid, change.clone())).await
}

async fn try_patch(store: &Store, origin: &Origin<'_>, org_id: &str, id_or_uid: &str, change: Change) -> Result<Model> {
    let tx = store.begin().await?;
    let known = application::get(&tx, org_id, id_or_uid).await?;
    let changed = update(&tx, origin, org_id, &known, change).await?;
    tx.commit().await?;
    Ok(changed)
}

/// Marks an application and its endpoints as deleted, removes the endpoints' secrets and custom headers, and deletes its
/// pollers.
///
/// # Errors
/// `NotFound`.
pub async fn delete(store: &Store, origin: &Origin<'_>, org_id: &str, id_or_uid: &str) -> Result<()> {
    let tx = store.begin().await?;
    let known = application::get(&tx, org_id, id_or_uid).await?;
    // Locks the endpoints before their application, because settlements lock in that order; the reverse order could
    // deadlock with a settlement. An endpoint that another transaction is creating is not among the locked rows. But
    // that transaction has locked the application's row, so `application::delete` waits for it, and `delete_all`
    // deletes the new endpoint too.
    endpoint::lock_all(&tx, &known.id).await?;
    poller::lock_all(&tx, &known.id).await?;
    application::delete(&tx, org_id, &known.id).await?;
    endpoint::delete_all(&tx, &known.id).await?;
    poller::delete_all(&tx, &known.id).await?;
    audit::deleted(&tx, origin, org_id, (&known).into()).await?;
    tx.commit().await
}
