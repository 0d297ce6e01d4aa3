//! Makes and revokes API tokens, and records their uses. A token is shown once, when it is made; only its hash is
//! stored.
//!
//! Must not store or log a token.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::audit;
use crate::domain::audit::Origin;
use crate::domain::role::Role;
use crate::domain::timestamp::Timestamp;
use crate::domain::token;
use crate::error::{Error, Kind, Result};
use crate::store::database::outage;
use crate::store::entity::api_token::Model;
use crate::store::idempotency::{self, Key, Reply};
use crate::store::token::{self as tokens, Change, NewToken, revoke as revoke_row};
use crate::store::{Store, Tx, application, organization};

/// How often uses of tokens are recorded.
const RECORD_EVERY: Duration = Duration::from_secs(60);

/// What a new token is to be. By default it is an admin's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grant<'a> {
    /// The name by which people know the token; `None` means it has none.
    pub name: Option<&'a str>,
    /// What the token may do, if it is an organization's.
    pub role: Role,
    /// The id or uid of the application to which it is limited; `None` means that it acts for the organization.
    pub application: Option<&'a str>,
    /// When the token expires; `None` means never.
    pub expires_at: Option<Timestamp>,
    /// The session for which it is made: [`token::CONSOLE`] for a token with which somebody has signed in there.
    pub session: Option<&'a str>,
}

/// Makes a token of an organization. Returns the token itself and its row.
///
/// # Errors
/// `NotFound` if the organization has no such application.
pub async fn create(store: &Store, origin: &Origin<'_>, org_id: &str, grant: Grant<'_>) -> Result<(String, Model)> {
    let app_id = match grant.application {
        Some(named) => Some(application::get(store, org_id, named).await?.id),
        None => None,
    };
    let tx = store.begin().await?;
    let made = insert(&tx, origin, org_id, app_id.as_deref(), grant).await?;
    tx.commit().await?;
    Ok(made)
}

/// Makes a token of the organization itself. `render` makes the reply from the row and the token.
///
/// # Errors
/// `Invalid` if it ends before it begins; `Conflict` if the idempotency key came with another body before.
pub async fn create_once(
    store: &Store,
    origin: &Origin<'_>,
    org_id: &str,
    grant: Grant<'_>,
    key: Option<&Key>,
    render: fn(Model, String) -> Result<Reply>,
) -> Result<Reply> {
    idempotency::once(store, key, async |tx: &Tx| {
        check_end(grant.expires_at, tx.now)?;
        let (text, row) = insert(tx, origin, org_id, None, grant).await?;
        render(row, text)
    })
    .await
}

/// Inserts a token, with its audit entry, and returns it with its row.
pub(super) async fn insert(
    tx: &Tx,
    origin: &Origin<'_>,
    org_id: &str,
    app_id: Option<&str>,
    grant: Grant<'_>,
) -> Result<(String, Model)> {
    let (text, hash) = token::generate();
    let new = NewToken {
        org_id,
        app_id,
        poller_id: None,
        hash: &hash,
        name: grant.name,
        role: grant.role,
        expires_at: grant.expires_at,
        created_by: origin.actor.id,
        session_id: grant.session.map(str::to_owned),
        feature_flags: Vec::new(),
        capabilities: None,
    };
    let made = tokens::insert(tx, new).await?;
    audit::created(tx, origin, org_id, (&made).into()).await?;
    Ok((text, made))
}

/// Checks that a token is to expire in the future, if ever.
pub(super) fn check_end(expires_at: Option<Timestamp>, now: Timestamp) -> Result<()> {
    match expires_at {
        Some(end) if end <= now => Err(Error::invalid("expiresAt", "must be in the future")),
        _ => Ok(()),
    }
}

