//! The queue over REST: what an organization has in it. Reads only.
//!
//! Must not count without a bound: the store's look has them.

use std::cmp::Reverse;
use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::rights::{Organization, View};
use super::wire::error::{ApiError, Read};
use super::wire::response::Answer;
use super::{ApiState, Tag};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::queue::{EndpointQueue, Overview, find_overview};

/// The most endpoints that a response names.
const MOST: usize = 50;

/// What one endpoint has in the queue.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EndpointQueueOut {
    /// The organization's own id for its operational endpoints.
    app_id: String,
    endpoint_id: String,
    /// The deliveries that wait: due, due later, or until the endpoint may get more requests.
    waiting: i64,
    /// For how long the oldest due delivery has been due; null if none is due.
    #[oai(nullable)]
    oldest_due_seconds: Option<i64>,
}

/// What an organization has in the queue.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct QueueOut {
    /// The deliveries that wait: due, due later, or parked.
    waiting: i64,
    /// Those whose time has come.
    due: i64,
    /// Those that wait until their endpoint may get more requests.
    parked: i64,
    /// The deliveries that are under way.
    sending: i64,
    /// For how long the oldest due delivery has been due; null if none is due.
    #[oai(nullable)]
    oldest_due_seconds: Option<i64>,
    /// Whether counting has ended at a bound: then all numbers are lower bounds.
    capped: bool,
    /// The 50 endpoints with the most waiting deliveries.
    endpoints: Vec<EndpointQueueOut>,
}

pub(crate) struct Queue;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::MessageAttempt")]
impl Queue {
    /// Look at the queue
    ///
    /// The deliveries of all applications that wait or are under way. Counting is bounded, so that it costs the same
    /// however long the queue is; of a queue that many organizations fill, it may see only a part.
    #[oai(path = "/queue", method = "get", operation_id = "v1.queue.get")]
    async fn get(
        &self,
        caller: Organization<View>,
        state: Data<&Arc<ApiState>>,
    ) -> Result<Answer<QueueOut>, ApiError<Read>> {
        let found = find_overview(&state.store, &caller.0.org_id).await?;
        Ok(Answer::ok(&out(found, state.store.clock().now()))?)
    }
}

fn out(overview: Overview, now: Timestamp) -> QueueOut {
    let age = |since: Timestamp| now.unix_micros().saturating_sub(since.unix_micros()) / 1_000_000;
    let mut endpoints = overview.endpoints;
    endpoints.sort_by_key(|endpoint| Reverse(endpoint.waiting));
    let sum = |of: fn(&EndpointQueue) -> i64| endpoints.iter().map(of).sum();
    QueueOut {
        waiting: sum(|endpoint| endpoint.waiting),
        due: sum(|endpoint| endpoint.due),
        parked: sum(|endpoint| endpoint.parked),
        sending: sum(|endpoint| endpoint.sending),
        oldest_due_seconds: endpoints
            .iter()
            .filter_map(|endpoint| endpoint.due_since)
            .min()
            .map(age),
        capped: overview.is_capped,
        endpoints: endpoints
            .into_iter()
            .take(MOST)
            .map(|endpoint| EndpointQueueOut {
                app_id: endpoint.app_id,
                endpoint_id: endpoint.endpoint_id,
                waiting: endpoint.waiting,
                oldest_due_seconds: endpoint.due_since.map(age),
            })
            .collect(),
    }
}
