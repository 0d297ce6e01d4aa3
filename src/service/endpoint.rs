//! Writes of endpoints. They only mark rows: what is on its way follows when it comes up. Called by api and cli.

use std::collections::BTreeMap;

use super::once_more;
use crate::domain::id::Prefix;
use crate::domain::operational::{EVENT_TYPES, Event, MOST_ENDPOINTS, is_operational};
use crate::domain::secret::EndpointSecret;
use crate::error::{Error, Kind, Result};
use crate::service::operational::tell;
use crate::store::endpoint::{self, Change, Content};
use crate::store::entity::application::Model as Application;
use crate::store::entity::endpoint::{Model, StoredHeaders, StoredSecret};
use crate::store::idempotency::{self, Key, Reply};
use crate::store::{Store, Tx, application, event_type};

/// What can be said of an endpoint only when it is created.
#[derive(Default)]
pub struct AtCreation {
    /// None: a random one is made.
    pub secret: Option<EndpointSecret>,
    /// Own headers of its deliveries.
    pub headers: BTreeMap<String, String>,
}

/// What a caller is held to.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// Endpoints of one application.
    pub most: u32,
    /// The flags of the event types that he sees; none: he sees all.
    pub flags: Option<&'a [String]>,
}

/// # Errors
/// `LimitReached` when the application has as many endpoints as it may, or an organization [`MOST_ENDPOINTS`] operational ones; `Conflict` when the uid is taken; `Invalid` when an event type of its filter is unknown, archived or hidden.
pub async fn create(
    store: &Store,
    app: &Application,
    content: Content,
    once: AtCreation,
    bounds: Bounds<'_>,
    key: Option<&Key>,
    render: fn(Model) -> Result<Reply>,
) -> Result<Reply> {
    let tx = store.begin().await?;
    if let Some(reply) = idempotency::claim(&tx, key).await? {
        tx.commit().await?;
        return Ok(reply);
    }
    let reply = render(insert(&tx, app, content, once, bounds).await?)?;
    idempotency::keep(&tx, key, &reply).await?;
    tx.commit().await?;
    Ok(reply)
}

/// Replaces the endpoint with this id or uid, its secret and headers apart, or creates one; answers whether it is new.
///
/// # Errors
/// As [`create`].
pub async fn put(
    store: &Store,
    app: &Application,
    id_or_uid: &str,
    content: Content,
    bounds: Bounds<'_>,
) -> Result<(Model, bool)> {
    once_more(|| try_put(store, app, id_or_uid, content.clone(), bounds)).await
}

async fn try_put(
    store: &Store,
    app: &Application,
    id_or_uid: &str,
    content: Content,
    bounds: Bounds<'_>,
) -> Result<(Model, bool)> {
    let tx = store.begin().await?;
    let done = match endpoint::find(&tx, &app.id, id_or_uid).await? {
        Some(known) => {
            check_event_types(&tx, app, content.event_types.as_deref(), bounds.flags).await?;
            (update(&tx, app, &known, content.into()).await?, false)
        }
        None => (insert(&tx, app, content, AtCreation::default(), bounds).await?, true),
    };
    tx.commit().await?;
    Ok(done)
}

/// # Errors
/// `NotFound`, and as [`create`].
pub async fn patch(
    store: &Store,
    app: &Application,
    id_or_uid: &str,
    change: Change,
    flags: Option<&[String]>,
) -> Result<Model> {
    let tx = store.begin().await?;
    let known = endpoint::get(&tx, &app.id, id_or_uid).await?;
    let filter = change.event_types.as_ref().and_then(|list| list.as_deref());
    check_event_types(&tx, app, filter, flags).await?;
    let changed = update(&tx, app, &known, change).await?;
    tx.commit().await?;
    Ok(changed)
}

/// # Errors
/// `NotFound`.
pub async fn delete(store: &Store, app: &Application, id_or_uid: &str) -> Result<()> {
    let tx = store.begin().await?;
    let known = endpoint::get(&tx, &app.id, id_or_uid).await?;
    endpoint::delete(&tx, &app.id, &known.id).await?;
    tell(&tx, app, &known, Event::EndpointDeleted).await?;
    tx.commit().await
}

/// Its own headers, those that must not be shown too.
///
/// # Errors
/// `Internal` when they cannot be opened.
pub fn headers(store: &Store, endpoint: &Model) -> Result<BTreeMap<String, String>> {
    endpoint.headers.0.open(store.keys()?, &endpoint.id)
}

/// Replaces its own headers by what `change` makes of them.
///
/// # Errors
/// `NotFound`, and what `change` refuses.
pub async fn change_headers(
    store: &Store,
    app: &Application,
    id_or_uid: &str,
    change: impl FnOnce(BTreeMap<String, String>) -> Result<BTreeMap<String, String>> + Send,
) -> Result<()> {
    let tx = store.begin().await?;
    let known = endpoint::get_locked(&tx, &app.id, id_or_uid).await?;
    let sealing = tx.sealing_key().await?;
    let new = change(headers(store, &known)?)?;
    let changed = Change {
        headers: Some(StoredHeaders::seal(&new, sealing, &known.id)?),
        ..Change::default()
    };
    update(&tx, app, &known, changed).await?;
    tx.commit().await
}

async fn insert(tx: &Tx, app: &Application, content: Content, once: AtCreation, bounds: Bounds<'_>) -> Result<Model> {
    // Creations of one application wait for each other, so that together they keep the limit.
    application::get_locked(tx, &app.org_id, &app.id).await?;
    // Looked for first: the unique index would wait for whoever changes the endpoint that has the uid, and the trigger of that
    // one's statement for the lock that was just taken.
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
                format!("an organization has at most {most} operational endpoints"),
            )
        }
        false => (
            bounds.most,
            format!("an application has at most {} endpoints", bounds.most),
        ),
    };
    if endpoint::count(tx, &app.id).await? >= u64::from(most) {
        return Err(Error::new(Kind::LimitReached, message));
    }
    check_event_types(tx, app, content.event_types.as_deref(), bounds.flags).await?;
    let id = tx.store().clock().new_id_at(Prefix::Endpoint, tx.now);
    let secret = once.secret.unwrap_or_else(EndpointSecret::generate);
    let sealing = tx.sealing_key().await?;
    let stored = StoredSecret {
        sealed: sealing.seal(secret.to_private().as_bytes(), &id),
        expires_at: None,
    };
    let headers = StoredHeaders::seal(&once.headers, sealing, &id)?;
    let made = endpoint::insert(tx, &app.id, id, content, headers, stored).await?;
    tell(tx, app, &made, Event::EndpointCreated).await?;
    Ok(made)
}

/// Changes `known` and tells of it. One that is enabled again, or called elsewhere, has not failed yet.
pub(super) async fn update(tx: &Tx, app: &Application, known: &Model, mut change: Change) -> Result<Model> {
    let enabled = known.disabled && change.disabled == Some(false);
    if enabled || change.url.as_ref().is_some_and(|url| *url != known.url) {
        change.failing_since = Some(None);
    }
    let changed = endpoint::update(tx, &app.id, &known.id, change).await?;
    tell(tx, app, &changed, Event::EndpointUpdated).await?;
    if changed.disabled && !known.disabled {
        tx.store().metrics().endpoints_disabled.add(1);
        tell(tx, app, &changed, Event::EndpointDisabled).await?;
    }
    Ok(changed)
}

async fn check_event_types(
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
