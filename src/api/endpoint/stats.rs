//! Statistics of an endpoint over REST: the number of its attempts, by how they ended. Reads only.
//!
//! Must not list attempts: `attempt/` does.

use std::sync::Arc;
use std::time::Duration;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use crate::api::rights::{AnyToken, View};
use crate::api::wire::error::{ApiError, Read};
use crate::api::wire::response::Answer;
use crate::api::wire::values::Instant;
use crate::api::{ApiState, Tag};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::store::{attempt, endpoint};

/// The longest period that a request may ask for.
const LONGEST: Duration = Duration::from_hours(28 * 24);
/// How far a caller's clock may be ahead of ours, and by how much its period may be too long.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The number of attempts at an endpoint, by how they ended.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct EndpointStats {
    /// Attempts that delivered their message.
    success: i64,
    /// Attempts that failed.
    fail: i64,
    /// Always 0: an attempt is recorded once it has ended.
    pending: i64,
    /// Always 0, for the same reason.
    sending: i64,
    /// Always 0.
    canceled: i64,
}

pub(crate) struct EndpointStatistics;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Endpoint")]
impl EndpointStatistics {
    /// Count an endpoint's attempts
    ///
    /// Counts attempts from `since` on and before `until`: a period of at most 28 days that does not end in the future.
    #[oai(
        path = "/app/:app_id/endpoint/:endpoint_id/stats",
        method = "get",
        operation_id = "v1.endpoint.get-stats"
    )]
    async fn get(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        endpoint_id: Path<String>,
        /// Default: 28 days before `until`.
        since: Query<Option<Instant>>,
        /// Default: now.
        until: Query<Option<Instant>>,
    ) -> Result<Answer<EndpointStats>, ApiError<Read>> {
        let now = state.store.clock().now();
        let (since, until) = range(since.0.map(|instant| instant.0), until.0.map(|instant| instant.0), now)?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let endpoint = endpoint::get(&state.store, &app.id, &endpoint_id.0).await?;
        let (success, fail) = attempt::count(&state.store, &app.id, &endpoint.id, since, until).await?;
        Ok(Answer::ok(&EndpointStats {
            success,
            fail,
            pending: 0,
            sending: 0,
            canceled: 0,
        })?)
    }
}

/// Returns the period from `since` to `until`. `None` means the default.
///
/// # Errors
/// `InvalidRange` if it ends in the future or before it begins, or is too long.
fn range(since: Option<Timestamp>, until: Option<Timestamp>, now: Timestamp) -> Result<(Timestamp, Timestamp)> {
    let until = until.unwrap_or(now);
    let since = since.unwrap_or_else(|| until.minus(LONGEST));
    let broken = if until > now.plus(TOLERANCE) {
        "`until` must not be in the future"
    } else if since > until {
        "`since` must not be after `until`"
    } else if since < until.minus(LONGEST + TOLERANCE) {
        "`since` must be at most 28 days before `until`"
    } else {
        return Ok((since, until));
    };
    Err(Error::new(Kind::InvalidRange, broken))
}
