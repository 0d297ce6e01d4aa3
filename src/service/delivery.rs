//! Queues deliveries that a caller of the API asks for.
//!
//! Must not decide when an attempt is made: the queue does.

use super::audit::{self, Thing};
use crate::domain::audit::{ObjectKind, Origin};
use crate::error::{Error, Kind, Result};
use crate::store::entity::application::Model as Application;
use crate::store::idempotency::{self, Key, Reply};
use crate::store::{Store, Tx, endpoint, message, queue};

/// Queues a single attempt to send a message to an endpoint. The message is named by its id or event id, the
/// endpoint by its id or uid.
/// Earlier results and the endpoint's filter do not matter. For a disabled endpoint nothing is queued, and that is no
/// error.
///
/// # Errors
/// `NotFound`; `MissingPayload` if the message's payload is gone; `Conflict` if the idempotency key came with another
/// body before.
pub async fn resend(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    [message, endpoint]: [&str; 2],
    key: Option<&Key>,
    reply: Reply,
) -> Result<Reply> {
    idempotency::once(store, key, async |tx: &Tx| {
        let message = message::get(tx, &app.id, message).await?;
        let endpoint = endpoint::get(tx, &app.id, endpoint).await?;
        if !message::has_content(tx, &app.id, &message.id).await? {
            let gone = "the message's payload has expired or was expunged";
            return Err(Error::new(Kind::MissingPayload, gone));
        }
        if !endpoint.disabled {
            queue::insert_manual(tx, app, &message, &endpoint).await?;
            let sent = Thing::of(app, ObjectKind::Message, &message.id).with("endpointId", &endpoint.id);
            audit::noted(tx, origin, &app.org_id, sent).await?;
        }
        Ok(reply)
    })
    .await
}
