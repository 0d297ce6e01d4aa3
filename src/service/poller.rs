//! Creates, changes and deletes pollers, and reveals and rotates their signing secrets.
//!
//! Must not write a secret in clear, or read the messages of a poller.

use super::audit::{self, Thing};
use super::endpoint_secret::{Rotation, newest, rotated};
use super::{after_deadlock, endpoint, once_more};
use crate::domain::audit::{ObjectKind, Origin};
use crate::domain::id::Prefix;
use crate::domain::secret::EndpointSecret;
use crate::error::{Error, Kind, Result};
use crate::store::entity::application::Model as Application;
use crate::store::entity::endpoint::StoredSecret;
use crate::store::entity::poller::Model;
use crate::store::idempotency::{self, Key, Reply};
use crate::store::poller::{self, Change, Content};
use crate::store::{Store, Tx, application, poll, poller_consumer, token};

/// The most pollers of an application.
pub const MOST_POLLERS: u64 = 20;

/// Creates a poller with a random secret. `render` makes the reply from its row. `flags` are the feature flags of the
/// caller, which sees event types with one of them or without a flag; `None` means it sees all.
///
/// # Errors
/// `LimitReached` if the application has [`MOST_POLLERS`]; `Conflict` if the uid is taken, or if the idempotency key came
/// with another body before; `Invalid` if an event type of the filter is unknown, archived or hidden from the caller.
pub async fn create(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    content: Content,
    flags: Option<&[String]>,
    key: Option<&Key>,
    render: fn(Model) -> Result<Reply>,
) -> Result<Reply> {
    after_deadlock(|| {
        idempotency::once(store, key, async |tx: &Tx| {
            render(insert(tx, origin, app, content.clone(), flags).await?)
        })
    })
    .await
}

/// Replaces the poller with this id or uid, except its secrets, or creates one if there is none. Also returns whether it
/// is new.
///
/// # Errors
/// As [`create`].
pub async fn put(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    id_or_uid: &str,
    content: Content,
    flags: Option<&[String]>,
) -> Result<(Model, bool)> {
    once_more(|| try_put(store, origin, app, id_or_uid, content.clone(), flags)).await
}

async fn try_put(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    id_or_uid: &str,
    content: Content,
    flags: Option<&[String]>,
) -> Result<(Model, bool)> {
    let tx = store.begin().await?;
    let done = match poller::find(&tx, &app.id, id_or_uid).await? {
        Some(known) => {
            endpoint::check_event_types(&tx, app, content.event_types.as_deref(), flags).await?;
            (update(&tx, origin, app, &known, content.into()).await?, false)
        }
        None => (insert(&tx, origin, app, content, flags).await?, true),
    };
    tx.commit().await?;
    Ok(done)
}

/// Changes the given fields of a poller.
///
/// # Errors
/// `NotFound`; `Conflict` and `Invalid` as for [`create`].
pub async fn patch(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    id_or_uid: &str,
    change: Change,
    flags: Option<&[String]>,
) -> Result<Model> {
    after_deadlock(|| try_patch(store, origin, app, id_or_uid, change.clone(), flags)).await
}

async fn try_patch(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    id_or_uid: &str,
    change: Change,
    flags: Option<&[String]>,
) -> Result<Model> {
    let tx = store.begin().await?;
    let known = poller::get(&tx, &app.id, id_or_uid).await?;
    let filter = change.event_types.as_ref().and_then(|list| list.as_deref());
    endpoint::check_event_types(&tx, app, filter, flags).await?;
    let changed = update(&tx, origin, app, &known, change).await?;
    tx.commit().await?;
    Ok(changed)
}

/// Deletes a poller with its secrets, its consumers and its tokens.
///
/// # Errors
/// `NotFound`.
pub async fn delete(store: &Store, origin: &Origin<'_>, app: &Application, id_or_uid: &str) -> Result<()> {
    let tx = store.begin().await?;
    let known = poller::get_locked(&tx, &app.id, id_or_uid).await?;
    poller::delete(&tx, &app.id, &known.id).await?;
    poller_consumer::delete_of(&tx, &known.id).await?;
    token::revoke_of_poller(&tx, &known.id).await?;
    audit::deleted(&tx, origin, &app.org_id, (&known).into()).await?;
    tx.commit().await?;
    // Polls of this process that wait for it end now, those of others when their time is over.
    store.waits().wake([known.number]);
    Ok(())
}

