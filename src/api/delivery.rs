//! Deliveries over REST: a list of messages at endpoints, with what still waits. Reads only.
//!
//! Must not resend: `attempt/results.rs` does.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::rights::{AnyToken, View};
use super::wire::error::{ApiError, Read};
use super::wire::paging::{Iterates, Limit, ListOut, ListQuery, bad_query};
use super::wire::response::Answer;
use super::wire::values::Instant;
use super::{ApiState, Tag};
use crate::domain::identifier::{check_identifier, check_tag};
use crate::domain::verdict::State;
use crate::error::Result;
use crate::store::delivery::{self, Delivery, Filter, Place};
use crate::store::{Between, Page, endpoint};

/// A message at an endpoint.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct DeliveryOut {
    msg_id: String,
    #[oai(nullable)]
    event_id: Option<String>,
    event_type: String,
    endpoint_id: String,
    #[oai(nullable)]
    endpoint_uid: Option<String>,
    state: State,
    /// The number of attempts that were made: those among the newest 2,000 of the message at all endpoints.
    attempts: i64,
    /// The status of the last answer; 0 if there was none, null if there was no attempt.
    #[oai(nullable)]
    last_status_code: Option<i32>,
    /// Why the last attempt got no answer; null if it got one.
    #[oai(nullable)]
    last_error: Option<String>,
    #[oai(nullable)]
    last_attempt_at: Option<Instant>,
    /// When the next attempt is due; null if there is none, or if it waits until the endpoint may get more requests.
    #[oai(nullable)]
    next_attempt_at: Option<Instant>,
    /// When the message was accepted.
    created_at: Instant,
    /// The message's tags; null if it has none.
    #[oai(nullable)]
    tags: Option<Vec<String>>,
}

impl From<Delivery> for DeliveryOut {
    fn from(row: Delivery) -> Self {
        Self {
            msg_id: row.pair.message_id,
            event_id: row.message.event_id,
            event_type: row.message.event_type,
            endpoint_id: row.pair.endpoint_id,
            endpoint_uid: row.endpoint_uid,
            state: row.state,
            attempts: row.tries.attempts,
            last_status_code: row.tries.last_status,
            last_error: row.tries.last_error,
            last_attempt_at: row.tries.last_at.map(Instant),
            next_attempt_at: row.next_at.map(Instant),
            created_at: Instant(row.message.created_at),
            tags: row.message.tags.map(|list| list.0),
        }
    }
}

pub(crate) struct AllDeliveries;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::MessageAttempt")]
impl AllDeliveries {
    /// List deliveries
    ///
    /// Messages at endpoints, newest first, from their acceptance on. A page looks through a bounded number of messages:
    /// if few deliveries pass the filter, it may be short or empty and not be the last one. Go on with `iterator` until
    /// `done`.
    #[oai(path = "/app/:app_id/delivery", method = "get", operation_id = "v1.delivery.list")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        /// Only deliveries in this state.
        #[oai(name = "state")]
        wanted: Query<Option<State>>,
        /// Only deliveries to this endpoint, by its id or uid. By its id a deleted endpoint is found too.
        endpoint_id: Query<Option<String>>,
        /// Only messages of this type.
        event_type: Query<Option<String>>,
        /// Only messages with this tag.
        tag: Query<Option<String>>,
        /// Only messages from before this instant.
        before: Query<Option<Instant>>,
        /// Only messages from after this instant.
        after: Query<Option<Instant>>,
    ) -> Result<Answer<ListOut<DeliveryOut>>, ApiError<Read>> {
        let mut request = ListQuery { limit, iterator }.request(&Iterates::Deliveries, false)?;
        for (name, value) in [("endpoint_id", &endpoint_id.0), ("event_type", &event_type.0)] {
            let text = value.as_deref();
            text.map_or(Ok(()), check_identifier)
                .map_err(|rule| bad_query(name, rule))?;
        }
        let wanted_tag = tag.0.as_deref();
        wanted_tag
            .map_or(Ok(()), check_tag)
            .map_err(|rule| bad_query("tag", rule))?;
        let between = Between {
            after: after.0.map(|instant| instant.0),
            before: before.0.map(|instant| instant.0),
        };
        // With `after` alone the list begins at that instant and goes on towards the present.
        if request.after.is_none() && between.after.is_some() && between.before.is_none() {
            request.backwards = true;
        }
        let app = caller.application(&state.store, &app_id.0).await?;
        let endpoint_id = match &endpoint_id.0 {
            Some(name) => Some(endpoint::get_id(&state.store, &app.id, name).await?),
            None => None,
        };
        let filter = Filter {
            between,
            event_type: event_type.0,
            tag: tag.0,
            endpoint_id,
            state: wanted.0,
        };
        let now = state.store.clock().now();
        let begins = request.after.as_deref().map(place);
        let found = delivery::list(&state.store, &app.id, &filter, begins, &request, now).await?;
        let rows = found.rows.into_iter().map(|row| (key(&row), row)).collect();
        let page = Page { rows, done: found.done };
        let out = |(_, row): (String, Delivery)| Ok(DeliveryOut::from(row));
        Ok(ListOut::answer_reaching(
            page,
            found.reached,
            &request,
            |(key, _)| key,
            out,
        )?)
    }
}

/// Returns the key of a delivery in iterators: the message's id and the endpoint's.
fn key(row: &Delivery) -> String {
    format!("{}.{}", row.pair.message_id, row.pair.endpoint_id)
}

/// Returns the place that a key names.
fn place(key: &str) -> Place<'_> {
    let (message_id, endpoint_id) = match key.split_once('.') {
        Some((message_id, endpoint_id)) => (message_id, Some(endpoint_id)),
        None => (key, None),
    };
    Place {
        message_id,
        endpoint_id,
    }
}
