//! The signing secrets of endpoints: sealed at rest, several at once while one replaces another. Called by api.

use std::time::Duration;

use crate::domain::secret::EndpointSecret;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::service::endpoint::update;
use crate::store::Store;
use crate::store::endpoint::{self, Change};
use crate::store::entity::application::Model as Application;
use crate::store::entity::endpoint::{Model, StoredSecret};
use crate::store::idempotency::{self, Key, Reply};

/// Secrets that are replaced and still sign.
const MOST_OLD: usize = 10;

/// The newest secret, as a receiver verifies with it.
///
/// # Errors
/// `Internal` when it cannot be opened.
pub fn reveal(store: &Store, endpoint: &Model) -> Result<String> {
    Ok(newest(store, endpoint)?.to_wire())
}

fn newest(store: &Store, endpoint: &Model) -> Result<EndpointSecret> {
    let newest = endpoint.secrets.0.first();
    let newest = newest.ok_or_else(|| Error::internal("an endpoint has no secret"))?;
    let clear = store.keys()?.open(&newest.sealed, &endpoint.id);
    clear
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| EndpointSecret::parse(&text).ok())
        .ok_or_else(|| Error::internal(format!("the secret of {} cannot be opened", endpoint.id)))
}

/// Replaces the secret by this one, or by a random one of the same kind; the old one goes on signing for `grace`.
///
/// # Errors
/// `NotFound`; `LimitReached` when ten older ones still sign.
pub async fn rotate(
    store: &Store,
    app: &Application,
    id_or_uid: &str,
    secret: Option<EndpointSecret>,
    grace: Duration,
    key: Option<&Key>,
    render: fn(String) -> Result<Reply>,
) -> Result<Reply> {
    let tx = store.begin().await?;
    if let Some(reply) = idempotency::claim(&tx, key).await? {
        tx.commit().await?;
        return Ok(reply);
    }
    let known = endpoint::get_locked(&tx, &app.id, id_or_uid).await?;
    let sealing = tx.sealing_key().await?;
    let secret = match secret {
        Some(given) => given,
        None => newest(store, &known)?.generate_alike(),
    };
    let newest = StoredSecret {
        sealed: sealing.seal(secret.to_private().as_bytes(), &known.id),
        expires_at: None,
    };
    let rotated = Change {
        secrets: Some(rotated(newest, known.secrets.0.clone(), tx.now, grace)?),
        ..Change::default()
    };
    update(&tx, app, &known, rotated).await?;
    let reply = render(secret.to_wire())?;
    idempotency::keep(&tx, key, &reply).await?;
    tx.commit().await?;
    Ok(reply)
}

/// The new list, newest first, without what has expired.
fn rotated(
    newest: StoredSecret,
    before: Vec<StoredSecret>,
    now: Timestamp,
    grace: Duration,
) -> Result<Vec<StoredSecret>> {
    let end = now.plus(grace).unix_micros();
    let old = before.into_iter().map(|secret| StoredSecret {
        expires_at: Some(secret.expires_at.unwrap_or(end)),
        ..secret
    });
    let mut list = vec![newest];
    list.extend(old.filter(|secret| secret.expires_at > Some(now.unix_micros())));
    if list.len() > 1 + MOST_OLD {
        let message = format!("{MOST_OLD} replaced secrets of this endpoint still sign; wait until one expires");
        return Err(Error::new(Kind::LimitReached, message));
    }
    Ok(list)
}
