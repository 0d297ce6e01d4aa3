//! Messages over REST: the way in, and reads. Payloads pass as the bytes that came.

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
use super::auth::{Caller, Organization};
use super::wire::body::Body;
use super::wire::error::{ApiError, Read, Write};
use super::wire::filters::{EventTypes, MessageQuery};
use super::wire::idempotency::IdempotencyKey;
use super::wire::paging::{Limit, ListOut, ListQuery};
use super::wire::response::{Accepted, Answer, Empty};
use super::wire::values::{Instant, JsonText, object};
use super::{ApiState, Tag};
use crate::domain::id::Prefix;
use crate::domain::payload::check_payload;
use crate::error::Result;
use crate::service;
use crate::service::message::Draft;
use crate::store::application::Content;
use crate::store::database::request;
use crate::store::entity::message::Model;
use crate::store::idempotency::Key;
use crate::store::intake::{self, NewMessage};
use crate::store::{Store, message};

/// Stands for a payload that was not asked for.
const NOT_ASKED: &str = "{}";
/// Stands for a payload that is not kept any more.
const EXPIRED: &str = r#"{"expired":true}"#;

/// A message to send.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct MessageIn {
    /// It need not be registered.
    #[oai(validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$"))]
    event_type: String,
    /// It is delivered byte for byte as it came; nested at most 100 levels deep, without half a surrogate pair and without
    /// a number beyond the range of a double.
    #[serde(alias = "data")]
    payload: JsonText,
    /// The caller's own identifier: for 7 days no other message of the application may have the same (409).
    #[oai(
        nullable,
        validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")
    )]
    event_id: Option<String>,
    /// 1 to 5.
    #[oai(nullable, validator(min_items = 1, max_items = 5))]
    channels: Option<Vec<String>>,
    /// Makes this application where the path names none; its `uid` must be the one in the path. Ignored where there is one.
    #[serde(default, deserialize_with = "object")]
    #[oai(nullable)]
    application: Option<ApplicationIn>,
    #[serde(default, deserialize_with = "object")]
    #[oai(nullable)]
    transformations_params: Option<TransformationsParams>,
    /// Days that the payload is kept: 5 to 90, 90 where it is left out.
    #[oai(nullable, validator(minimum(value = "5"), maximum(value = "90")))]
    payload_retention_period: Option<i64>,
}

/// How a message departs from JSON.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct TransformationsParams {
    /// Delivered byte for byte instead of `payload`, JSON or not.
    #[oai(nullable)]
    raw_payload: Option<String>,
    /// `content-type` is that of the delivery, `application/json` where it is left out; others are ignored.
    #[oai(nullable)]
    headers: Option<BTreeMap<String, String>>,
}

impl TransformationsParams {
    fn content_type(headers: Option<BTreeMap<String, String>>) -> Option<String> {
        let mut headers = headers.unwrap_or_default().into_iter();
        let found = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        found.map(|(_, value)| value)
    }
}

impl MessageIn {
    /// The message, the application that it brings along, and its payload as it is answered.
    fn read(
        mut self,
        org_id: String,
        app: String,
        key: Option<Key>,
    ) -> Result<(Box<NewMessage>, Option<Content>, JsonText)> {
        let shown = match &self.transformations_params {
            Some(TransformationsParams {
                raw_payload: Some(raw), ..
            }) => shown(raw)?,
            _ => self.payload.clone(),
        };
        let application = self.application.take().map(ApplicationIn::read).transpose();
        let application = application.map_err(|err| err.within("application"))?;
        Ok((self.draft(org_id, app, key).check()?, application, shown))
    }

    fn draft(self, org_id: String, app: String, key: Option<Key>) -> Draft {
        let extra = self.transformations_params.unwrap_or_default();
        Draft {
            org_id,
            raw: extra.raw_payload,
            content_type: TransformationsParams::content_type(extra.headers),
            app,
            event_type: self.event_type,
            event_id: self.event_id,
            channels: self.channels,
            payload: Box::<str>::from(self.payload.0).into_string(),
            retention_days: self.payload_retention_period,
            key,
        }
    }
}

/// A message as it is.
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
    /// `{}` where it was not asked for, `{"expired":true}` where it is not kept any more, `{"rawPayload": "…"}` where what
    /// is delivered is no JSON object.
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
            payload,
            timestamp: Instant(row.created_at),
        }
    }

    /// A message on its way into the intake, which is yet to give it its id and instant.
    fn draft(message: &NewMessage, payload: JsonText) -> Self {
        let channels = &message.channels;
        Self {
            id: String::new(),
            event_type: message.event_type.clone(),
            event_id: message.event_id.clone(),
            channels: (!channels.is_empty()).then(|| channels.clone()),
            payload,
            timestamp: Instant(Default::default()),
        }
    }

    /// A message as it is stored.
    async fn stored(store: &Store, row: Model, with_content: bool) -> Result<Self> {
        let mut contents = match with_content {
            true => message::list_contents(store, &row.app_id, [row.id.as_str()]).await?,
            false => HashMap::new(),
        };
        let payload = payload(contents.remove(&row.id), with_content)?;
        Ok(Self::new(row, payload))
    }
}

/// What stands in an answer for a payload.
pub(super) fn payload(kept: Option<String>, with_content: bool) -> Result<JsonText> {
    match (kept, with_content) {
        (Some(text), _) => shown(&text),
        (None, true) => JsonText::new(EXPIRED.to_owned()),
        (None, false) => JsonText::new(NOT_ASKED.to_owned()),
    }
}

