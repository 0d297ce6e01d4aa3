//! Statistics of deliveries over REST: how many attempts delivered and failed, and how long answers took. Reads only.
//!
//! Must not read attempts: the store reads their sums.

use std::sync::Arc;
use std::time::Duration;

use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::{Enum, Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::rights::{AnyToken, View};
use super::wire::error::{ApiError, Read};
use super::wire::filters::Names;
use super::wire::paging::{Iterates, Limit, ListQuery, bad_query};
use super::wire::response::Answer;
use super::wire::values::{Instant, Nullable};
use super::{ApiState, Tag};
use crate::domain::id::Prefix;
use crate::domain::tally::Tally;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::delivery_statistics::{self, Of, Period, Series};
use crate::store::endpoint_hour::{DAY, HOUR, HOURS_KEPT};
use crate::store::{Page, PageRequest, Store, endpoint};

/// The period of a request that names none.
const USUAL: Duration = DAY;
/// The most buckets of one series.
const MOST_BUCKETS: usize = 1_000;
/// The most buckets of one page: some 4 MiB of JSON.
const PAGE_BUCKETS: usize = 25_000;
/// The most endpoints that one request may name.
const MOST_NAMES: usize = 250;

/// What each series of statistics is about.
#[derive(Clone, Copy, Debug, Enum, Eq, PartialEq)]
#[oai(rename_all = "lowercase")]
pub enum StatisticsBy {
    Organization,
    Application,
    Endpoint,
}

/// Attempts by the class of their answer's status.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct AttemptsByClass {
    #[serde(rename = "2xx")]
    #[oai(rename = "2xx")]
    status_2xx: i64,
    #[serde(rename = "3xx")]
    #[oai(rename = "3xx")]
    status_3xx: i64,
    #[serde(rename = "4xx")]
    #[oai(rename = "4xx")]
    status_4xx: i64,
    #[serde(rename = "5xx")]
    #[oai(rename = "5xx")]
    status_5xx: i64,
    /// Attempts that had no answer, or one whose status is of none of these classes.
    none: i64,
}

/// The attempts of one part of the period.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct DeliveryBucket {
    /// The instant at which this part begins.
    start: Instant,
    /// Attempts that delivered their message.
    delivered: i64,
    /// Attempts that failed.
    failed: i64,
    by_class: AttemptsByClass,
    /// Half of the answers came within this time, in milliseconds; null if there was no answer. Percentiles are read from
    /// a histogram: from 5 ms to 30 s each is wrong by a factor of 5/3 at most, and usually by much less.
    p50_ms: Nullable<i64>,
    /// 95 % of the answers came within this time.
    p95_ms: Nullable<i64>,
    /// 99 % of the answers came within this time.
    p99_ms: Nullable<i64>,
}

/// The attempts of the organization, an application or an endpoint.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct DeliverySeries {
    /// Absent if the series is about the organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<String>,
    /// Absent unless the series is about an endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<String>,
    /// Attempts of the whole period that delivered their message.
    delivered: i64,
    /// Attempts of the whole period that failed.
    failed: i64,
    /// The parts of the period in order of time; those without attempts are there too.
    buckets: Vec<DeliveryBucket>,
}

/// One page of statistics.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct DeliveryStatistics {
    /// The beginning of the first bucket.
    since: Instant,
    /// The end of the last bucket.
    until: Instant,
    /// The length of a bucket.
    step_seconds: i64,
    data: Vec<DeliverySeries>,
    /// Goes on after this page; null when it is empty, and with `by=organization`.
    iterator: Nullable<String>,
    /// Goes back before this page.
    prev_iterator: Nullable<String>,
    done: bool,
}

