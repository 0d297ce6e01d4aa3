//! Messages over REST: sending them, reading them, and removing their payloads.
//!
//! A message to send is handed to `service::message`; reads go to the store. A payload is checked but never rewritten:
//! the bytes that the caller sent are stored, delivered and shown. Must not decide which endpoints want a message.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::application::ApplicationIn;
use super::caller::not_created;
use super::rights::{AnyToken, Edit, Organization, SendMessage, View};
use super::wire::body::Body;
use super::wire::error::{ApiError, Read, Write};
use super::wire::filters::{MessageQuery, Names};
use super::wire::idempotency::IdempotencyKey;
use super::wire::paging::{Limit, ListOut, ListQuery};
use super::wire::response::{Accepted, Answer, Empty};
use super::wire::values::{Instant, JsonText, object};
use super::{ApiState, Tag};
use crate::domain::audit::Origin;
use crate::domain::id::Prefix;
use crate::domain::payload::check_payload;
use crate::error::Result;
use crate::service;
use crate::service::message::Draft;
use crate::store::Store;
use crate::store::database::request;
use crate::store::entity::message::Model;
use crate::store::idempotency::Key;
use crate::store::message::{self, WithContent};

/// The payload in a response if the caller did not ask for it.
const NOT_ASKED: &str = "{}";
/// The payload in a response if the database no longer has it.
const EXPIRED: &str = r#"{"expired":true}"#;

/// A message to send.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct MessageIn {
    /// The name of an event type; it need not be registered.
    #[oai(validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$"))]
    event_type: String,
    /// Delivered byte for byte as it came, unless `transformationsParams` has a `rawPayload`. Nested at most 100 levels
    /// deep, without half a surrogate pair and without a number beyond the range of a double.
    #[serde(alias = "data")]
    payload: JsonText,
    /// The caller's own identifier. For 7 days another message of the application with the same identifier is refused
    /// with 409.
    #[oai(
        nullable,
        validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")
    )]
    event_id: Option<String>,
    /// 1 to 5 channels, by which endpoints can filter.
    #[oai(nullable, validator(min_items = 1, max_items = 5))]
    channels: Option<Vec<String>>,
    /// Up to 10 texts by which messages can be found and listed, of 1 to 256 characters each.
    #[oai(nullable, validator(max_items = 10))]
    tags: Option<Vec<String>>,
    /// The application to create if the path names one that does not exist; its `uid` must be the one in the path.
    /// Ignored if it exists.
    #[serde(default, deserialize_with = "object")]
    #[oai(nullable)]
    application: Option<ApplicationIn>,
    #[serde(default, deserialize_with = "object")]
    #[oai(nullable)]
    transformations_params: Option<TransformationsParams>,
    /// The number of days for which the payload is kept: 5 to 90. Default: 90.
    #[oai(nullable, validator(minimum(value = "5"), maximum(value = "90")))]
    payload_retention_period: Option<i64>,
}

/// How the delivered request differs from `payload` as JSON.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct TransformationsParams {
    /// Delivered byte for byte instead of `payload`; it need not be JSON.
    #[oai(nullable)]
    raw_payload: Option<String>,
    /// `content-type` is the content type of the delivery. Default: `application/json`. Other headers are ignored.
    #[oai(nullable)]
    headers: Option<BTreeMap<String, String>>,
}

impl TransformationsParams {
    /// Returns the value of `content-type`, in whatever case its name is written.
    fn content_type(headers: Option<BTreeMap<String, String>>) -> Option<String> {
        let mut headers = headers.unwrap_or_default().into_iter();
        let found = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        found.map(|(_, value)| value)
    }
}

impl MessageIn {
    /// Returns the payload as the response shows it.
    fn shown(&self) -> Result<JsonText> {
        let extra = self.transformations_params.as_ref();
        match extra.and_then(|extra| extra.raw_payload.as_deref()) {
            Some(raw) => shown(raw),
            None => Ok(self.payload.clone()),
        }
    }

