//! Makes and revokes API tokens. A token is shown once, when it is made; only its hash is stored.
//!
//! Must not store or log a token.

use crate::domain::timestamp::Timestamp;
use crate::domain::token;
use crate::error::{Error, Result};
use crate::store::entity::api_token::Model;
use crate::store::token::{NewToken, insert, revoke as revoke_row};
use crate::store::{Store, application};

/// Makes a token for an organization, or for a single application of it, given by id or uid. Returns the token itself
/// and its row. `expires_at` is the instant at which the token expires; `None` means never.
///
/// # Errors
/// `NotFound` if the organization has no such application.
pub async fn create(
    store: &Store,
    org_id: &str,
    application: Option<&str>,
    expires_at: Option<Timestamp>,
) -> Result<(String, Model)> {
    let app_id = match application {
        Some(named) => Some(application::get(store, org_id, named).await?.id),
        None => None,
    };
    let (text, hash) = token::generate();
    let tx = store.begin().await?;
    let new = NewToken {
        org_id,
        app_id: app_id.as_deref(),
        hash: &hash,
        expires_at,
        feature_flags: Vec::new(),
        capabilities: None,
    };
    let row = insert(&tx, new).await?;
    tx.commit().await?;
    Ok((text, row))
}

/// Revokes a token. Within 5 s no process accepts it any more: a process remembers a token for 4 s.
///
/// # Errors
/// `NotFound` if there is no such token, or it was revoked before.
pub async fn revoke(store: &Store, id: &str) -> Result<()> {
    let tx = store.begin().await?;
    if !revoke_row(&tx, id).await? {
        return Err(Error::not_found("token"));
    }
    tx.commit().await
}
