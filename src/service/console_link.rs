//! Makes links that sign in to the console, and changes each for a token, once. Only the hash of a link's code is
//! stored.
//!
//! Must not store or log a code or a token.

use std::time::Duration;

use super::audit::{self, Thing};
use super::token::{Grant, insert};
use crate::domain::audit::{Actor, Fields, ObjectKind, Origin};
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
pub struct Link {
    /// The role of the token.
    pub role: Role,
    /// How many minutes the token lives.
    pub minutes: u16,
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
    origin: &Origin<'_>,
    org_id: &str,
    link: Link,
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
            created_by: origin.actor.id.to_owned(),
            expires_at: tx.now.plus(LINK_LASTS),
        };
        let expires_at = row.expires_at;
        console_link::insert(tx, row).await?;
        audit::noted(tx, origin, org_id, thing(org_id, link)).await?;
        render(&code, expires_at)
    })
    .await
}

/// Makes a link and returns its address at `server`, for somebody at the machine itself.
///
/// # Errors
/// Those of the database.
pub async fn create_url(store: &Store, origin: &Origin<'_>, org_id: &str, link: Link, server: &str) -> Result<String> {
    let render = |code: &str, _| {
        let body = url(server, code);
        Ok(Reply { status: 200, body })
    };
    Ok(create(store, origin, org_id, link, None, render).await?.body)
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
        session: Some(CONSOLE),
    };
    let origin = Origin {
        actor: Actor::who_made(&link.created_by),
        operation: "v1.authentication.console-session",
    };
    let (token, _) = insert(&tx, &origin, &link.org_id, None, grant).await?;
    tx.commit().await?;
    Ok((token, expires_at))
}

/// Returns what an audit entry shows of a link. It names the organization, as a link has no id beside its code.
fn thing(org_id: &str, link: Link) -> Thing<'_> {
    let fields = Fields::default()
        .with("role", &link.role)
        .with("minutes", &link.minutes);
    Thing {
        kind: ObjectKind::ConsoleLink,
        id: org_id,
        app_id: None,
        fields,
    }
}

fn refused() -> Error {
    let message = "this link is unknown, was used or has expired: ask for a new one";
    Error::new(Kind::Unauthenticated, message)
}
