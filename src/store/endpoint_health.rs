//! Finds the endpoints of an organization that are in trouble: failing, disabled or slow.
//!
//! A page is found by an index that holds only such endpoints. Then the rest is read of its endpoints alone. Must not
//! decide that an endpoint fails: the settlements do.

use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};

use super::database::backend::Backend;
use super::database::page::{Page, PageRequest};
use super::database::rows::{Column, Rows, statement};
use super::database::source::Source;
use super::endpoint_hour::{COUNTS, HOUR};
use super::entity::endpoint::Disabling;
use crate::domain::id::Prefix;
use crate::domain::tally::FIRST_SLOW;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// The number at which messages that wait for an endpoint are counted no further.
pub const WAITING_MOST: i64 = 1_000;

/// The trouble that an endpoint is in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    Failing,
    Disabled,
    /// The 95th percentile of its answers, in this hour and the one before, is 5 s or more.
    Slow,
}

/// An endpoint's place in the list: the instant by which it is sorted, and its ids.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    pub at: i64,
    pub app_id: String,
    pub endpoint_id: String,
}

impl Place {
    /// Returns the text by which an iterator names the place.
    pub fn key(&self) -> String {
        format!("{}.{}.{}", self.at, self.app_id, self.endpoint_id)
    }

    /// Reads the text of [`Place::key`]; `None` if it is none.
    pub fn of(key: &str) -> Option<Self> {
        let (at, ids) = key.split_once('.')?;
        let (app_id, endpoint_id) = ids.split_once('.')?;
        let is_place = Prefix::Application.is_of(app_id) && Prefix::Endpoint.is_of(endpoint_id);
        is_place.then_some(Self {
            at: at.parse().ok()?,
            app_id: app_id.to_owned(),
            endpoint_id: endpoint_id.to_owned(),
        })
    }
}

/// An endpoint in trouble.
#[derive(Clone, Debug)]
pub struct Troubled {
    /// Its place in the list, as in [`Place::key`].
    pub key: String,
    pub app_id: String,
    pub app_uid: Option<String>,
    pub app_name: String,
    pub endpoint_id: String,
    pub endpoint_uid: Option<String>,
    pub url: String,
    pub failing_since: Option<Timestamp>,
    /// When the endpoint was disabled, and why; `None` means that it is enabled.
    pub disabling: Option<Disabling>,
    /// The status of the last attempt's answer; 0 means that it had none, `None` that there was no attempt.
    pub last_status: Option<i32>,
    /// Why the last attempt had no answer.
    pub last_error: Option<String>,
    /// When the last attempt began that delivered its message, as far as the sums of attempts know it.
    pub last_success: Option<Timestamp>,
    /// The number of messages that wait for their next attempt, at most [`WAITING_MOST`].
    pub waiting: i64,
}

/// Returns a page of the endpoints in a kind of trouble. Failing ones begin with the one that began to fail last,
/// disabled ones with the one that was changed last, slow ones with the one that was created last.
pub async fn list(
    source: &impl Source,
    org_id: &str,
    trouble: Trouble,
    now: Timestamp,
    page: &PageRequest,
) -> Result<Page<Troubled>> {
    let places = match trouble {
        Trouble::Failing => in_order(source, org_id, FAILING, page).await?,
        Trouble::Disabled => in_order(source, org_id, DISABLED, page).await?,
        Trouble::Slow => slow(source, org_id, now, page).await?,
    };
    let details = details(source, &places.rows).await?;
    Ok(Page {
        rows: details,
        done: places.done,
    })
}

/// The column by which a list is sorted, and the condition in the words of its index.
type Index = (&'static str, &'static str);
const FAILING: Index = (
    "failing_since",
    "e.failing_since is not null and e.deleted_at is null and not e.disabled",
);
const DISABLED: Index = ("updated_at", "e.disabled and e.deleted_at is null");

