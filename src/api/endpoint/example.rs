//! Examples over REST: sends an example of an event type to one endpoint.
//!
//! The example becomes an ordinary message of the application, for this endpoint alone.
//!
//! Must not call the endpoint itself: the example waits in the queue as any message does.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};
use serde::Deserialize;

use crate::api::caller::Caller;
use crate::api::message::{MessageOut, send};
use crate::api::rights::{AnyToken, SendAgain};
use crate::api::wire::body::Body;
use crate::api::wire::error::{ApiError, Conditional};
use crate::api::wire::idempotency::IdempotencyKey;
use crate::api::wire::response::{Accepted, Answer};
use crate::api::wire::values::JsonText;
use crate::api::{ApiState, Tag};
use crate::domain::json_schema;
use crate::error::{Error, Kind, Result};
use crate::service::message::Draft;
use crate::store::{Store, endpoint, event_type};

/// The event type that needs no registration, and its only example.
const PING: (&str, &str) = ("svix.ping", r#"{"success":true}"#);

/// The example to send.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EventExampleIn {
    /// `svix.ping`, which needs no registration, or an event type that has `examples` in version 1 of its schema.
    #[oai(validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$"))]
    event_type: String,
    /// The index of the example, from 0. Default: 0.
    #[oai(nullable, validator(minimum(value = "0")))]
    example_index: Option<i64>,
}

impl EventExampleIn {
    /// Returns the example as JSON.
    ///
    /// # Errors
    /// `Invalid` for a negative index, `NotFound` for an event type that the caller does not see, `InvalidScheme` if it has no such example.
    async fn payload(&self, store: &Store, caller: &Caller) -> Result<String> {
        let index = usize::try_from(self.example_index.unwrap_or_default())
            .map_err(|_| Error::invalid("exampleIndex", "must not be negative"))?;
        if self.event_type == PING.0 {
            return Ok(PING.1.to_owned());
        }
        let found = event_type::get(store, &caller.org_id, &self.event_type, caller.flags()).await?;
        let schemas = found.schemas.as_deref();
        let example = schemas.and_then(|schemas| json_schema::example(schemas, index));
        example.map(str::to_owned).ok_or_else(|| {
            let message = format!("version 1 of the event type's schema has no example {index} that is an object");
            Error::new(Kind::InvalidScheme, message)
        })
    }
}

pub(crate) struct SendExample;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Endpoint")]
impl SendExample {
    /// Send an example to an endpoint
    ///
    /// It is sent to this endpoint alone, whatever the endpoint's filter says. Nothing is sent to a disabled endpoint.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/send-example",
        method = "post",
        operation_id = "v1.endpoint.send-example"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn send(
        &self,
        caller: AnyToken<SendAgain>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        /// Whether the response contains the payload. Default: true.
        with_content: Query<Option<bool>>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: Body<EventExampleIn>,
    ) -> Result<Answer<MessageOut, Accepted>, ApiError<Conditional>> {
        let key = key.of(&caller, None);
        let app = caller.application(&state.store, &app_id.0).await?;
        let endpoint = endpoint::get(&state.store, &app.id, &endpoint_id.0).await?;
        let payload = body.0.payload(&state.store, &caller).await?;
        let shown = match with_content.0.unwrap_or(true) {
            true => Some(JsonText::new(payload.clone())?),
            false => None,
        };
        let origin = caller.origin("v1.endpoint.send-example");
        let draft = Draft {
            only_to: Some(endpoint.id),
            ..Draft::new(origin, app.org_id, app.id, body.0.event_type, payload, key)
        };
        let out = send(&state, draft, shown).await?;
        Ok(Answer::new(StatusCode::ACCEPTED, &out)?)
    }
}