/// Changes a token of the organization itself. `configured` means that the organization has a configured token of an
/// admin as well, which has no row.
///
/// # Errors
/// `NotFound`; `Invalid` if it is to end in the past; `Conflict` if the organization would lose its last valid token of
/// an admin, now or when the token ends.
pub async fn patch(
    store: &Store,
    origin: &Origin<'_>,
    org_id: &str,
    id: &str,
    change: Change,
    configured: bool,
) -> Result<Model> {
    let tx = store.begin().await?;
    organization::lock(&tx, org_id).await?;
    let known = tokens::get(&tx, org_id, id).await?;
    check_end(change.expires_at.flatten(), tx.now)?;
    let demotes = change.role.is_some_and(|role| role != Role::Admin);
    let ends_earlier = change
        .expires_at
        .flatten()
        .is_some_and(|end| known.expires_at.is_none_or(|old| end < old));
    if (demotes || ends_earlier) && !configured {
        check_other_admin(&tx, &known).await?;
    }
    let changed = tokens::update(&tx, known.clone(), change).await?;
    audit::changed(&tx, origin, org_id, (&known).into(), (&changed).into()).await?;
    tx.commit().await?;
    Ok(changed)
}

/// Revokes a token of the organization itself, as [`revoke`] does. `configured` is as for [`patch`].
///
/// # Errors
/// `NotFound`; `Conflict` if it is the organization's last valid token of an admin.
pub async fn delete(store: &Store, origin: &Origin<'_>, org_id: &str, id: &str, configured: bool) -> Result<()> {
    let tx = store.begin().await?;
    organization::lock(&tx, org_id).await?;
    let known = tokens::get(&tx, org_id, id).await?;
    if !configured {
        check_other_admin(&tx, &known).await?;
    }
    revoke_row(&tx, &known.id).await?;
    audit::deleted(&tx, origin, org_id, (&known).into()).await?;
    tx.commit().await
}

/// Checks that a token is not the last valid one of an admin. The caller has locked the organization: two tokens that
/// end each other at the same time would else both be gone.
///
/// # Errors
/// `Conflict`.
async fn check_other_admin(tx: &Tx, known: &Model) -> Result<()> {
    let is_valid = known.expires_at.is_none_or(|end| tx.now < end);
    let is_session = known.session_id.is_some();
    if known.role != Role::Admin
        || !is_valid
        || is_session
        || tokens::has_other_admin(tx, &known.org_id, &known.id).await?
    {
        return Ok(());
    }
    let message = "this is the organization's last valid token with the role admin";
    Err(Error::new(Kind::Conflict, message))
}

/// Revokes the token that acts if somebody has signed in to the console with it; does nothing for any other token.
///
/// # Errors
/// Those of the database.
pub async fn sign_out(store: &Store, origin: &Origin<'_>, org_id: &str) -> Result<()> {
    let id = origin.actor.id;
    let Ok(known) = tokens::get(store, org_id, id).await else {
        return Ok(());
    };
    if known.session_id.as_deref() == Some(token::CONSOLE) {
        let tx = store.begin().await?;
        if revoke_row(&tx, id).await? {
            audit::deleted(&tx, origin, org_id, (&known).into()).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Revokes a token. Within 5 s no process accepts it any more: a process remembers a token for 4 s.
///
/// # Errors
/// `NotFound` if there is no such token, or it was revoked before.
pub async fn revoke(store: &Store, origin: &Origin<'_>, id: &str) -> Result<()> {
    let tx = store.begin().await?;
    let known = tokens::find(&tx, id).await?;
    let known = known.ok_or_else(|| Error::not_found("token"))?;
    if !revoke_row(&tx, id).await? {
        return Err(Error::not_found("token"));
    }
    audit::deleted(&tx, origin, &known.org_id, (&known).into()).await?;
    tx.commit().await
}

/// Records the uses of tokens every minute until `stop`, and then a last time.
pub async fn record_uses_until(store: Store, stop: CancellationToken) {
    let mut stopped = false;
    while !stopped {
        tokio::select! {
            () = store.clock().sleep(RECORD_EVERY) => {}
            () = stop.cancelled() => stopped = true,
        }
        if let Err(err) = record_uses(&store).await {
            outage::note_failure(&err, "uses of tokens could not be recorded; trying again in a minute");
        }
    }
}

/// Records the uses of tokens that this process has noted. If that fails, they stay noted.
///
/// # Errors
/// Those of the database.
pub async fn record_uses(store: &Store) -> Result<()> {
    let uses = store.token_uses().take();
    if uses.is_empty() {
        return Ok(());
    }
    let recorded = async {
        let tx = store.begin().await?;
        tokens::record_uses(&tx, &uses).await?;
        tx.commit().await
    };
    let recorded = recorded.await;
    if recorded.is_err() {
        for (id, minute) in &uses {
            store.token_uses().note(id, *minute);
        }
    }
    recorded
}