/// Reads a page in the order of an index. Endpoints of other organizations are stepped over.
async fn in_order(source: &impl Source, org_id: &str, index: Index, page: &PageRequest) -> Result<Page<Place>> {
    let (at, condition) = index;
    let (beyond, order) = match page.reads_upwards() {
        true => (">", "asc"),
        false => ("<", "desc"),
    };
    let begin = page
        .after
        .as_deref()
        .and_then(Place::of)
        .unwrap_or(match page.reads_upwards() {
            true => nowhere(i64::MIN),
            false => nowhere(i64::MAX),
        });
    let of_organization = "a.id = e.app_id and a.org_id = $1 and a.id <> a.org_id and a.deleted_at is null";
    let (application, rest) = match source.dialect() {
        Backend::Sqlite => ("application a".to_owned(), format!(" and {of_organization}")),
        // Not merged into the query: Postgres would begin with the applications, and sort all endpoints for one page.
        Backend::Postgres => (
            format!("lateral (select a.id from application a where {of_organization} offset 0) a"),
            String::new(),
        ),
    };
    let sql = format!(
        "select e.{at} as place, e.app_id, e.id from endpoint e cross join {application} \
         where {condition}{rest} and (e.{at}, e.app_id, e.id) {beyond} ($2, $3, $4) \
         order by e.{at} {order}, e.app_id {order}, e.id {order} limit $5"
    );
    let values: [Value; 5] = [
        org_id.into(),
        begin.at.into(),
        begin.app_id.into(),
        begin.endpoint_id.into(),
        (page.limit as i64 + 1).into(),
    ];
    let statement = Statement::from_sql_and_values(source.dialect().orm(), sql, values);
    let rows = source.source().query_all_raw(statement).await?;
    let place = |row: &QueryResult| {
        Ok(Place {
            at: row.try_get("", "place")?,
            app_id: row.try_get("", "app_id")?,
            endpoint_id: row.try_get("", "id")?,
        })
    };
    Ok(page.page(rows.iter().map(place).collect::<Result<_>>()?))
}

fn nowhere(at: i64) -> Place {
    Place {
        at,
        app_id: String::new(),
        endpoint_id: String::new(),
    }
}

/// Finds the slow endpoints, and returns a page of them. Reads of the last two hours only endpoints with slow answers.
async fn slow(source: &impl Source, org_id: &str, now: Timestamp, page: &PageRequest) -> Result<Page<Place>> {
    let slow_columns = &COUNTS[5 + FIRST_SLOW..];
    let has_slow = format!("coalesce({}) is not null", slow_columns.join(", "));
    let sum = |columns: &[&str]| {
        let each = columns.iter().map(|name| format!("coalesce(h.{name}, 0)"));
        format!("sum({})", each.collect::<Vec<_>>().join(" + "))
    };
    let endpoint = "e.app_id = s.app_id and e.id = s.endpoint_id and e.deleted_at is null";
    let application = "a.id = s.app_id and a.org_id = $1 and a.id <> a.org_id and a.deleted_at is null";
    let (rest, conditions) = match source.dialect() {
        Backend::Sqlite => (
            "cross join endpoint e cross join application a".to_owned(),
            format!("{endpoint} and {application} and "),
        ),
        // Not merged into the query: Postgres would read all endpoints by their index.
        Backend::Postgres => (
            format!(
                "cross join lateral (select e.id from endpoint e where {endpoint} offset 0) e \
                 cross join lateral (select a.id from application a where {application} offset 0) a"
            ),
            String::new(),
        ),
    };
    let sql = format!(
        "select s.app_id, s.endpoint_id from \
         (select distinct app_id, endpoint_id from endpoint_hour where source > 0 and {has_slow} and hour >= $2) s {rest} \
         where {conditions}(select {} * 20 > {} from endpoint_hour h where h.app_id = s.app_id \
         and h.endpoint_id = s.endpoint_id and h.hour >= $2)",
        sum(slow_columns),
        sum(&COUNTS[5..]),
    );
    let since = now.begin_of(HOUR).minus(HOUR);
    let statement = Statement::from_sql_and_values(source.dialect().orm(), sql, [org_id.into(), since.0.into()]);
    let mut places = Vec::new();
    for row in source.source().query_all_raw(statement).await? {
        let endpoint_id: String = row.try_get("", "endpoint_id")?;
        places.push(Place {
            at: Prefix::Endpoint.instant_of(&endpoint_id).unwrap_or_default().0,
            app_id: row.try_get("", "app_id")?,
            endpoint_id,
        });
    }
    places.sort_unstable();
    if !page.reads_upwards() {
        places.reverse();
    }
    if let Some(after) = page.after.as_deref().and_then(Place::of) {
        places.retain(|place| {
            if page.reads_upwards() {
                *place > after
            } else {
                *place < after
            }
        });
    }
    places.truncate(usize::try_from(page.limit).unwrap_or(usize::MAX).saturating_add(1));
    Ok(page.page(places))
}

