//! Makes and ends the tokens with which the customer behind an application manages its endpoints.
//!
//! Must not decide what a capability allows: `domain/capability.rs` does.

use std::time::Duration;

use super::audit::{self, Thing};
use super::{application, once_more};
use crate::domain::audit::{Fields, ObjectKind, Origin};
use crate::domain::capability::Capability;
use crate::domain::role::Role;
use crate::domain::token;
use crate::error::Result;
use crate::store::application::Content;
use crate::store::entity::application::Model as Application;
use crate::store::idempotency::{self, Key, Reply};
use crate::store::token::{NewToken, expire_all, insert, revoke};
use crate::store::{Store, Tx};

/// How long a token lives if nobody says otherwise, and at most.
pub const LONGEST: Duration = Duration::from_hours(7 * 24);

/// Returns the address of the portal at `server`, with a token. The token is in the fragment, which browsers do not send.
pub fn url(server: &str, token: &str) -> String {
    format!("{server}/portal#token={token}")
}

/// The rights of a new token.
#[derive(Clone, Debug)]
pub struct Access {
    /// The time after which the token expires.
    pub lasts: Duration,
    /// The caller's name for the session, by which the token can be ended with others; `None` means no session.
    pub session_id: Option<String>,
    /// The feature flags whose event types the token sees, in addition to event types without a flag.
    pub feature_flags: Vec<String>,
    /// The capabilities to which the token is limited; `None` means everything that an application's token may do.
    pub capabilities: Option<Vec<Capability>>,
    /// The application to create if it is unknown; `None` means that an unknown application is an error.
    pub application: Option<Content>,
}

/// Makes a token for the application that `named` names by id or uid. `render` makes the reply from the token.
///
/// # Errors
/// `NotFound` if there is no such application and none to create; `ApplicationUidMissing` or `ApplicationUidMismatch`
/// if the uid of the application to create is not `named`; `Conflict` if the idempotency key came with another body
/// before.
pub async fn open(
    store: &Store,
    origin: &Origin<'_>,
    org_id: &str,
    named: &str,
    access: Access,
    key: Option<&Key>,
    render: impl Fn(&str) -> Result<Reply>,
) -> Result<Reply> {
    // Another request may create the application at the same time.
    once_more(|| try_open(store, origin, org_id, named, access.clone(), key, &render)).await
}

async fn try_open(
    store: &Store,
    origin: &Origin<'_>,
    org_id: &str,
    named: &str,
    access: Access,
    key: Option<&Key>,
    render: &impl Fn(&str) -> Result<Reply>,
) -> Result<Reply> {
    idempotency::once(store, key, async |tx: &Tx| {
        let app = application::get_or_insert(tx, origin, org_id, named, access.application).await?;
        let (text, hash) = token::generate();
        let new = NewToken {
            org_id,
            app_id: Some(&app.id),
            poller_id: None,
            hash: &hash,
            name: None,
            role: Role::default(),
            created_by: origin.actor.id,
            expires_at: Some(tx.now.plus(access.lasts)),
            session_id: access.session_id,
            feature_flags: access.feature_flags,
            capabilities: access.capabilities,
        };
        let made = insert(tx, new).await?;
        audit::created(tx, origin, org_id, (&made).into()).await?;
        render(&text)
    })
    .await
}

/// Revokes the token of an application that makes the request. Does nothing if it is revoked already.
pub async fn close(store: &Store, origin: &Origin<'_>, org_id: &str, app_id: &str) -> Result<()> {
    let tx = store.begin().await?;
    let id = origin.actor.id;
    if revoke(&tx, id).await? {
        let ended = Thing {
            kind: ObjectKind::Token,
            id,
            app_id: Some(app_id),
            fields: Fields::default(),
        };
        audit::noted(&tx, origin, org_id, ended).await?;
    }
    tx.commit().await
}

/// Lets the tokens of an application expire after `after`, except those that expire earlier. If there are `sessions`,
/// only the tokens of these. Within 5 s more no process accepts them.
///
/// # Errors
/// `Conflict` if the idempotency key came with another body before.
pub async fn close_all(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    sessions: &[String],
    after: Duration,
    key: Option<&Key>,
) -> Result<()> {
    let done = idempotency::once(store, key, async |tx: &Tx| {
        let end = tx.now.plus(after);
        expire_all(tx, &app.org_id, &app.id, sessions, end).await?;
        let ended = Thing::of(app, ObjectKind::Application, &app.id)
            .with("expiresAt", &end.to_rfc3339())
            .with("sessionIds", &sessions);
        audit::noted(tx, origin, &app.org_id, ended).await?;
        let body = String::new();
        Ok(Reply { status: 204, body })
    });
    done.await.map(drop)
}