pub(super) struct Statistics;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Statistics")]
impl Statistics {
    /// Count attempts and time answers
    ///
    /// Counts attempts, retries and resends too, by the hour in which they began. The counts are up to 10 s late. What
    /// a process had not yet written when it was killed is missing; nothing is counted twice. Counts begin with the
    /// version that introduced them, hours are kept for 35 days, and days (UTC) for 400.
    ///
    /// An application's token sees its own application alone.
    #[oai(path = "/stats/delivery", method = "get", operation_id = "v1.statistics.delivery")]
    #[allow(clippy::too_many_arguments)]
    async fn delivery(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        /// What each series is about. Default: the organization, or with an application's token that application.
        by: Query<Option<StatisticsBy>>,
        /// Only this application, by its id or uid. Needed with `by=endpoint`, except with an application's token.
        app_id: Query<Option<String>>,
        /// With `by=endpoint`: only these endpoints, by their ids or uids, separated by commas; at most 250.
        #[oai(name = "endpoint_id")]
        endpoint_id: Names,
        /// Default: 24 hours before `until`. It is rounded down to a full hour, or to the beginning of a day (UTC) if
        /// `step` is a number of days.
        since: Query<Option<Instant>>,
        /// Default: now. It is rounded up to a full bucket.
        until: Query<Option<Instant>>,
        /// The length of a bucket in seconds, a multiple of 3600, or of 86400 if `since` is more than 35 days ago.
        /// Default: 3600. There may be at most 1000 buckets.
        step: Query<Option<i64>>,
        /// A page holds at most 25000 buckets in all, and so perhaps fewer series than this.
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
    ) -> Result<Answer<DeliveryStatistics>, ApiError<Read>> {
        let store = &state.store;
        let now = store.clock().now();
        let instant = |query: Query<Option<Instant>>| query.0.map(|instant| instant.0);
        let period = period(instant(since), instant(until), step.0, now)?;
        let usual = if caller.app_id.is_some() {
            StatisticsBy::Application
        } else {
            StatisticsBy::Organization
        };
        let by = by.0.unwrap_or(usual);
        check_names(by, app_id.0.as_deref(), &endpoint_id.0, &caller)?;
        let over = if by == StatisticsBy::Endpoint {
            Prefix::Endpoint
        } else {
            Prefix::Application
        };
        let mut page = ListQuery { limit, iterator }.request(&Iterates::Over(over), true)?;
        page.limit = page.limit.min((PAGE_BUCKETS / period.buckets).max(1) as u64);
        let app = match app_id.0.as_deref().or(caller.app_id.as_deref()) {
            Some(app_id) => Some(caller.application(store, app_id).await?.id),
            None => None,
        };
        let made = match (by, &app) {
            (StatisticsBy::Organization, _) => {
                let all = delivery_statistics::list(store, Of::Organization(&caller.org_id), &period).await?;
                let data = all
                    .iter()
                    .map(|series| DeliverySeries::new(None, None, series, &period))
                    .collect();
                DeliveryStatistics::new(data, &period, (None, None), true)
            }
            (StatisticsBy::Endpoint, Some(app)) => by_endpoint(store, app, &endpoint_id.0, &period, &page).await?,
            (_, app) => by_application(store, &caller.org_id, app.as_deref(), &period, &page).await?,
        };
        Ok(Answer::ok(&made)?)
    }
}

/// Returns the period that is asked for.
///
/// # Errors
/// `Invalid` names the parameter and its rule.
fn period(since: Option<Timestamp>, until: Option<Timestamp>, step: Option<i64>, now: Timestamp) -> Result<Period> {
    let until = until.unwrap_or(now);
    let since = since.unwrap_or_else(|| until.minus(USUAL));
    let seconds = step.unwrap_or(3_600);
    if seconds < 3_600 || seconds % 3_600 != 0 {
        return Err(bad_query("step", "must be a multiple of 3600"));
    }
    let has_whole_days = seconds % 86_400 == 0;
    if since < now.minus(HOURS_KEPT) && !has_whole_days {
        let rule = "must be a multiple of 86400 if `since` is more than 35 days ago";
        return Err(bad_query("step", rule));
    }
    if since >= until {
        return Err(bad_query("since", "must be before `until`"));
    }
    let step = Duration::from_secs(seconds.unsigned_abs());
    let since = since.begin_of(if has_whole_days { DAY } else { HOUR });
    let micros = i64::try_from(step.as_micros()).unwrap_or(i64::MAX);
    let length = until.0.saturating_sub(since.0);
    let buckets = usize::try_from(length.unsigned_abs().div_ceil(micros.unsigned_abs())).unwrap_or(usize::MAX);
    if buckets > MOST_BUCKETS {
        let rule = format!("must divide the period into at most {MOST_BUCKETS} buckets, gives {buckets}");
        return Err(bad_query("step", rule));
    }
    Ok(Period { since, step, buckets })
}

/// Checks which things may be named.
///
/// # Errors
/// `Invalid` names the parameter and its rule.
fn check_names(by: StatisticsBy, app_id: Option<&str>, endpoints: &[String], caller: &Caller) -> Result<()> {
    if by == StatisticsBy::Organization && caller.app_id.is_some() {
        let rule = "must be application or endpoint with an application's token";
        return Err(bad_query("by", rule));
    }
    if by == StatisticsBy::Organization && app_id.is_some() {
        return Err(bad_query("app_id", "must not be given with `by=organization`"));
    }
    if by == StatisticsBy::Endpoint && app_id.is_none() && caller.app_id.is_none() {
        return Err(bad_query("app_id", "must be given with `by=endpoint`"));
    }
    if by != StatisticsBy::Endpoint && !endpoints.is_empty() {
        return Err(bad_query("endpoint_id", "must be given with `by=endpoint` only"));
    }
    if endpoints.len() > MOST_NAMES {
        return Err(bad_query(
            "endpoint_id",
            format!("must be at most {MOST_NAMES} endpoints"),
        ));
    }
    Ok(())
}

