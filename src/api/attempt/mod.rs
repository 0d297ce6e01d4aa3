//! Attempts over REST: each request that was made to deliver a message to an endpoint, and the answer to it.
//!
//! Reads go to the store, writes to the service. `results` has the latest state of a message at an endpoint.
//!
//! Must not make attempts: the dispatcher does.

pub mod detail;
pub mod results;
pub mod results_body;
pub mod status;

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use self::detail::{AttemptErrorOut, AttemptPhasesOut, FailureOut, RequestHeaderOut, ResponseHeaderOut};
use self::status::Status;
use super::rights::{AnyToken, Edit, Organization, View};
use super::wire::error::{ApiError, Read, Write};
use super::wire::filters::{MessageQuery, Names};
use super::wire::paging::{Limit, ListOut, ListQuery, bad_query};
use super::wire::response::{Answer, Empty};
use super::wire::values::Instant;
use super::{ApiState, Tag};
use crate::domain::delivery::Trigger;
use crate::domain::id::Prefix;
use crate::error::Result;
use crate::service;
use crate::store::attempt::{self, Filter, Of};
use crate::store::entity::attempt::Model;
use crate::store::{Page, PageRequest, Store, endpoint, message};

/// One attempt to deliver a message to an endpoint.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct MessageAttemptOut {
    id: String,
    msg_id: String,
    endpoint_id: String,
    /// The URL that was called.
    url: String,
    /// 0: success; 2: failure.
    status: i64,
    status_text: String,
    /// 0: made for the message and by its retry schedule; 1: requested by a resend, a recovery or a replay.
    trigger_type: i32,
    /// The status of the answer; 0: there was no answer.
    response_status_code: i32,
    response_duration_ms: i64,
    /// The first 20000 bytes of the body of the answer, or why there was no answer; `{}` if it was not asked for,
    /// `EXPUNGED` if it was removed.
    response: String,
    /// When the message is tried again at the endpoint; null after a success and after the last failure.
    #[oai(nullable)]
    next_attempt: Option<Instant>,
    timestamp: Instant,
    /// Why the attempt failed. Lists of attempts never have this and the following fields; an attempt that delivered its
    /// message, or whose answer was removed, has `requestHeaders` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<AttemptErrorOut>,
    /// Headers of the answer, at most 1 KiB of names and values.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_headers: Option<Vec<ResponseHeaderOut>>,
    /// True if the answer had more headers than were kept; absent if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_headers_cut: Option<bool>,
    /// Headers of the request. They are not kept but computed again, from the message and from the settings of today: if
    /// the endpoint's custom headers were changed since, other ones were sent, and of a deleted endpoint they are
    /// missing. Without signatures, values of custom headers, and Content-Length.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_headers: Option<Vec<RequestHeaderOut>>,
    /// The address and port that was called, if it is known. With an application's token only if it is public.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phases_ms: Option<AttemptPhasesOut>,
}

impl MessageAttemptOut {
    /// Returns the attempt for a response, which shows the answer only if `with_content` is true.
    fn new(row: Model, with_content: bool) -> Self {
        let status = Status::of_attempt(row.delivered);
        Self {
            id: row.id,
            msg_id: row.message_id,
            endpoint_id: row.endpoint_id,
            url: row.url,
            status: status.number(),
            status_text: status.text(),
            trigger_type: match row.trigger {
                Trigger::Scheduled => 0,
                Trigger::Manual => 1,
            },
            response_status_code: row.response_status,
            response_duration_ms: row.duration_ms,
            response: if with_content { row.response } else { "{}".to_owned() },
            next_attempt: row.next_at.map(Instant),
            timestamp: Instant(row.created_at),
            error: None,
            response_headers: None,
            response_headers_cut: None,
            request_headers: None,
            peer: None,
            phases_ms: None,
        }
    }

    /// Adds what is kept of a failure.
    fn add(&mut self, failure: FailureOut) {
        self.error = Some(failure.error);
        self.response_headers = failure.response_headers;
        self.response_headers_cut = failure.response_headers_cut;
        self.peer = failure.peer;
        self.phases_ms = Some(failure.phases_ms);
    }
}

