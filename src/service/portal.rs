//! Tokens with which an application's own people come in, and their end. Called by api.

use std::time::Duration;

use super::{application, once_more};
use crate::domain::capability::Capability;
use crate::domain::token;
use crate::error::Result;
use crate::store::Store;
use crate::store::application::Content;
use crate::store::idempotency::{self, Key, Reply};
use crate::store::token::{NewToken, insert, revoke};

/// What a new token is for.
#[derive(Clone, Debug)]
pub struct Access {
    pub lasts: Duration,
    pub feature_flags: Vec<String>,
    /// None: everything that an application's token may do.
    pub capabilities: Option<Vec<Capability>>,
    /// Made where the application is unknown.
    pub application: Option<Content>,
}

/// Makes a token for the application that `named` names; `render` makes the reply from it.
///
/// # Errors
/// `NotFound`; `ApplicationUidMissing` and `ApplicationUidMismatch` for an application to be made.
pub async fn open(
    store: &Store,
    org_id: &str,
    named: &str,
    access: Access,
    key: Option<&Key>,
    render: impl Fn(&str) -> Result<Reply>,
) -> Result<Reply> {
    // Another request may create the application meanwhile.
    once_more(|| try_open(store, org_id, named, access.clone(), key, &render)).await
}

async fn try_open(
    store: &Store,
    org_id: &str,
    named: &str,
    access: Access,
    key: Option<&Key>,
    render: &impl Fn(&str) -> Result<Reply>,
) -> Result<Reply> {
    let tx = store.begin().await?;
    if let Some(reply) = idempotency::claim(&tx, key).await? {
        tx.commit().await?;
        return Ok(reply);
    }
    let app = application::get_or_insert(&tx, org_id, named, access.application).await?;
    let (text, hash) = token::generate();
    let new = NewToken {
        org_id,
        app_id: Some(&app.id),
        hash: &hash,
        expires_at: Some(tx.now.plus(access.lasts)),
        feature_flags: access.feature_flags,
        capabilities: access.capabilities,
    };
    insert(&tx, new).await?;
    let reply = render(&text)?;
    idempotency::keep(&tx, key, &reply).await?;
    tx.commit().await?;
    Ok(reply)
}

/// Ends a token's life, as [`super::token::revoke`] does; one that has ended stays so.
pub async fn close(store: &Store, token_id: &str) -> Result<()> {
    let tx = store.begin().await?;
    revoke(&tx, token_id).await?;
    tx.commit().await
}