/// Returns the newest secret in the form with which a reader verifies signatures.
///
/// # Errors
/// `Internal` if it cannot be opened.
pub fn reveal(store: &Store, poller: &Model) -> Result<String> {
    Ok(newest(store, &poller.secrets.0, &poller.id)?.to_wire())
}

/// Replaces the secret of a poller. `render` makes the reply from the new secret, in the form that a reader needs.
///
/// # Errors
/// `NotFound`; `LimitReached` if more than ten replaced secrets would still sign; `Internal` if no secret is given and
/// the present secret cannot be opened; `Conflict` if the idempotency key came with another body before.
pub async fn rotate(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    id_or_uid: &str,
    rotation: Rotation,
    key: Option<&Key>,
    render: fn(String) -> Result<Reply>,
) -> Result<Reply> {
    idempotency::once(store, key, async |tx: &Tx| {
        let known = poller::get_locked(tx, &app.id, id_or_uid).await?;
        let secret = match rotation.secret {
            Some(given) => given,
            None => newest(store, &known.secrets.0, &known.id)?.generate_alike(),
        };
        let new = seal(tx, &secret, &known.id).await?;
        let change = Change {
            secrets: Some(rotated(new, known.secrets.0.clone(), tx.now, rotation.grace)?),
            ..Change::default()
        };
        poller::update(tx, &app.id, &known.id, change).await?;
        let thing = Thing::of(app, ObjectKind::Poller, &known.id);
        let thing = thing.with("gracePeriodSeconds", &rotation.grace.as_secs());
        audit::noted(tx, origin, &app.org_id, thing).await?;
        render(secret.to_wire())
    })
    .await
}

/// Gives the present epoch of the database's transactions a number, unless it has one.
///
/// # Errors
/// Those of the database.
pub async fn register_epoch(store: &Store) -> Result<()> {
    let tx = store.begin().await?;
    poll::register(&tx).await?;
    tx.commit().await
}

/// Creates a poller within a transaction, with its audit entry.
async fn insert(
    tx: &Tx,
    origin: &Origin<'_>,
    app: &Application,
    content: Content,
    flags: Option<&[String]>,
) -> Result<Model> {
    // Transactions that create pollers of the same application wait for each other here, so that together they keep the
    // limit. The uid is looked for before the insertion for the reason that `endpoint::insert` gives.
    application::get_locked(tx, &app.org_id, &app.id).await?;
    if let Some(uid) = &content.uid
        && poller::find(tx, &app.id, uid).await?.is_some()
    {
        return Err(poller::already_exists());
    }
    if poller::count(tx, &app.id).await? >= MOST_POLLERS {
        let message = format!("an application has at most {MOST_POLLERS} pollers; delete one first");
        return Err(Error::new(Kind::LimitReached, message));
    }
    endpoint::check_event_types(tx, app, content.event_types.as_deref(), flags).await?;
    poll::register(tx).await?;
    let id = tx.store().clock().new_id_at(Prefix::Poller, tx.now);
    let secret = seal(tx, &EndpointSecret::generate(), &id).await?;
    let made = poller::insert(tx, &app.id, id, content, secret).await?;
    audit::created(tx, origin, &app.org_id, (&made).into()).await?;
    Ok(made)
}

/// Changes the poller `known`, with the audit entry.
async fn update(tx: &Tx, origin: &Origin<'_>, app: &Application, known: &Model, change: Change) -> Result<Model> {
    let changed = poller::update(tx, &app.id, &known.id, change).await?;
    audit::changed(tx, origin, &app.org_id, known.into(), (&changed).into()).await?;
    Ok(changed)
}

/// Seals a secret of the poller with this id.
async fn seal(tx: &Tx, secret: &EndpointSecret, id: &str) -> Result<StoredSecret> {
    Ok(StoredSecret {
        sealed: tx.sealing_key().await?.seal(secret.to_private().as_bytes(), id),
        expires_at: None,
    })
}