    /// Returns the message for the service, which checks it. `app` is the id or uid in the path.
    ///
    /// # Errors
    /// `Invalid` for a field of the application.
    fn read(self, origin: Origin<'_>, org_id: String, app: String, key: Option<Key>) -> Result<Draft<'_>> {
        let application = self.application.map(ApplicationIn::read).transpose();
        let extra = self.transformations_params.unwrap_or_default();
        Ok(Draft {
            origin,
            org_id,
            app,
            event_type: self.event_type,
            event_id: self.event_id,
            channels: self.channels,
            tags: self.tags,
            payload: Box::<str>::from(self.payload.0).into_string(),
            raw: extra.raw_payload,
            content_type: TransformationsParams::content_type(extra.headers),
            retention_days: self.payload_retention_period,
            only_to: None,
            key,
            application: application.map_err(|err| err.within("application"))?,
        })
    }
}

/// A message.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct MessageOut {
    id: String,
    event_type: String,
    #[oai(nullable)]
    event_id: Option<String>,
    #[oai(nullable)]
    channels: Option<Vec<String>>,
    /// In alphabetical order; null if there are none, or if they were removed with the payload.
    #[oai(nullable)]
    tags: Option<Vec<String>>,
    /// `{}` if it was not asked for, `{"expired":true}` if it is no longer kept, `{"rawPayload": "…"}` if what is
    /// delivered is not a JSON object or breaks a rule of `payload`.
    payload: JsonText,
    timestamp: Instant,
}

impl MessageOut {
    fn new(row: Model, payload: JsonText) -> Self {
        Self {
            id: row.id,
            event_type: row.event_type,
            event_id: row.event_id,
            channels: row.channels.map(|list| list.0),
            tags: row.tags.map(|list| list.0),
            payload,
            timestamp: Instant(row.created_at),
        }
    }

    /// Returns a message that is stored. Reads its payload if `with_content` is true.
    async fn stored(store: &Store, row: Model, with_content: bool) -> Result<Self> {
        let mut contents = match with_content {
            true => message::list_contents(store, &row.app_id, [row.id.as_str()]).await?,
            false => HashMap::new(),
        };
        let payload = payload(contents.remove(&row.id), with_content)?;
        Ok(Self::new(row, payload))
    }
}

/// Returns the payload as a response shows it. `kept` is the stored body; `None` means it is gone or was not read.
pub(super) fn payload(kept: Option<String>, with_content: bool) -> Result<JsonText> {
    match (kept, with_content) {
        (Some(text), _) => shown(&text),
        (None, true) => JsonText::new(EXPIRED.to_owned()),
        (None, false) => JsonText::new(NOT_ASKED.to_owned()),
    }
}

/// Returns a body as a response shows it, which is always a JSON object that a client can parse: the body itself if it
/// is one, or else an object with the body as its text `rawPayload`.
fn shown(body: &str) -> Result<JsonText> {
    match serde_json::from_str::<&RawValue>(body) {
        Ok(raw) if raw.get().starts_with('{') && check_payload(body).is_ok() => Ok(JsonText(raw.to_owned())),
        _ => JsonText::new(json!({ "rawPayload": body }).to_string()),
    }
}

/// Hands a message to the service and returns it for the response. `shown` is its payload; `None` means the response
/// does not show it.
pub(super) async fn send(state: &ApiState, draft: Draft<'_>, shown: Option<JsonText>) -> Result<MessageOut> {
    let created = service::message::create(&state.store, &state.intake, draft).await?;
    if created.replayed {
        // Shows the payload as it is stored, since it may have expired. Boxed, since it is rare: otherwise the future
        // of every request would have room for it.
        return Box::pin(MessageOut::stored(&state.store, created.message, shown.is_some())).await;
    }
    let payload = shown.map_or_else(|| payload(None, false), Ok)?;
    Ok(MessageOut::new(created.message, payload))
}

