//! The data of a message on its way through the intake: as the service checked it, as a member of a batch, and the
//! result that its caller gets.
//!
//! Must not know how messages are stored.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::timestamp::Timestamp;
use crate::domain::typed_id::MessageId;
use crate::error::Result;
use crate::store::database::budget::Reserved;
use crate::store::idempotency::Key;

/// The limits of the intake.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most messages in one batch.
    pub members: usize,
    /// How long a delivery is leased that goes to this process' sender over the fast path.
    pub lease: Duration,
}

/// A message that the service has checked.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub org_id: String,
    /// The application's id or uid.
    pub app: String,
    pub event_type: String,
    /// The sender's own name for the message, unique in the application for seven days.
    pub event_id: Option<String>,
    pub channels: Vec<String>,
    /// Texts by which the message is found, each once.
    pub tags: Vec<String>,
    /// The payload, byte for byte.
    pub body: String,
    /// The payload's media type; `None` means `application/json`.
    pub content_type: Option<String>,
    /// The id of the only endpoint that gets the message, whatever its filter; `None` means all endpoints that want it.
    pub only_to: Option<String>,
    /// How long the payload is kept.
    pub retention: Duration,
    /// The idempotency key of the request, without a hash of the body.
    pub key: Option<Key>,
}

/// A message that is stored, with one delivery for each endpoint that wants it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accepted {
    pub app_id: String,
    pub message_id: String,
    pub created_at: Timestamp,
    /// Whether an earlier request with the same idempotency key has stored it.
    pub replayed: bool,
}

/// The name by which a sender means an application.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct AppName<'a> {
    pub org_id: &'a str,
    /// Its id or uid.
    pub name: &'a str,
}

/// A message of a batch. Its id and instant are made once, before the first try, so that the batch can be tried again.
pub(crate) struct Member {
    pub message: Box<NewMessage>,
    pub id: MessageId,
    pub created_at: Timestamp,
    /// Carries the result to the caller; closed if the caller has hung up.
    pub reply: oneshot::Sender<Result<Accepted>>,
    /// The reservation for the payload's bytes. The message has taken it over from its request, because it stays in
    /// memory even if the request ends.
    pub _bytes: Option<Reserved>,
}

impl Member {
    pub(super) fn app_name(&self) -> AppName<'_> {
        AppName {
            org_id: &self.message.org_id,
            name: &self.message.app,
        }
    }
}
