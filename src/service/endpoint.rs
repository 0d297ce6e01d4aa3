//! Creates, changes and deletes endpoints, and notifies the organization of it.
//!
//! Must not change queued deliveries: each uses its endpoint as it is when the delivery is leased.

use std::collections::BTreeMap;

use super::audit::{self, Thing};
use super::{after_deadlock, once_more};
use crate::domain::audit::{ObjectKind, Origin};
use crate::domain::health::DisabledReason;
use crate::domain::id::Prefix;
use crate::domain::operational::{EVENT_TYPES, Event, MOST_ENDPOINTS, is_operational};
use crate::domain::secret::EndpointSecret;
use crate::error::{Error, Kind, Result};
use crate::service::operational::notify;
use crate::store::endpoint::{self, Change, Content};
use crate::store::entity::application::Model as Application;
use crate::store::entity::endpoint::{Model, StoredHeaders, StoredSecret};
use crate::store::idempotency::{self, Key, Reply};
use crate::store::{Store, Tx, application, event_type};

/// An endpoint to create. Its secret and its custom headers have operations of their own later.
#[derive(Clone, Default)]
pub struct New {
    pub content: Content,
    /// The signing secret; `None` means a random one is made.
    pub secret: Option<EndpointSecret>,
    /// The custom headers of its deliveries.
    pub headers: BTreeMap<String, String>,
}

/// The limits that apply to a caller.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// The most endpoints that an application may have.
    pub most: u32,
    /// The feature flags of the caller, which sees event types with one of them or without a flag; `None` means it sees
    /// all.
    pub flags: Option<&'a [String]>,
}

/// Creates an endpoint. `render` makes the reply from its row.
///
/// # Errors
/// `LimitReached` if the application has as many endpoints as it may have, or the organization has [`MOST_ENDPOINTS`]
/// operational endpoints; `Conflict` if the uid is taken, or if the idempotency key came with another body before;
/// `Invalid` if an event type of the filter is unknown, archived or hidden from the caller.
pub async fn create(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    new: New,
    bounds: Bounds<'_>,
    key: Option<&Key>,
    render: fn(Model) -> Result<Reply>,
) -> Result<Reply> {
    after_deadlock(|| {
        idempotency::once(store, key, async |tx: &Tx| {
            render(insert(tx, origin, app, new.clone(), bounds).await?)
        })
    })
    .await
}

/// Replaces the endpoint with this id or uid, except its secrets and custom headers, or creates one if there is none.
/// Also returns whether it is new.
///
/// # Errors
/// As [`create`].
pub async fn put(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    id_or_uid: &str,
    content: Content,
    bounds: Bounds<'_>,
) -> Result<(Model, bool)> {
    once_more(|| try_put(store, origin, app, id_or_uid, content.clone(), bounds)).await
}

async fn try_put(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    id_or_uid: &str,
    content: Content,
    bounds: Bounds<'_>,
) -> Result<(Model, bool)> {
    let tx = store.begin().await?;
    let done = match endpoint::find(&tx, &app.id, id_or_uid).await? {
        Some(known) => {
            check_event_types(&tx, app, content.event_types.as_deref(), bounds.flags).await?;
            (change(&tx, origin, app, &known, content.into()).await?, false)
        }
        None => {
            let new = New {
                content,
                ..New::default()
            };
            (insert(&tx, origin, app, new, bounds).await?, true)
        }
    };
    tx.commit().await?;
    Ok(done)
}

/// Changes the given fields of an endpoint.
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
    let known = endpoint::get(&tx, &app.id, id_or_uid).await?;
    let filter = change.event_types.as_ref().and_then(|list| list.as_deref());
    check_event_types(&tx, app, filter, flags).await?;
    let changed = self::change(&tx, origin, app, &known, change).await?;
    tx.commit().await?;
    Ok(changed)
}

/// Deletes an endpoint, including its secrets and custom headers.
///
/// # Errors
/// `NotFound`.
pub async fn delete(store: &Store, origin: &Origin<'_>, app: &Application, id_or_uid: &str) -> Result<()> {
    let tx = store.begin().await?;
    let known = endpoint::get(&tx, &app.id, id_or_uid).await?;
    endpoint::delete(&tx, &app.id, &known.id).await?;
    notify(&tx, app, &known, Event::EndpointDeleted).await?;
    audit::deleted(&tx, origin, &app.org_id, (&known).into()).await?;
    tx.commit().await
}

/// Returns the custom headers of an endpoint, including those whose values must not be shown.
///
/// # Errors
/// `Internal` if they cannot be opened.
pub fn headers(store: &Store, endpoint: &Model) -> Result<BTreeMap<String, String>> {
    endpoint.headers.0.open(store.keys()?, &endpoint.id)
}