/// Makes a page with a series for each application, or for `app` alone.
async fn by_application(
    store: &Store,
    org_id: &str,
    app: Option<&str>,
    period: &Period,
    page: &PageRequest,
) -> Result<DeliveryStatistics> {
    let ids = match app {
        Some(app) => cut(vec![app.to_owned()], page),
        None => delivery_statistics::list_applications(store, org_id, page).await?,
    };
    let all = delivery_statistics::list(store, Of::Applications(&ids.rows), period).await?;
    let each = ids.rows.iter().zip(&all);
    let data = each.map(|(id, series)| DeliverySeries::new(Some(id.as_str()), None, series, period));
    Ok(DeliveryStatistics::new(
        data.collect(),
        period,
        ends(&ids.rows),
        ids.done,
    ))
}

/// Makes a page with a series for each endpoint of an application, or for those that `names` names.
async fn by_endpoint(
    store: &Store,
    app: &str,
    names: &[String],
    period: &Period,
    page: &PageRequest,
) -> Result<DeliveryStatistics> {
    let ids = match names {
        [] => delivery_statistics::list_endpoints(store, app, page).await?,
        names => {
            let mut ids = Vec::with_capacity(names.len());
            for name in names {
                ids.push(endpoint::get_id(store, app, name).await?);
            }
            ids.sort_unstable();
            ids.dedup();
            cut(ids, page)
        }
    };
    let all = delivery_statistics::list(store, Of::Endpoints(app, &ids.rows), period).await?;
    let each = ids.rows.iter().zip(&all);
    let data = each.map(|(id, series)| DeliverySeries::new(Some(app), Some(id), series, period));
    Ok(DeliveryStatistics::new(
        data.collect(),
        period,
        ends(&ids.rows),
        ids.done,
    ))
}

/// Cuts the page that is asked for out of all ids, which are in ascending order.
fn cut(mut ids: Vec<String>, page: &PageRequest) -> Page<String> {
    if let Some(after) = &page.after {
        ids.retain(|id| if page.backwards { id < after } else { id > after });
    }
    let most = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let done = ids.len() <= most;
    match page.backwards {
        true => drop(ids.drain(..ids.len().saturating_sub(most))),
        false => ids.truncate(most),
    }
    Page { rows: ids, done }
}

/// Returns the first and the last of some ids.
fn ends(ids: &[String]) -> (Option<&String>, Option<&String>) {
    (ids.first(), ids.last())
}

impl DeliveryStatistics {
    fn new(
        data: Vec<DeliverySeries>,
        period: &Period,
        (first, last): (Option<&String>, Option<&String>),
        done: bool,
    ) -> Self {
        Self {
            since: Instant(period.since),
            until: Instant(period.begin_of(period.buckets)),
            step_seconds: i64::try_from(period.step.as_secs()).unwrap_or(i64::MAX),
            data,
            iterator: Nullable(last.cloned()),
            prev_iterator: Nullable(first.map(|id| format!("-{id}"))),
            done,
        }
    }
}

impl DeliverySeries {
    fn new(app_id: Option<&str>, endpoint_id: Option<&str>, series: &Series, period: &Period) -> Self {
        let buckets = series.iter().enumerate();
        Self {
            app_id: app_id.map(str::to_owned),
            endpoint_id: endpoint_id.map(str::to_owned),
            delivered: series.iter().map(|tally| tally.delivered).sum(),
            failed: series.iter().map(|tally| tally.failed).sum(),
            buckets: buckets
                .map(|(number, tally)| DeliveryBucket::new(period.begin_of(number), tally))
                .collect(),
        }
    }
}

impl DeliveryBucket {
    fn new(start: Timestamp, tally: &Tally) -> Self {
        let percentile = |percent| Nullable(tally.percentile_ms(percent));
        Self {
            start: Instant(start),
            delivered: tally.delivered,
            failed: tally.failed,
            by_class: AttemptsByClass {
                status_2xx: tally.delivered,
                status_3xx: tally.status_3xx,
                status_4xx: tally.status_4xx,
                status_5xx: tally.status_5xx,
                none: tally.unanswered(),
            },
            p50_ms: percentile(50),
            p95_ms: percentile(95),
            p99_ms: percentile(99),
        }
    }
}