/// A body as a reader meets it, who expects an object, and one that it can parse: what is none is put into one.
fn shown(body: &str) -> Result<JsonText> {
    match serde_json::from_str::<&RawValue>(body) {
        Ok(raw) if raw.get().starts_with('{') && check_payload(body).is_ok() => Ok(JsonText(raw.to_owned())),
        _ => JsonText::new(json!({ "rawPayload": body }).to_string()),
    }
}

/// Hands a message to the service; what is answered to it, also where an earlier request had brought it. `shown` is its
/// payload, if that is to be answered.
pub(super) async fn send(
    state: &ApiState,
    message: Box<NewMessage>,
    application: Option<Content>,
    shown: Option<JsonText>,
) -> Result<MessageOut> {
    let with_content = shown.is_some();
    let shown = shown.map_or_else(|| JsonText::new(NOT_ASKED.to_owned()), Ok)?;
    let mut out = MessageOut::draft(&message, shown);
    let accepted = service::message::create(&state.store, &state.intake, message, application).await?;
    if accepted.replayed {
        return Box::pin(replayed(&state.store, &accepted, with_content)).await;
    }
    (out.id, out.timestamp) = (accepted.message_id, Instant(accepted.created_at));
    Ok(out)
}

async fn replayed(store: &Store, accepted: &intake::Accepted, with_content: bool) -> Result<MessageOut> {
    let row = message::get(store, &accepted.app_id, &accepted.message_id).await?;
    MessageOut::stored(store, row, with_content).await
}

pub(super) struct Messages;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Message")]
impl Messages {
    /// Send a message
    ///
    /// It is stored durably before the answer, and delivered to every endpoint of the application that wants it.
    #[oai(path = "/app/:app_id/msg", method = "post", operation_id = "v1.message.create")]
    async fn create(
        &self,
        caller: Organization,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        /// Answer with the payload; true where it is left out.
        with_content: Query<Option<bool>>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: Body<MessageIn>,
    ) -> Result<Answer<MessageOut, Accepted>, ApiError<Write>> {
        let with_content = with_content.0.unwrap_or(true);
        let key = key.of(&caller.0, None);
        let (message, application, shown) = body.0.read(caller.0.org_id, app_id.0, key)?;
        let shown = with_content.then_some(shown);
        if let Some(JsonText(shown)) = &shown {
            // The message takes along what is reserved for the body.
            request::reserve_large(shown.get().len()).await?;
        }
        let out = send(&state, message, application, shown).await?;
        Ok(Answer::new(StatusCode::ACCEPTED, &out)?)
    }

    /// List messages
    ///
    /// With large payloads a page may hold fewer than `limit`; `done` tells whether it is the last.
    #[oai(path = "/app/:app_id/msg", method = "get", operation_id = "v1.message.list")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        caller: Caller,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        /// Only those on this channel.
        channel: Query<Option<String>>,
        /// Only those before this instant.
        before: Query<Option<Instant>>,
        /// Only those after this instant.
        after: Query<Option<Instant>>,
        /// Answer with payloads; true where it is left out.
        with_content: Query<Option<bool>>,
        /// Only those of these types: comma-separated, or repeated.
        event_types: EventTypes,
    ) -> Result<Answer<ListOut<MessageOut>>, ApiError<Read>> {
        let list = ListQuery { limit, iterator };
        let (request, filter) = MessageQuery {
            list,
            channel,
            before,
            after,
            event_types,
        }
        .read(Prefix::Message)?;
        let with_content = with_content.0.unwrap_or(true);
        let app = caller.application(&state.store, &app_id.0).await?;
        let page = message::list(&state.store, &app.id, &filter, &request).await?;
        let (page, mut contents) = match with_content {
            true => message::with_contents(&state.store, &app.id, page, &request, |row| &row.id).await?,
            false => (page, HashMap::new()),
        };
        let out = |row: Model| {
            let payload = payload(contents.remove(&row.id), with_content)?;
            Ok(MessageOut::new(row, payload))
        };
        Ok(Answer::ok(&ListOut::new(page, &request, |row| &row.id, out)?)?)
    }

    /// Get a message
    #[oai(path = "/app/:app_id/msg/:msg_id", method = "get", operation_id = "v1.message.get")]
    async fn get(
        &self,
        caller: Caller,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        msg_id: Path<String>,
        /// Answer with the payload; true where it is left out.
        with_content: Query<Option<bool>>,
    ) -> Result<Answer<MessageOut>, ApiError<Read>> {
        let app = caller.application(&state.store, &app_id.0).await?;
        let row = message::get(&state.store, &app.id, &msg_id.0).await?;
        let out = MessageOut::stored(&state.store, row, with_content.0.unwrap_or(true)).await?;
        Ok(Answer::ok(&out)?)
    }

    /// Remove a message's payload
    ///
    /// For good; the message and its attempts stay, and what was still to be sent of it is not sent any more.
    #[oai(
        path = "/app/:app_id/msg/:msg_id/content",
        method = "delete",
        operation_id = "v1.message.expunge-content"
    )]
    async fn expunge(
        &self,
        caller: Organization,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        msg_id: Path<String>,
    ) -> Result<Empty, ApiError<Write>> {
        let app = caller.0.application(&state.store, &app_id.0).await?;
        service::message::expunge(&state.store, &app, &msg_id.0).await?;
        Ok(Empty)
    }
}