/// Replaces the custom headers of an endpoint by the result of `change`, which gets the present headers.
///
/// # Errors
/// `NotFound`; `Internal` if the present headers cannot be opened; the error that `change` returns.
pub async fn change_headers(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    id_or_uid: &str,
    change: impl FnOnce(BTreeMap<String, String>) -> Result<BTreeMap<String, String>> + Send,
) -> Result<()> {
    let tx = store.begin().await?;
    let known = endpoint::get_locked(&tx, &app.id, id_or_uid).await?;
    let sealing = tx.sealing_key().await?;
    let old = headers(store, &known)?;
    let new = change(old.clone())?;
    let changed = Change {
        headers: Some(StoredHeaders::seal(&new, sealing, &known.id)?),
        ..Change::default()
    };
    update(&tx, app, &known, changed).await?;
    let named = |headers: &BTreeMap<String, String>| {
        let thing = Thing::of(app, ObjectKind::Endpoint, &known.id);
        thing.with("headers", &headers.keys().collect::<Vec<_>>())
    };
    let other = new
        .iter()
        .filter(|(name, value)| old.get(*name).is_some_and(|old| old != *value));
    let other: Vec<_> = other.map(|(name, _)| name).collect();
    let after = named(&new).with("changedValues", &other);
    audit::changed(&tx, origin, &app.org_id, named(&old), after).await?;
    tx.commit().await
}

/// Creates an endpoint within a transaction, and notifies the organization.
async fn insert(tx: &Tx, origin: &Origin<'_>, app: &Application, new: New, bounds: Bounds<'_>) -> Result<Model> {
    let content = new.content;
    // Transactions that create endpoints of the same application wait for each other here, so that together they keep
    // the limit.
    application::get_locked(tx, &app.org_id, &app.id).await?;
    // Looks for the uid before the insertion, which could deadlock: its unique index would wait for a transaction that
    // changes the endpoint with this uid, while the trigger of that transaction's statement waits for the application's
    // row, which this transaction has locked.
    if let Some(uid) = &content.uid
        && endpoint::find(tx, &app.id, uid).await?.is_some()
    {
        return Err(endpoint::already_exists());
    }
    let (most, message) = match is_operational(&app.id) {
        true => {
            let most = bounds.most.min(MOST_ENDPOINTS);
            (
                most,
                format!("an organization has at most {most} operational endpoints; delete one first"),
            )
        }
        false => (
            bounds.most,
            format!("an application has at most {} endpoints; delete one first", bounds.most),
        ),
    };
    if endpoint::count(tx, &app.id).await? >= u64::from(most) {
        return Err(Error::new(Kind::LimitReached, message));
    }
    check_event_types(tx, app, content.event_types.as_deref(), bounds.flags).await?;
    let id = tx.store().clock().new_id_at(Prefix::Endpoint, tx.now);
    let secret = new.secret.unwrap_or_else(EndpointSecret::generate);
    let sealing = tx.sealing_key().await?;
    let stored = StoredSecret {
        sealed: sealing.seal(secret.to_private().as_bytes(), &id),
        expires_at: None,
    };
    let headers = StoredHeaders::seal(&new.headers, sealing, &id)?;
    let made = endpoint::insert(tx, &app.id, id, content, headers, stored).await?;
    notify(tx, app, &made, Event::EndpointCreated).await?;
    let names: Vec<_> = new.headers.keys().collect();
    audit::created(tx, origin, &app.org_id, Thing::from(&made).with("headers", &names)).await?;
    Ok(made)
}

/// Changes fields of the endpoint `known` that a caller can set, as [`update`] does, with the audit entry.
async fn change(tx: &Tx, origin: &Origin<'_>, app: &Application, known: &Model, change: Change) -> Result<Model> {
    let changed = update(tx, app, known, change).await?;
    audit::changed(tx, origin, &app.org_id, known.into(), (&changed).into()).await?;
    Ok(changed)
}

/// Changes the endpoint `known`, and notifies the organization. An endpoint that is enabled again, or gets another URL,
/// no longer counts as failing. One that is disabled here was disabled by a person.
pub(super) async fn update(tx: &Tx, app: &Application, known: &Model, mut change: Change) -> Result<Model> {
    let enabled = known.disabled && change.disabled == Some(false);
    if enabled || change.url.as_ref().is_some_and(|url| *url != known.url) {
        change.failing_since = Some(None);
    }
    change.disabled_reason = match change.disabled {
        Some(true) if !known.disabled => Some(Some(DisabledReason::Manual)),
        Some(false) => Some(None),
        // Disabling again keeps the first reason.
        _ => None,
    };
    let changed = endpoint::update(tx, &app.id, &known.id, change).await?;
    notify(tx, app, &changed, Event::EndpointUpdated).await?;
    if changed.disabled && !known.disabled {
        tx.store().metrics().endpoints_disabled.add(1);
        notify(tx, app, &changed, Event::EndpointDisabled).await?;
    }
    Ok(changed)
}

/// Rejects a filter with an event type that is unknown, archived, or hidden from a caller with these feature flags.
/// Operational endpoints have event types of their own.
pub(super) async fn check_event_types(
    tx: &Tx,
    app: &Application,
    names: Option<&[String]>,
    flags: Option<&[String]>,
) -> Result<()> {
    let names = names.unwrap_or_default();
    let unknown = match is_operational(&app.id) {
        true => names.iter().find(|name| !EVENT_TYPES.contains(&name.as_str())).cloned(),
        false => event_type::list_unknown(tx, &app.org_id, names, flags)
            .await?
            .into_iter()
            .next(),
    };
    match unknown {
        None => Ok(()),
        Some(name) => Err(Error::invalid(
            "eventTypes",
            format!("there is no event type '{name}', or it is archived"),
        )),
    }
}