/// Finds an endpoint's last success. Reads its sums backwards from the newest one to the hour of a success: of an endpoint
/// that has never worked all of them, at most 24 a day for 35 days and one a day for a year before. An hour has a row for
/// each process.
const LAST_SUCCESS: &str = "(select max(h.last_success) from endpoint_hour h where h.app_id = e.app_id \
    and h.endpoint_id = e.id and h.hour = (select max(y.hour) from endpoint_hour y where y.app_id = e.app_id \
    and y.endpoint_id = e.id and y.last_success is not null))";

/// Returns when an endpoint was disabled, and why; `None` means that it is enabled.
fn disabling(row: &QueryResult) -> Result<Option<Disabling>> {
    let is_disabled: bool = row.try_get("", "disabled")?;
    let disabling = Disabling {
        at: row.try_get("", "disabled_at")?,
        reason: row.try_get("", "disabled_reason")?,
    };
    Ok(is_disabled.then_some(disabling))
}

/// Reads what a list shows of endpoints, in their order.
async fn details(source: &impl Source, places: &[Place]) -> Result<Vec<Troubled>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let rows = Rows::new([
        (
            "app_id",
            Column::Text(places.iter().map(|place| place.app_id.as_str()).collect()),
        ),
        (
            "id",
            Column::Text(places.iter().map(|place| place.endpoint_id.as_str()).collect()),
        ),
    ]);
    let last = |column: &str| {
        format!(
            "(select {column} from attempt x where x.app_id = e.app_id and x.endpoint_id = e.id order by x.id desc limit 1)"
        )
    };
    let sql = format!(
        "select e.app_id, a.uid as app_uid, a.name as app_name, e.id, e.uid, e.url, e.failing_since, \
         e.disabled, e.disabled_at, e.disabled_reason, {} as last_status, {} as last_error, \
         {LAST_SUCCESS} as last_success, (select count(*) from (select 1 as one from delivery_result r where r.endpoint_id = e.id and r.state = 1 \
         order by r.message_id limit {WAITING_MOST}) w) as waiting \
         from {{t}} cross join endpoint e cross join application a \
         where e.app_id = t.app_id and e.id = t.id and a.id = t.app_id",
        last("x.response_status"),
        last("case when x.response_status = 0 then x.response end"),
    );
    let statement = statement(source.dialect(), &sql, &[("t", &rows)], []);
    let mut found = Vec::new();
    for row in source.source().query_all_raw(statement).await? {
        found.push(Troubled {
            key: String::new(),
            app_id: row.try_get("", "app_id")?,
            app_uid: row.try_get("", "app_uid")?,
            app_name: row.try_get("", "app_name")?,
            endpoint_id: row.try_get("", "id")?,
            endpoint_uid: row.try_get("", "uid")?,
            url: row.try_get("", "url")?,
            failing_since: row.try_get("", "failing_since")?,
            disabling: disabling(&row)?,
            last_status: row.try_get("", "last_status")?,
            last_error: row.try_get("", "last_error")?,
            last_success: row.try_get("", "last_success")?,
            waiting: row.try_get("", "waiting")?,
        });
    }
    let in_place = places.iter().filter_map(|place| {
        let is_it = |row: &Troubled| row.app_id == place.app_id && row.endpoint_id == place.endpoint_id;
        let mut row = found.iter().find(|row| is_it(row))?.clone();
        row.key = place.key();
        Some(row)
    });
    Ok(in_place.collect())
}
