//! Results over REST: the latest state of a message at an endpoint, and sending the message there again.
//!
//! A message has a result at an endpoint once the first outcome of its delivery there is settled. Reads go to the
//! store, writes to the service.
//!
//! Must not send: the service queues a resend.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};

use super::results_body::{EndpointMessageOut, MessageEndpointOut};
use super::status::Status;
use crate::api::message::payload;
use crate::api::rights::{AnyToken, SendAgain, View};
use crate::api::wire::error::{ApiError, Conditional, Read};
use crate::api::wire::filters::{MessageQuery, Names};
use crate::api::wire::idempotency::IdempotencyKey;
use crate::api::wire::paging::{Iterates, Limit, ListOut, ListQuery};
use crate::api::wire::response::{Accepted, Answer, Nothing, reply};
use crate::api::wire::values::Instant;
use crate::api::{ApiState, Tag};
use crate::domain::id::Prefix;
use crate::error::Result;
use crate::service;
use crate::store::delivery_result::{self, Filter};
use crate::store::entity::delivery_result::Model;
use crate::store::message::{self, WithContent};
use crate::store::{Page, PageRequest, Store, endpoint};

pub(crate) struct Deliveries;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::MessageAttempt")]
impl Deliveries {
    /// List an endpoint's messages
    ///
    /// The messages that were attempted at the endpoint, or given up there without an attempt, each with its state
    /// there. A message that was delivered stays a success, whatever comes of a later resend. If payloads are large, a
    /// page may hold fewer messages than `limit`; `done` says whether it is the last page. With `channel`, `event_types` or
    /// `tag` a page looks through a bounded number of messages: it may be short or empty and not be the last one. Go on
    /// with `iterator` until `done`.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/msg",
        method = "get",
        operation_id = "v1.message-attempt.list-attempted-messages"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn messages(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        /// Only messages on this channel.
        channel: Query<Option<String>>,
        /// Only messages with this tag.
        tag: Query<Option<String>>,
        /// Only messages in this state at the endpoint. 0: delivered; 2: failed, no retry is left; 3: waiting for a
        /// retry.
        status: Query<Option<i64>>,
        /// Only messages from before this instant.
        before: Query<Option<Instant>>,
        /// Only messages from after this instant.
        after: Query<Option<Instant>>,
        /// Whether the response contains payloads. Default: true.
        with_content: Query<Option<bool>>,
        /// Only messages of these types: comma-separated, or as a repeated parameter.
        event_types: Names,
    ) -> Result<Answer<ListOut<EndpointMessageOut>>, ApiError<Read>> {
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
        let status = Status::read(status)?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let endpoint = endpoint::get(&state.store, &app.id, &endpoint_id.0).await?;
        let (page, reach) = match status.map(Status::state) {
            // A status that no message ever has.
            Some(None) => (Page::empty(), None),
            state_wanted => {
                let filter = Filter {
                    message: filter,
                    state: state_wanted.flatten(),
                };
                delivery_result::list_by_endpoint(&state.store, &app.id, &endpoint.id, &filter, &request).await?
            }
        };
        let with_content = with_content.0.unwrap_or(true);
        Ok(messages_out(&state.store, &app.id, page, reach, &request, with_content).await?)
    }

    /// List a message's endpoints
    ///
    /// The endpoints at which the message was attempted, or given up without an attempt, each with the message's state
    /// there. Deleted endpoints are listed too.
    #[oai(
        path = "/app/:app_id/msg/:msg_id/endpoint",
        method = "get",
        operation_id = "v1.message-attempt.list-attempted-destinations"
    )]
    async fn endpoints(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        msg_id: Path<String>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
    ) -> Result<Answer<ListOut<MessageEndpointOut>>, ApiError<Read>> {
        let request = ListQuery { limit, iterator }.request(&Iterates::Over(Prefix::Endpoint), true)?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let message = message::get(&state.store, &app.id, &msg_id.0).await?;
        let page = delivery_result::list_by_message(&state.store, &app.id, &message.id, &request).await?;
        let (page, mut endpoints) =
            endpoint::with_endpoints(&state.store, &app.id, page, &request, |row| &row.endpoint_id).await?;
        let page = page.filter_map(|row| Some((endpoints.remove(&row.endpoint_id)?, row)));
        let out = |(endpoint, row)| Ok(MessageEndpointOut::new(endpoint, &row));
        Ok(ListOut::answer(page, &request, |(_, row)| &row.endpoint_id, out)?)
    }

    /// Send a message to an endpoint again
    ///
    /// The message gets one attempt now, whether or not it was delivered before and whatever the endpoint's filter
    /// says. If the attempt fails, there is no retry. To a disabled endpoint nothing is sent, and the response is the
    /// same.
    #[oai(
        path = "/app/:app_id/msg/:msg_id/endpoint/:endpoint_id/resend",
        method = "post",
        operation_id = "v1.message-attempt.resend"
    )]
    async fn resend(
        &self,
        caller: AnyToken<SendAgain>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        msg_id: Path<String>,
        endpoint_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
    ) -> Result<Answer<Nothing, Accepted>, ApiError<Conditional>> {
        let key = key.of(&caller, None);
        let app = caller.application(&state.store, &app_id.0).await?;
        let (origin, accepted) = (caller.origin("v1.message-attempt.resend"), reply(202, &Nothing {})?);
        let (store, named) = (&state.store, [msg_id.0.as_str(), &endpoint_id.0]);
        let done = service::delivery::resend(store, &origin, &app, named, key.as_ref(), accepted).await?;
        Ok(done.into())
    }
}

/// Reads the messages of a page of results and returns them as the response. Leaves out a message that was removed
/// after its result was read. The list goes on after `reach` if the page ends there.
async fn messages_out(
    store: &Store,
    app_id: &str,
    page: Page<Model>,
    reach: Option<String>,
    request: &PageRequest,
    with_content: bool,
) -> Result<Answer<ListOut<EndpointMessageOut>>> {
    let page = message::with_messages(store, app_id, page, request, with_content, |row: &Model| {
        &row.message_id
    });
    // Afterwards, because the payloads may have ended the page before.
    let (page, reached) = page.await?.reaching(reach);
    let out = |(row, found): (Model, WithContent)| {
        let payload = payload(found.body, with_content)?;
        Ok(EndpointMessageOut::new(found.message, payload, &row))
    };
    ListOut::answer_reaching(page, reached, request, |(row, _)| &row.message_id, out)
}
