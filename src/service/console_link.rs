//! Makes links that sign in to the console, and changes each for a token, once. Only the hash of a link's code is
//! stored.
//!
//! Must not store or log a code or a token.

use std::time::Duration;

use super::token::{Grant, insert};
use crate::domain::role::Role;
use crate::domain::timestamp::Timestamp;
use crate::domain::token::{self, CONSOLE};
use crate::error::{Error, Kind, Result};
use crate::store::console_link::{self, exists, take};
use crate::store::entity::console_link::Model;
use crate::store::idempotency::{self, Key, Reply};
use crate::store::{Store, Tx};

/// How long a link can be used: the time from printing it to opening it. Whoever finds it later, in the history of a
/// terminal or of a chat, finds nothing.
pub const LINK_LASTS: Duration = Duration::from_mins(10);
/// How many minutes the token of a link lives if nobody says otherwise (a working day), and at most (a day).
pub const MINUTES: u16 = 480;
pub const MOST_MINUTES: u16 = 1440;

/// What a link gives.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The role of the token.
    pub role: Role,
    /// How many minutes the token lives.
    pub minutes: u16,
    /// Who makes the link.
    pub created_by: &'a str,
}

/// Returns the address of the console at `server`, with a code. The code is in the fragment, which browsers do not send.
pub fn url(server: &str, code: &str) -> String {
    format!("{server}/console#code={code}")
}

/// Makes a link. `render` makes the reply from its code and the instant at which it can be used no more.
///
/// # Errors
/// `Conflict` if the idempotency key came with another body before.
pub async fn create(
    store: &Store,
    org_id: &str,
    link: Link<'_>,
    key: Option<&Key>,
    render: impl FnOnce(&str, Timestamp) -> Result<Reply>,
) -> Result<Reply> {
    idempotency::once(store, key, async |tx: &Tx| {
        let (code, hash) = token::generate_code();
        let row = Model {
            hash,
            org_id: org_id.to_owned(),
            role: link.role,
            minutes: link.minutes.into(),
            created_by: link.created_by.to_owned(),
            expires_at: tx.now.plus(LINK_LASTS),
        };
        let expires_at = row.expires_at;
        console_link::insert(tx, row).await?;
        render(&code, expires_at)
    })
    .await
}

/// Makes a link and returns its address at `server`, for somebody at the machine itself.
///
/// # Errors
/// Those of the database.
pub async fn create_url(store: &Store, org_id: &str, link: Link<'_>, server: &str) -> Result<String> {
    let render = |code: &str, _| {
        let body = url(server, code);
        Ok(Reply { status: 200, body })
    };
    Ok(create(store, org_id, link, None, render).await?.body)
}

/// Changes the code of a link for a token, which is returned with its end. The link cannot be used again.
///
/// # Errors
/// `Unauthenticated` for a code that is unknown, was used or has expired; the message does not tell which.
pub async fn redeem(store: &Store, code: &str) -> Result<(String, Timestamp)> {
    let hash = token::hash(code);
    // A guess costs a read, and does not wait with those who write.
    if !exists(store, &hash).await? {
        return Err(refused());
    }
    let tx = store.begin().await?;
    let link = take(&tx, &hash).await?.ok_or_else(refused)?;
    let expires_at = tx.now.plus(Duration::from_mins(link.minutes.unsigned_abs().into()));
    let grant = Grant {
        name: Some(CONSOLE),
        role: link.role,
        application: None,
        expires_at: Some(expires_at),
        created_by: &link.created_by,
        session: Some(CONSOLE),
    };
    let (token, _) = insert(&tx, &link.org_id, None, grant).await?;
    tx.commit().await?;
    Ok((token, expires_at))
}

fn refused() -> Error {
    let message = "this link is unknown, was used or has expired: ask for a new one";
    Error::new(Kind::Unauthenticated, message)
}