/// Computes the headers of the request that an attempt made. A deleted endpoint has no custom headers any more. `None` if
/// those of the endpoint cannot be opened.
async fn request_headers(state: &ApiState, app_id: &str, row: &Model) -> Result<Option<Vec<RequestHeaderOut>>> {
    let store = &state.store;
    let endpoint = endpoint::find(store, app_id, &row.endpoint_id).await?;
    let custom = endpoint.map(|endpoint| service::endpoint::headers(store, &endpoint));
    // The attempt is shown all the same.
    let Ok(custom) = custom.transpose() else {
        return Ok(None);
    };
    let custom = custom.unwrap_or_default();
    let names = custom.keys().map(String::as_str);
    let content_type = message::find_content_type(store, app_id, &row.message_id).await?;
    Ok(detail::request_headers(
        row,
        content_type.as_deref(),
        state.svix_headers,
        names,
    ))
}

/// The query parameters by which lists of attempts are filtered.
struct AttemptQuery {
    message: MessageQuery,
    status: Query<Option<i64>>,
    status_code_class: Query<Option<i32>>,
}

impl AttemptQuery {
    /// Returns the page and the filter. `None` in place of the filter means no attempt can pass it.
    ///
    /// # Errors
    /// `Invalid` names the parameter.
    fn read(self) -> Result<(PageRequest, Option<Filter>)> {
        let (page, message) = self.message.read(Prefix::Attempt)?;
        let status_class = match self.status_code_class.0 {
            Some(class) if ![0, 100, 200, 300, 400, 500].contains(&class) => {
                return Err(bad_query("status_code_class", "must be 0, 100, 200, 300, 400 or 500"));
            }
            class => class,
        };
        let delivered = match Status::read(self.status)? {
            None => None,
            Some(Status::Success) => Some(true),
            Some(Status::Fail) => Some(false),
            Some(_) => return Ok((page, None)),
        };
        let filter = Filter {
            message,
            delivered,
            status_class,
        };
        Ok((page, Some(filter)))
    }
}

/// Reads a page of attempts and returns it as the response.
async fn list_out(
    store: &Store,
    app_id: &str,
    of: Of<'_>,
    (request, filter): (PageRequest, Option<Filter>),
    with_content: Option<bool>,
) -> Result<Answer<ListOut<MessageAttemptOut>>> {
    let with_content = with_content.unwrap_or(true);
    let (page, reached) = match filter {
        Some(filter) => attempt::list(store, app_id, of, &filter, with_content, &request).await?,
        None => (Page::empty(), None),
    };
    let out = |row| Ok(MessageAttemptOut::new(row, with_content));
    ListOut::answer_reaching(page, reached, &request, |row: &Model| &row.id, out)
}

pub(crate) struct Attempts;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::MessageAttempt")]
impl Attempts {
    /// List a message's attempts
    #[oai(
        path = "/app/:app_id/attempt/msg/:msg_id",
        method = "get",
        operation_id = "v1.message-attempt.list-by-msg"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn by_message(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        msg_id: Path<String>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        /// Only attempts with this status. 0: success; 2: failure.
        status: Query<Option<i64>>,
        /// Only attempts whose answer had a status in this hundred: 100, 200, 300, 400 or 500. 0: attempts without an
        /// answer.
        status_code_class: Query<Option<i32>>,
        /// Only attempts of messages on this channel.
        channel: Query<Option<String>>,
        /// Only attempts of messages with this tag.
        tag: Query<Option<String>>,
        /// Only attempts at the endpoint with this id or uid; a deleted endpoint is found by its id.
        endpoint_id: Query<Option<String>>,
        /// Only attempts from before this instant.
        before: Query<Option<Instant>>,
        /// Only attempts from after this instant.
        after: Query<Option<Instant>>,
        /// Whether the response contains the bodies of the answers. Default: true.
        with_content: Query<Option<bool>>,
        /// Only attempts of messages of these types: comma-separated, or as a repeated parameter.
        event_types: Names,
    ) -> Result<Answer<ListOut<MessageAttemptOut>>, ApiError<Read>> {
        let list = ListQuery { limit, iterator };
        let message = MessageQuery {
            list,
            channel,
            tag,
            before,
            after,
            event_types,
        };
        let query = AttemptQuery {
            message,
            status,
            status_code_class,
        }
        .read()?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let message = message::get(&state.store, &app.id, &msg_id.0).await?;
        let endpoint = match endpoint_id.0 {
            Some(named) => Some(endpoint::get_id(&state.store, &app.id, &named).await?),
            None => None,
        };
        let of = Of::Message(&message.id, endpoint.as_deref());
        Ok(list_out(&state.store, &app.id, of, query, with_content.0).await?)
    }

