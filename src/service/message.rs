//! Messages: what can be checked without a database, then into the intake, which owns the transaction; and the end of a
//! payload. Called by api and cli.

use std::time::Duration;

use super::application;
use crate::domain::id::Prefix;
use crate::domain::identifier::{check_content_type, check_identifier, check_uid};
use crate::domain::payload::check_payload;
use crate::error::{Error, Kind, Result};
use crate::store::application::Content;
use crate::store::entity::application::Model as Application;
use crate::store::idempotency::Key;
use crate::store::intake::{Accepted, Intake, NewMessage};
use crate::store::{Store, message};

const MOST_CHANNELS: usize = 5;
const DAY: u64 = 24 * 3600;
const SHORTEST_RETENTION: i64 = 5;
const LONGEST_RETENTION: i64 = 90;

/// A message as its sender wrote it, for an application by id or uid.
#[derive(Debug)]
pub struct Draft {
    pub org_id: String,
    pub app: String,
    pub event_type: String,
    pub event_id: Option<String>,
    pub channels: Option<Vec<String>>,
    /// The text of a JSON value, without spaces around it.
    pub payload: String,
    /// Sent instead of the payload, whatever it is.
    pub raw: Option<String>,
    /// None: `application/json`.
    pub content_type: Option<String>,
    /// Days; none: as long as possible.
    pub retention_days: Option<i64>,
    pub key: Option<Key>,
}

impl Draft {
    /// A message of a type and a payload, and nothing else.
    pub fn new(org_id: String, app: String, event_type: String, payload: String, key: Option<Key>) -> Self {
        Self {
            org_id,
            app,
            event_type,
            event_id: None,
            channels: None,
            payload,
            raw: None,
            content_type: None,
            retention_days: None,
            key,
        }
    }

    /// The message, if it keeps all rules that need no database.
    ///
    /// # Errors
    /// `Invalid` names the field; `NotFound` when no application can have that name.
    pub fn check(self) -> Result<Box<NewMessage>> {
        // What no application can be called is not put before the database with the messages of others.
        check_identifier(&self.app).map_err(|_| Error::not_found("application"))?;
        check("eventType", &self.event_type)?;
        if let Some(event_id) = &self.event_id {
            // A message is found by its id or by this: neither may pass for the other.
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
            body: self.raw.unwrap_or(self.payload),
            content_type: self.content_type,
            only_to: None,
            retention: retention(self.retention_days)?,
            key: self.key,
        }))
    }
}

/// Stores a message durably, with one delivery for each endpoint that wants it. Where its application is unknown and
/// `application` is given, that is made before: by itself, so that what is usual costs no more; made twice it is one.
///
/// # Errors
/// As [`Intake::accept`] and [`application::get_or_create`].
pub async fn create(
    store: &Store,
    intake: &Intake,
    message: Box<NewMessage>,
    application: Option<Content>,
) -> Result<Accepted> {
    let Some(content) = application else {
        return intake.accept(message).await;
    };
    match intake.accept(message.clone()).await {
        Err(err) if err.kind == Kind::NotFound => {
            // On the heap, as this is rare and its future is larger than all the rest of a request's.
            Box::pin(application::get_or_create(
                store,
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

/// Removes a message's payload for good. What is still to be sent of it ends as failed when it comes up.
///
/// # Errors
/// `NotFound`.
pub async fn expunge(store: &Store, app: &Application, id_or_event_id: &str) -> Result<()> {
    let tx = store.begin().await?;
    let known = message::get(&tx, &app.id, id_or_event_id).await?;
    message::delete_content(&tx, &app.id, &known.id).await?;
    tx.commit().await
}

/// A set: duplicates count once, the order is kept.
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

fn retention(days: Option<i64>) -> Result<Duration> {
    match days.unwrap_or(LONGEST_RETENTION) {
        days @ SHORTEST_RETENTION..=LONGEST_RETENTION => Ok(Duration::from_secs(days.unsigned_abs() * DAY)),
        _ => Err(Error::invalid(
            "payloadRetentionPeriod",
            format!("must be from {SHORTEST_RETENTION} to {LONGEST_RETENTION} days"),
        )),
    }
}

fn check(field: &str, value: &str) -> Result<()> {
    check_identifier(value).map_err(|rule| Error::invalid(field, rule))
}
