//! Recovery and replay over REST: each starts a background task that sends many messages to one endpoint.
//!
//! Writes go to the service. `background_task.rs` reads the tasks.
//!
//! Must not send or queue messages: the task does.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::{Object, OpenApi};
use serde::Deserialize;

use crate::api::background_task::BackgroundTaskOut;
use crate::api::caller::Caller;
use crate::api::rights::{AnyToken, SendAgain};
use crate::api::wire::body::KeyedBody;
use crate::api::wire::error::{ApiError, Conditional};
use crate::api::wire::fields::{identifier, identifiers};
use crate::api::wire::idempotency::IdempotencyKey;
use crate::api::wire::response::{Accepted, Answer, reply};
use crate::api::wire::values::Instant;
use crate::api::{ApiState, Tag};
use crate::domain::task::{ReplayFilter, ReplayState, TaskKind};
use crate::error::{Error, Result};
use crate::service::background_task::{self, Wish};
use crate::store::entity::background_task::Model;
use crate::store::idempotency::Key;

/// The largest number of event types in the filter of a bulk replay.
const MOST_EVENT_TYPES: usize = 1000;

/// The period whose failed messages are sent again.
#[derive(Debug, Deserialize, Object)]
pub struct RecoverIn {
    /// The start of the period, inclusive; at most 14 days before `until`.
    since: Instant,
    /// The end of the period, exclusive. Default: now.
    #[oai(nullable)]
    until: Option<Instant>,
}

/// The period of which an endpoint gets the messages that were never sent to it.
#[derive(Debug, Deserialize, Object)]
pub struct ReplayIn {
    /// The start of the period in which the messages were accepted, inclusive.
    since: Instant,
    /// The end of that period, exclusive. Default: now.
    #[oai(nullable)]
    until: Option<Instant>,
}

/// The messages that are sent to an endpoint again.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct BulkReplayIn {
    /// The start of the period in which the messages were accepted, inclusive.
    since: Instant,
    /// The end of that period, exclusive. Default: now.
    #[oai(nullable)]
    until: Option<Instant>,
    /// Only messages on this channel.
    #[oai(
        nullable,
        validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")
    )]
    channel: Option<String>,
    /// Only messages of these event types.
    #[oai(nullable, validator(min_items = 1, max_items = 1000))]
    event_types: Option<Vec<String>>,
    /// Only messages in this state at the endpoint. 0: delivered; 2: failed; 3: waiting for a retry. No message is ever
    /// in state 1 or 4.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "4")))]
    status: Option<i64>,
    /// Only messages that the endpoint answered with a status in this hundred: 100, 200, 300, 400 or 500. 0: messages
    /// with an attempt there that had no answer.
    #[oai(nullable)]
    status_code_class: Option<i32>,
}

impl BulkReplayIn {
    /// Checks the fields, and returns the filter that the task stores.
    ///
    /// # Errors
    /// `Invalid` names the field.
    fn filter(self) -> Result<ReplayFilter> {
        let channel = self.channel.map(|channel| identifier("channel", channel)).transpose()?;
        let types = self.event_types;
        let types = types.map(|names| identifiers("eventTypes", names, MOST_EVENT_TYPES));
        let state = match self.status {
            None => ReplayState::Any,
            Some(0) => ReplayState::Delivered,
            Some(2) => ReplayState::Failed,
            Some(3) => ReplayState::Waiting,
            Some(1 | 4) => ReplayState::None,
            Some(_) => return Err(Error::invalid("status", "must be from 0 to 4")),
        };
        let class = self.status_code_class;
        if class.is_some_and(|class| ![0, 100, 200, 300, 400, 500].contains(&class)) {
            let rule = "must be 0, 100, 200, 300, 400 or 500";
            return Err(Error::invalid("statusCodeClass", rule));
        }
        Ok(ReplayFilter {
            channel,
            event_types: types.transpose()?.unwrap_or_default(),
            state,
            status_class: class,
        })
    }
}

/// The response to the start of a task, or one of the documented errors.
type Started = Result<Answer<BackgroundTaskOut, Accepted>, ApiError<Conditional>>;

/// Starts a task for an endpoint of the caller's application, both given by id or uid.
async fn start(
    state: &ApiState,
    caller: &Caller,
    operation: &'static str,
    [app, endpoint]: [&str; 2],
    wish: Wish,
    key: Option<Key>,
) -> Started {
    let app = caller.application(&state.store, app).await?;
    let render = |row: Model| reply(202, &BackgroundTaskOut::from(row));
    let reply = background_task::start(
        &state.store,
        &caller.origin(operation),
        &app,
        endpoint,
        wish,
        key.as_ref(),
        render,
    )
    .await?;
    Ok(reply.into())
}

pub(crate) struct Replays;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Endpoint")]
impl Replays {
    /// Send failed messages again
    ///
    /// Every message that has a failed attempt at the endpoint in the period, and was never delivered there, gets one
    /// more attempt.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/recover",
        method = "post",
        operation_id = "v1.endpoint.recover"
    )]
    async fn recover(
        &self,
        caller: AnyToken<SendAgain>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<RecoverIn>,
    ) -> Started {
        let wish = Wish {
            kind: TaskKind::Recover,
            since: body.0.since.0,
            until: body.0.until.map(|until| until.0),
            filter: None,
        };
        let key = key.of(&caller, body.1);
        let named = [app_id.0.as_str(), &endpoint_id.0];
        start(&state, &caller, "v1.endpoint.recover", named, wish, key).await
    }

    /// Send messages that an endpoint has missed
    ///
    /// Every message of the period that the endpoint wants, by its event types and channels as they are now, and that
    /// was never sent to it, gets one attempt.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/replay-missing",
        method = "post",
        operation_id = "v1.endpoint.replay-missing"
    )]
    async fn replay_missing(
        &self,
        caller: AnyToken<SendAgain>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<ReplayIn>,
    ) -> Started {
        let wish = Wish {
            kind: TaskKind::ReplayMissing,
            since: body.0.since.0,
            until: body.0.until.map(|until| until.0),
            filter: None,
        };
        let key = key.of(&caller, body.1);
        let named = [app_id.0.as_str(), &endpoint_id.0];
        start(&state, &caller, "v1.endpoint.replay-missing", named, wish, key).await
    }

    /// Send many messages again
    ///
    /// Every message of the period that was sent to the endpoint, with success or without, and that passes the filters,
    /// gets one more attempt.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/bulk-replay",
        method = "post",
        operation_id = "v1.endpoint.bulk-replay"
    )]
    async fn bulk_replay(
        &self,
        caller: AnyToken<SendAgain>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<BulkReplayIn>,
    ) -> Started {
        let wish = Wish {
            kind: TaskKind::BulkReplay,
            since: body.0.since.0,
            until: body.0.until.as_ref().map(|until| until.0),
            filter: Some(body.0.filter()?),
        };
        let key = key.of(&caller, body.1);
        let named = [app_id.0.as_str(), &endpoint_id.0];
        start(&state, &caller, "v1.endpoint.bulk-replay", named, wish, key).await
    }
}
