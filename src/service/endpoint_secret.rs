//! Reveals and rotates the signing secrets of endpoints. Secrets are sealed in the database. After a rotation the
//! replaced secret goes on signing beside the new one until it expires.
//!
//! Must not write a secret in clear.

use std::time::Duration;

use super::audit::{self, Thing};
use crate::domain::audit::{ObjectKind, Origin};
use crate::domain::secret::EndpointSecret;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::service::endpoint::update;
use crate::store::endpoint::{self, Change};
use crate::store::entity::application::Model as Application;
use crate::store::entity::endpoint::{Model, StoredSecret};
use crate::store::idempotency::{self, Key, Reply};
use crate::store::{Store, Tx};

/// The most replaced secrets of an endpoint that still sign.
const MOST_OLD: usize = 10;

/// Returns the newest secret in the form with which a receiver verifies signatures.
///
/// # Errors
/// `Internal` if it cannot be opened.
pub fn reveal(store: &Store, endpoint: &Model) -> Result<String> {
    Ok(newest(store, &endpoint.secrets.0, &endpoint.id)?.to_wire())
}

/// Opens the newest of the secrets of the endpoint or poller with this id.
///
/// # Errors
/// `Internal` if it cannot be opened.
pub(super) fn newest(store: &Store, secrets: &[StoredSecret], id: &str) -> Result<EndpointSecret> {
    let newest = secrets.first();
    let newest = newest.ok_or_else(|| Error::internal(format!("{id} has no secret")))?;
    let opened = newest.open(store.keys()?, id);
    opened.map_err(|err| Error::internal(format!("the secret of {id} cannot be opened")).because(err))
}

/// How a secret is replaced.
pub struct Rotation {
    /// The new secret; `None` means a random one of the same kind.
    pub secret: Option<EndpointSecret>,
    /// How long the replaced secret goes on signing.
    pub grace: Duration,
}

/// Replaces the secret of an endpoint. `render` makes the reply from the new secret, in the form that a receiver needs.
///
/// # Errors
/// `NotFound`; `LimitReached` if more than ten replaced secrets would still sign; `Internal` if no secret is given and
/// the present secret cannot be opened; `Conflict` if the idempotency key came with another body before.
pub async fn rotate(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    id_or_uid: &str,
    rotation: Rotation,
    key: Option<&Key>,
    render: fn(String) -> Result<Reply>,
) -> Result<Reply> {
    idempotency::once(store, key, async |tx: &Tx| {
        let known = endpoint::get_locked(tx, &app.id, id_or_uid).await?;
        let sealing = tx.sealing_key().await?;
        let secret = match rotation.secret {
            Some(given) => given,
            // Of the same kind: a receiver that verifies with a public key could not use a symmetric secret.
            None => newest(store, &known.secrets.0, &known.id)?.generate_alike(),
        };
        let newest = StoredSecret {
            sealed: sealing.seal(secret.to_private().as_bytes(), &known.id),
            expires_at: None,
        };
        let rotated = Change {
            secrets: Some(rotated(newest, known.secrets.0.clone(), tx.now, rotation.grace)?),
            ..Change::default()
        };
        update(tx, app, &known, rotated).await?;
        let thing = Thing::of(app, ObjectKind::Endpoint, &known.id);
        let thing = thing.with("gracePeriodSeconds", &rotation.grace.as_secs());
        audit::noted(tx, origin, &app.org_id, thing).await?;
        render(secret.to_wire())
    })
    .await
}

/// Returns the new list of secrets, newest first, without those that have expired.
pub(super) fn rotated(
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
        let message = format!("at most {MOST_OLD} replaced secrets sign beside the newest; wait until one expires");
        return Err(Error::new(Kind::LimitReached, message));
    }
    Ok(list)
}