pub(super) struct Messages;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Message")]
impl Messages {
    /// Send a message
    ///
    /// The message is stored durably before the response, and then delivered at least once to every endpoint of the
    /// application that wants it. A token with the role `sender` creates no application on the way.
    #[oai(path = "/app/:app_id/msg", method = "post", operation_id = "v1.message.create")]
    async fn create(
        &self,
        caller: Organization<SendMessage>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        /// Whether the response contains the payload. Default: true.
        with_content: Query<Option<bool>>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: Body<MessageIn>,
    ) -> Result<Answer<MessageOut, Accepted>, ApiError<Write>> {
        let with_content = with_content.0.unwrap_or(true);
        let key = key.of(&caller.0, None);
        let shown = with_content.then(|| body.0.shown()).transpose()?;
        if let Some(JsonText(shown)) = &shown {
            // The text to show is a second copy of the payload. The reservation of the body does not cover both: the
            // message takes it along into the intake.
            request::reserve_large(shown.get().len()).await?;
        }
        let role = caller.0.limited_role();
        let origin = caller.0.origin("v1.message.create");
        let mut draft = body.0.read(origin, caller.0.org_id.clone(), app_id.0, key)?;
        let not_allowed = role.filter(|_| draft.application.is_some());
        if not_allowed.is_some() {
            draft.application = None;
        }
        let sent = send(&state, draft, shown).await;
        let out = sent.map_err(|err| not_created(not_allowed, err))?;
        Ok(Answer::new(StatusCode::ACCEPTED, &out)?)
    }

    /// List messages
    ///
    /// If payloads are large, a page may hold fewer messages than `limit`; `done` says whether it is the last page. With
    /// `channel` or `event_types` a page looks through a bounded number of messages: it may be short or empty and not be
    /// the last one. Go on with `iterator` until `done`.
    #[oai(path = "/app/:app_id/msg", method = "get", operation_id = "v1.message.list")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        /// Only messages on this channel.
        channel: Query<Option<String>>,
        /// Only messages with this tag.
        tag: Query<Option<String>>,
        /// Only messages from before this instant.
        before: Query<Option<Instant>>,
        /// Only messages from after this instant.
        after: Query<Option<Instant>>,
        /// Whether the response contains payloads. Default: true.
        with_content: Query<Option<bool>>,
        /// Only messages of these types: comma-separated, or as a repeated parameter.
        event_types: Names,
    ) -> Result<Answer<ListOut<MessageOut>>, ApiError<Read>> {
        let list = ListQuery { limit, iterator };
        let (request, filter) = MessageQuery {
            list,
            channel,
            tag,
            before,
            after,
            event_types,
        }
        .read(Prefix::Message)?;
        let with_content = with_content.0.unwrap_or(true);
        let app = caller.named(&app_id.0);
        let (page, reached) = message::list(&state.store, &app, &filter, &request, with_content).await?;
        if page.rows.is_empty() {
            // Tells an application without messages from one that does not exist.
            caller.application(&state.store, &app_id.0).await?;
        }
        let out = |row: WithContent| Ok(MessageOut::new(row.message, payload(row.body, with_content)?));
        Ok(ListOut::answer_reaching(
            page,
            reached,
            &request,
            |row| &row.message.id,
            out,
        )?)
    }

    /// Get a message
    #[oai(path = "/app/:app_id/msg/:msg_id", method = "get", operation_id = "v1.message.get")]
    async fn get(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        msg_id: Path<String>,
        /// Whether the response contains the payload. Default: true.
        with_content: Query<Option<bool>>,
    ) -> Result<Answer<MessageOut>, ApiError<Read>> {
        let app = caller.application(&state.store, &app_id.0).await?;
        let row = message::get(&state.store, &app.id, &msg_id.0).await?;
        let out = MessageOut::stored(&state.store, row, with_content.0.unwrap_or(true)).await?;
        Ok(Answer::ok(&out)?)
    }

    /// Remove a message's payload
    ///
    /// The payload is removed permanently, and the tags with it. The message and its attempts stay; deliveries of it
    /// that still wait are not sent.
    #[oai(
        path = "/app/:app_id/msg/:msg_id/content",
        method = "delete",
        operation_id = "v1.message.expunge-content"
    )]
    async fn expunge(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        msg_id: Path<String>,
    ) -> Result<Empty, ApiError<Write>> {
        let app = caller.0.application(&state.store, &app_id.0).await?;
        let origin = caller.0.origin("v1.message.expunge-content");
        service::message::expunge(&state.store, &origin, &app, &msg_id.0).await?;
        Ok(Empty)
    }
}
