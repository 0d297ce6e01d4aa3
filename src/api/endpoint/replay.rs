//! Recover and replay over REST: they start a background task for an endpoint. Writes go to service.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::{Object, OpenApi};
use serde::Deserialize;

use crate::api::auth::Caller;
use crate::api::background_task::BackgroundTaskOut;
use crate::api::wire::body::KeyedBody;
use crate::api::wire::error::{ApiError, Conditional};
use crate::api::wire::fields::{identifier, identifiers};
use crate::api::wire::idempotency::IdempotencyKey;
use crate::api::wire::response::{Accepted, Answer, reply};
use crate::api::wire::values::Instant;
use crate::api::{ApiState, Tag};
use crate::domain::task::{ReplayFilter, ReplayState, TaskKind};
use crate::error::{Error, Result};
use crate::service::background_task::{Wish, start};
use crate::store::entity::background_task::Model;
use crate::store::idempotency::Reply;

const MOST_EVENT_TYPES: usize = 1000;

/// What is to be queued again: what failed, or what is missing.
#[derive(Debug, Deserialize, Object)]
pub struct RecoverIn {
    /// From this instant on; at most 14 days before `until`.
    since: Instant,
    /// Before this instant; now where it is left out.
    #[oai(nullable)]
    until: Option<Instant>,
}

/// Which messages are to be queued for an endpoint that never got them.
#[derive(Debug, Deserialize, Object)]
pub struct ReplayIn {
    /// Sent from this instant on.
    since: Instant,
    /// Sent before this instant; now where it is left out.
    #[oai(nullable)]
    until: Option<Instant>,
}

/// Which messages are to be sent to an endpoint again.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct BulkReplayIn {
    /// Sent from this instant on.
    since: Instant,
    /// Sent before this instant; now where it is left out.
    #[oai(nullable)]
    until: Option<Instant>,
    /// Only those on this channel.
    #[oai(
        nullable,
        validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")
    )]
    channel: Option<String>,
    /// Only those of these types.
    #[oai(nullable, validator(min_items = 1, max_items = 1000))]
    event_types: Option<Vec<String>>,
    /// Only those that are in this state at the endpoint. 0: delivered; 2: failed; 3: a retry waits. None is in 1 or 4.
    #[oai(nullable, validator(minimum(value = "0"), maximum(value = "4")))]
    status: Option<i64>,
    /// Only those with an answer in this hundred: 100, 200, 300, 400 or 500; 0: with an attempt without answer.
    #[oai(nullable)]
    status_code_class: Option<i32>,
}

impl BulkReplayIn {
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

fn started(row: Model) -> Result<Reply> {
    reply(202, &BackgroundTaskOut::from(row))
}

pub(crate) struct Replays;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Endpoint")]
impl Replays {
    /// Send what failed again
    ///
    /// Every message whose attempts at the endpoint failed in that time, with no success there, gets one more attempt.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/recover",
        method = "post",
        operation_id = "v1.endpoint.recover"
    )]
    async fn recover(
        &self,
        caller: Caller,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<RecoverIn>,
    ) -> Result<Answer<BackgroundTaskOut, Accepted>, ApiError<Conditional>> {
        let wish = Wish {
            kind: TaskKind::Recover,
            since: body.0.since.0,
            until: body.0.until.map(|it| it.0),
            filter: None,
        };
        let (key, app) = (
            key.of(&caller, body.1),
            caller.application(&state.store, &app_id.0).await?,
        );
        Ok(start(&state.store, &app, &endpoint_id.0, wish, key.as_ref(), started)
            .await?
            .into())
    }

    /// Send what an endpoint has missed
    ///
    /// Every message of that time that the endpoint wants, by its event types and channels as they are now, and that was
    /// never sent to it, gets one attempt.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/replay-missing",
        method = "post",
        operation_id = "v1.endpoint.replay-missing"
    )]
    async fn replay_missing(
        &self,
        caller: Caller,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<ReplayIn>,
    ) -> Result<Answer<BackgroundTaskOut, Accepted>, ApiError<Conditional>> {
        let wish = Wish {
            kind: TaskKind::ReplayMissing,
            since: body.0.since.0,
            until: body.0.until.map(|it| it.0),
            filter: None,
        };
        let (key, app) = (
            key.of(&caller, body.1),
            caller.application(&state.store, &app_id.0).await?,
        );
        Ok(start(&state.store, &app, &endpoint_id.0, wish, key.as_ref(), started)
            .await?
            .into())
    }

    /// Send many messages again
    ///
    /// Every message of that time that was sent to the endpoint, with success or without, and that passes the filters, gets
    /// one more attempt.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/bulk-replay",
        method = "post",
        operation_id = "v1.endpoint.bulk-replay"
    )]
    async fn bulk_replay(
        &self,
        caller: Caller,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<BulkReplayIn>,
    ) -> Result<Answer<BackgroundTaskOut, Accepted>, ApiError<Conditional>> {
        let wish = Wish {
            kind: TaskKind::BulkReplay,
            since: body.0.since.0,
            until: body.0.until.as_ref().map(|it| it.0),
            filter: Some(body.0.filter()?),
        };
        let (key, app) = (
            key.of(&caller, body.1),
            caller.application(&state.store, &app_id.0).await?,
        );
        Ok(start(&state.store, &app, &endpoint_id.0, wish, key.as_ref(), started)
            .await?
            .into())
    }
}
