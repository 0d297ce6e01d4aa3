//! Makes and revokes tokens that read the messages of one poller, and do nothing else.
//!
//! Must not store or log a token.

use super::audit;
use super::token::{Grant, check_end};
use crate::domain::audit::Origin;
use crate::domain::role::Role;
use crate::domain::token;
use crate::error::Result;
use crate::store::entity::api_token::Model;
use crate::store::entity::application::Model as Application;
use crate::store::idempotency::{self, Key, Reply};
use crate::store::token::{NewToken, get_of_poller, insert, revoke};
use crate::store::{Store, Tx, poller};

/// Makes a token of a poller. Of `grant` the name and the end count. `render` makes the reply from the row and the token.
///
/// # Errors
/// `NotFound` if the application has no such poller; `Invalid` if it ends before it begins; `Conflict` if the idempotency
/// key came with another body before.
pub async fn create(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    id_or_uid: &str,
    grant: Grant<'_>,
    key: Option<&Key>,
    render: fn(Model, String) -> Result<Reply>,
) -> Result<Reply> {
    idempotency::once(store, key, async |tx: &Tx| {
        check_end(grant.expires_at, tx.now)?;
        let poller = poller::get_locked(tx, &app.id, id_or_uid).await?;
        let (text, hash) = token::generate();
        let new = NewToken {
            org_id: &app.org_id,
            app_id: Some(&app.id),
            poller_id: Some(&poller.id),
            hash: &hash,
            name: grant.name,
            role: Role::default(),
            expires_at: grant.expires_at,
            created_by: origin.actor.id,
            session_id: None,
            feature_flags: Vec::new(),
            capabilities: None,
        };
        let made = insert(tx, new).await?;
        audit::created(tx, origin, &app.org_id, (&made).into()).await?;
        render(made, text)
    })
    .await
}

/// Revokes a token of a poller. Within 5 s no process accepts it any more.
///
/// # Errors
/// `NotFound`.
pub async fn delete(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    id_or_uid: &str,
    token_id: &str,
) -> Result<()> {
    let tx = store.begin().await?;
    let poller = poller::get(&tx, &app.id, id_or_uid).await?;
    let known = get_of_poller(&tx, &app.id, &poller.id, token_id).await?;
    revoke(&tx, &known.id).await?;
    audit::deleted(&tx, origin, &app.org_id, (&known).into()).await?;
    tx.commit().await
}