    /// List the attempts at an endpoint
    ///
    /// With `status`, `status_code_class`, `channel`, `event_types` or `tag` a page looks through a bounded number of
    /// attempts: it may be short or empty and not be the last one. Go on with `iterator` until `done`.
    #[oai(
        path = "/app/:app_id/attempt/endpoint/:endpoint_id",
        method = "get",
        operation_id = "v1.message-attempt.list-by-endpoint"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn by_endpoint(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        /// Only attempts with this status. 0: success; 2: failure.
        status: Query<Option<i64>>,
        /// Only attempts whose answer had a status in this hundred: 100, 200, 300, 400 or 500. 0: attempts without an
        /// answer.
        status_code_class: Query<Option<i32>>,
        /// Only attempts of messages on this channel.
        channel: Query<Option<String>>,
        /// Only attempts of messages with this tag.
        tag: Query<Option<String>>,
        /// Only attempts from before this instant.
        before: Query<Option<Instant>>,
        /// Only attempts from after this instant.
        after: Query<Option<Instant>>,
        /// Whether the response contains the bodies of the answers. Default: true.
        with_content: Query<Option<bool>>,
        /// Only attempts of messages of these types: comma-separated, or as a repeated parameter.
        event_types: Names,
    ) -> Result<Answer<ListOut<MessageAttemptOut>>, ApiError<Read>> {
        let list = ListQuery { limit, iterator };
        let message = MessageQuery {
            list,
            channel,
            tag,
            before,
            after,
            event_types,
        };
        let query = AttemptQuery {
            message,
            status,
            status_code_class,
        }
        .read()?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let endpoint = endpoint::get(&state.store, &app.id, &endpoint_id.0).await?;
        let of = Of::Endpoint(&endpoint.id);
        Ok(list_out(&state.store, &app.id, of, query, with_content.0).await?)
    }

    /// Get an attempt
    ///
    /// Of a failed attempt, more is shown than in lists: why it failed, in words that name the phase, the headers of the
    /// answer, the address that was called, and how long each phase took. A token of an application is not told whether a
    /// host does not exist or is not public, and sees no address that is not public.
    #[oai(
        path = "/app/:app_id/msg/:msg_id/attempt/:attempt_id",
        method = "get",
        operation_id = "v1.message-attempt.get"
    )]
    async fn get(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        msg_id: Path<String>,
        attempt_id: Path<String>,
    ) -> Result<Answer<MessageAttemptOut>, ApiError<Read>> {
        let app = caller.application(&state.store, &app_id.0).await?;
        let message = message::get(&state.store, &app.id, &msg_id.0).await?;
        let row = attempt::get(&state.store, &app.id, &message.id, &attempt_id.0).await?;
        let headers = request_headers(&state, &app.id, &row).await?;
        let failure = FailureOut::new(&row, caller.app_id.is_some());
        let mut out = MessageAttemptOut::new(row, true);
        out.request_headers = headers;
        if let Some(failure) = failure {
            out.add(failure);
        }
        Ok(Answer::ok(&out)?)
    }

    /// Remove the answer to an attempt
    ///
    /// The body of the answer is removed permanently. The attempt stays, and its `response` is `EXPUNGED`.
    #[oai(
        path = "/app/:app_id/msg/:msg_id/attempt/:attempt_id/content",
        method = "delete",
        operation_id = "v1.message-attempt.expunge-content"
    )]
    async fn expunge(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        msg_id: Path<String>,
        attempt_id: Path<String>,
    ) -> Result<Empty, ApiError<Write>> {
        let app = caller.0.application(&state.store, &app_id.0).await?;
        let origin = caller.0.origin("v1.message-attempt.expunge-content");
        service::attempt::expunge(&state.store, &origin, &app, &msg_id.0, &attempt_id.0).await?;
        Ok(Empty)
    }
}
