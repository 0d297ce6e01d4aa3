//! A message on its way through the intake: as the service checked it, as a member of a batch, and as it was stored. Must not
//! know how it is stored.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::database::budget::Reserved;
use crate::store::idempotency::Key;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages in one batch.
    pub members: usize,
    /// How long a delivery row handed to the own sender is leased.
    pub lease: Duration,
}

/// A message as the service checked it.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub org_id: String,
    /// The application's id or uid.
    pub app: String,
    pub event_type: String,
    pub event_id: Option<String>,
    pub channels: Vec<String>,
    /// The payload, byte for byte.
    pub body: String,
    /// None: `application/json`.
    pub content_type: Option<String>,
    /// Goes to this endpoint alone, by its id, whatever that one filters.
    pub only_to: Option<String>,
    /// How long the payload is kept.
    pub retention: Duration,
    pub key: Option<Key>,
}

/// A message that is stored, with one delivery for each endpoint that wants it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accepted {
    pub app_id: String,
    pub message_id: String,
    pub created_at: Timestamp,
    /// An earlier request with the same idempotency key had stored it.
    pub replayed: bool,
}

/// One message on its way through a batch. Its ids are made once, so that a batch can be tried again.
pub(crate) struct Member {
    pub message: Box<NewMessage>,
    pub id: String,
    pub created_at: Timestamp,
    pub reply: oneshot::Sender<Result<Accepted>>,
    /// The payload's bytes, which it takes along from its request.
    pub _bytes: Option<Reserved>,
}

impl Member {
    /// The application as the sender named it, in its organization.
    pub fn app_name(&self) -> (&str, &str) {
        (&self.message.org_id, &self.message.app)
    }
}
