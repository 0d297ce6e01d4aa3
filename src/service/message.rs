//! Accepts messages and removes their payloads.
//!
//! Checks whatever needs no database, then hands the message to the intake, which owns the transaction. Must not decide
//! which endpoints get a message: `domain::filter` does.

use std::time::Duration;

use super::application;
use super::audit::{self, Thing};
use crate::domain::audit::{ObjectKind, Origin};
use crate::domain::id::Prefix;
use crate::domain::identifier::{check_content_type, check_identifier, check_tag, check_uid};
use crate::domain::payload::check_payload;
use crate::error::{Error, Kind, Result};
use crate::store::application::Content;
use crate::store::entity::application::Model as Application;
use crate::store::entity::json_text::JsonText;
use crate::store::entity::message::Model;
use crate::store::idempotency::Key;
use crate::store::intake::{Accepted, Intake, NewMessage};
use crate::store::{Store, message};

const MOST_CHANNELS: usize = 5;
const MOST_TAGS: usize = 10;
/// Seconds.
const DAY: u64 = 24 * 3600;
/// Days.
const SHORTEST_RETENTION: i64 = 5;
/// Days.
const LONGEST_RETENTION: i64 = 90;

/// A message as its caller gave it, before it is checked.
#[derive(Debug)]
pub struct Draft<'a> {
    /// The origin of the message, for the audit entry of an application that it brings.
    pub origin: Origin<'a>,
    pub org_id: String,
    /// The application's id or uid.
    pub app: String,
    pub event_type: String,
    pub event_id: Option<String>,
    pub channels: Option<Vec<String>>,
    pub tags: Option<Vec<String>>,
    /// The text of a JSON value, without white space around it.
    pub payload: String,
    /// The body to send instead of the payload, in any format; `None` means the payload is sent.
    pub raw: Option<String>,
    /// The content type of the deliveries; `None` means `application/json`.
    pub content_type: Option<String>,
    /// Days for which the payload is kept; `None` means the longest retention.
    pub retention_days: Option<i64>,
    /// The id of the only endpoint that gets the message; `None` means all endpoints that want it.
    pub only_to: Option<String>,
    pub key: Option<Key>,
    /// The application to create if `app` is unknown; `None` means that an unknown application is an error.
    pub application: Option<Content>,
}

/// A message that is stored.
#[derive(Debug)]
pub struct Created {
    pub message: Model,
    /// Whether an earlier request with the same idempotency key has stored it.
    pub replayed: bool,
}

impl<'a> Draft<'a> {
    /// Returns a message that has only an event type and a payload.
    pub fn new(
        origin: Origin<'a>,
        org_id: String,
        app: String,
        event_type: String,
        payload: String,
        key: Option<Key>,
    ) -> Self {
        Self {
            origin,
            org_id,
            app,
            event_type,
            event_id: None,
            channels: None,
            tags: None,
            payload,
            raw: None,
            content_type: None,
            retention_days: None,
            only_to: None,
            key,
            application: None,
        }
    }

    /// Checks all rules that need no database, and returns the message.
    ///
    /// # Errors
    /// `Invalid`, which names the field; `NotFound` if no application can have that id or uid.
    fn check(self) -> Result<Box<NewMessage>> {
        // A name that no application can have must not reach the database together with the messages of others.
        check_identifier(&self.app).map_err(|_| Error::not_found("application"))?;
        check("eventType", &self.event_type)?;
        if let Some(event_id) = &self.event_id {
            // A message is found by its id or by its event id, so the two must be distinguishable.
            check_uid(event_id, Prefix::Message).map_err(|rule| Error::invalid("eventId", rule))?;
        }
        if !self.payload.starts_with('{') {
            return Err(Error::invalid("payload", "must be a JSON object"));
        }
        check_payload(&self.payload).map_err(|rule| Error::invalid("payload", rule))?;
        if self.raw.as_ref().is_some_and(|raw| raw.contains('\0')) {
            let message = "must not contain the character U+0000";
            return Err(Error::invalid("rawPayload", message).at(["body", "transformationsParams", "rawPayload"]));
        }
        if let Some(content_type) = &self.content_type {
            check_content_type(content_type).map_err(|rule| {
                let place = ["body", "transformationsParams", "headers", "content-type"];
                Error::invalid("content-type", rule).at(place)
            })?;
        }
        Ok(Box::new(NewMessage {
            org_id: self.org_id,
            app: self.app,
            event_type: self.event_type,
            event_id: self.event_id,
            channels: channels(self.channels)?,
            tags: tags(self.tags)?,
            body: self.raw.unwrap_or(self.payload),
            content_type: self.content_type,
            only_to: self.only_to,
            retention: retention(self.retention_days)?,
            key: self.key,
        }))
    }
}

