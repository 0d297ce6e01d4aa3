//! Makes and revokes API tokens, and records their uses. A token is shown once, when it is made; only its hash is
//! stored.
//!
//! Must not store or log a token.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::role::Role;
use crate::domain::timestamp::Timestamp;
use crate::domain::token::{self, BY_COMMAND_LINE};
use crate::error::{Error, Result};
use crate::store::database::outage;
use crate::store::entity::api_token::Model;
use crate::store::token::{NewToken, insert, record_uses as record_uses_in, revoke as revoke_row};
use crate::store::{Store, application};

/// How often uses of tokens are recorded.
const RECORD_EVERY: Duration = Duration::from_secs(60);

/// What a new token is to be. By default it is an admin's, made by the command line.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// The name by which people know the token; `None` means it has none.
    pub name: Option<&'a str>,
    /// What the token may do, if it is an organization's.
    pub role: Role,
    /// The id or uid of the application to which it is limited; `None` means that it acts for the organization.
    pub application: Option<&'a str>,
    /// When the token expires; `None` means never.
    pub expires_at: Option<Timestamp>,
    /// Who makes the token.
    pub created_by: &'a str,
}

impl Default for Grant<'_> {
    fn default() -> Self {
        Self {
            name: None,
            role: Role::Admin,
            application: None,
            expires_at: None,
            created_by: BY_COMMAND_LINE,
        }
    }
}

/// Makes a token of an organization. Returns the token itself and its row.
///
/// # Errors
/// `NotFound` if the organization has no such application.
pub async fn create(store: &Store, org_id: &str, grant: Grant<'_>) -> Result<(String, Model)> {
    let app_id = match grant.application {
        Some(named) => Some(application::get(store, org_id, named).await?.id),
        None => None,
    };
    let (text, hash) = token::generate();
    let tx = store.begin().await?;
    let new = NewToken {
        org_id,
        app_id: app_id.as_deref(),
        hash: &hash,
        name: grant.name,
        role: grant.role,
        expires_at: grant.expires_at,
        created_by: grant.created_by,
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
        record_uses_in(&tx, &uses).await?;
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
