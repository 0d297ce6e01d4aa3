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
use crate::store::delivery_statistics::{self, Of, Period};
use crate::store::endpoint_hour::{HOUR, Merge};
use crate::store::{Store, attempt, endpoint};

/// The longest period that a request may ask for.
const LONGEST: Duration = Duration::from_hours(28 * 24);
/// How far a caller's clock may be ahead of ours, and by how much its period may be too long.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// After this time the sums of an hour are written, unless the database was away.
const WRITTEN: Duration = Duration::from_secs(60);

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
        let (success, fail) = count(&state.store, &app.id, &endpoint.id, since, until, now).await?;
        Ok(Answer::ok(&EndpointStats {
            success,
            fail,
            pending: 0,
            sending: 0,
            canceled: 0,
        })?)
    }
}

/// Counts the attempts at an endpoint, first those that succeeded, then those that failed: those of full hours from the
/// sums, the rest one by one.
///
/// There are no full hours before the endpoint's first sums end: attempts may be older than the sums. Nor are there any
/// that may have been merged into days, or so young that a process may not have written them.
async fn count(
    store: &Store,
    app_id: &str,
    endpoint_id: &str,
    since: Timestamp,
    until: Timestamp,
    now: Timestamp,
) -> Result<(i64, i64)> {
    let first = delivery_statistics::find_first_hour(store, app_id, endpoint_id).await?;
    let full_until = until.min(now.minus(WRITTEN)).begin_of(HOUR);
    let full_since = first.map_or(until, |first| {
        let next_hour = Timestamp(since.0.saturating_sub(1)).begin_of(HOUR).plus(HOUR);
        next_hour.max(first.plus(HOUR)).max(Merge::Hours.before(now))
    });
    if full_since >= full_until {
        return attempt::count(store, app_id, endpoint_id, since, until).await;
    }
    let hours = Period {
        since: full_since,
        step: Duration::from_micros(full_until.0.abs_diff(full_since.0)),
        buckets: 1,
    };
    let ids = [endpoint_id.to_owned()];
    let sums = delivery_statistics::list(store, Of::Endpoints(app_id, &ids), &hours).await?;
    let mut counted = (0, 0);
    for tally in sums.iter().flatten() {
        counted = (counted.0 + tally.delivered, counted.1 + tally.failed);
    }
    for (since, until) in [(since, full_since), (full_until, until)] {
        let rest = attempt::count(store, app_id, endpoint_id, since, until).await?;
        counted = (counted.0 + rest.0, counted.1 + rest.1);
    }
    Ok(counted)
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