/// Checks a message and stores it durably, with a delivery for each endpoint that wants it. If an earlier request with
/// the same idempotency key has stored it, returns it as it is stored.
///
/// # Errors
/// As [`Intake::accept`] and [`application::get_or_create`]; `Invalid`, which names the field.
pub async fn create(store: &Store, intake: &Intake, mut draft: Draft<'_>) -> Result<Created> {
    let brought = draft.application.take().map(|content| (draft.origin, content));
    let message = draft.check()?;
    let (event_type, event_id) = (message.event_type.clone(), message.event_id.clone());
    let channels = (!message.channels.is_empty()).then(|| JsonText(message.channels.clone()));
    let tags = (!message.tags.is_empty()).then(|| JsonText(message.tags.clone()));
    let retention = message.retention;
    let accepted = accept(store, intake, message, brought).await?;
    if accepted.replayed {
        // Boxed, since it is rare: otherwise the future of every request would have room for it.
        return Box::pin(find_created(store, &accepted)).await;
    }
    Ok(Created {
        message: Model {
            app_id: accepted.app_id,
            id: accepted.message_id,
            event_type,
            event_id,
            channels,
            tags,
            created_at: accepted.created_at,
            expires_at: accepted.created_at.plus(retention),
        },
        replayed: false,
    })
}

/// Reads a message that an earlier request has stored.
async fn find_created(store: &Store, accepted: &Accepted) -> Result<Created> {
    let (app_id, id) = (&accepted.app_id, accepted.message_id.as_str());
    let message = message::get(store, app_id, id).await?;
    Ok(Created {
        message,
        replayed: true,
    })
}

/// Hands a message to the intake. If its application is unknown and one is `brought`, creates that first, in a
/// transaction of its own: the common case pays nothing, and creating it twice is harmless.
async fn accept(
    store: &Store,
    intake: &Intake,
    message: Box<NewMessage>,
    brought: Option<(Origin<'_>, Content)>,
) -> Result<Accepted> {
    let Some((origin, content)) = brought else {
        return intake.accept(message).await;
    };
    match intake.accept(message.clone()).await {
        Err(err) if err.kind == Kind::NotFound => {
            // Boxed, because this is rare and its future is larger than all other futures of a request together.
            Box::pin(application::get_or_create(
                store,
                &origin,
                &message.org_id,
                &message.app,
                &content,
            ))
            .await?;
            intake.accept(message).await
        }
        done => done,
    }
}

/// Removes a message's payload and tags for good. Deliveries of it that are still queued end as failed when they come
/// up.
///
/// # Errors
/// `NotFound`.
pub async fn expunge(store: &Store, origin: &Origin<'_>, app: &Application, id_or_event_id: &str) -> Result<()> {
    let tx = store.begin().await?;
    let known = message::get(&tx, &app.id, id_or_event_id).await?;
    message::delete_content(&tx, &app.id, &known.id).await?;
    let emptied = Thing::of(app, ObjectKind::Message, &known.id);
    audit::noted(&tx, origin, &app.org_id, emptied).await?;
    tx.commit().await
}

/// Returns the channels as a set: duplicates count once, the order is kept. A list that is given must have 1 to 5.
fn channels(given: Option<Vec<String>>) -> Result<Vec<String>> {
    let Some(given) = given else {
        return Ok(Vec::new());
    };
    let mut kept: Vec<String> = Vec::with_capacity(given.len().min(MOST_CHANNELS));
    for channel in given {
        check("channels", &channel)?;
        if !kept.contains(&channel) {
            kept.push(channel);
        }
        if kept.len() > MOST_CHANNELS {
            break;
        }
    }
    match kept.len() {
        1..=MOST_CHANNELS => Ok(kept),
        _ => Err(Error::invalid(
            "channels",
            format!("must have 1 to {MOST_CHANNELS} different entries, or be left out"),
        )),
    }
}

/// Returns the tags as a set in alphabetical order.
fn tags(given: Option<Vec<String>>) -> Result<Vec<String>> {
    let mut tags = given.unwrap_or_default();
    for tag in &tags {
        check_tag(tag).map_err(|rule| Error::invalid("tags", rule))?;
    }
    tags.sort_unstable();
    tags.dedup();
    match tags.len() {
        0..=MOST_TAGS => Ok(tags),
        _ => Err(Error::invalid(
            "tags",
            format!("must have at most {MOST_TAGS} different entries"),
        )),
    }
}

/// Returns how long a payload is kept.
fn retention(days: Option<i64>) -> Result<Duration> {
    match days.unwrap_or(LONGEST_RETENTION) {
        days @ SHORTEST_RETENTION..=LONGEST_RETENTION => Ok(Duration::from_secs(days.unsigned_abs() * DAY)),
        _ => Err(Error::invalid(
            "payloadRetentionPeriod",
            format!("must be from {SHORTEST_RETENTION} to {LONGEST_RETENTION} days"),
        )),
    }
}

/// Checks an identifier, and names the field if the rule is broken.
fn check(field: &str, value: &str) -> Result<()> {
    check_identifier(value).map_err(|rule| Error::invalid(field, rule))
}
