//! Reads how many attempts delivered and failed, and how long answers took, from the sums by endpoint and hour.
//!
//! Never reads attempts. The functions take the application or the organization, and read nothing of another one. Must
//! not write sums: endpoint_hour.rs does.

use std::collections::HashMap;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement, Value};

use super::database::backend::Backend;
use super::database::page::{Page, PageRequest, reserve};
use super::database::rows::{Column, Rows, statement};
use super::database::source::Source;
use super::endpoint_hour::{each_count, tally_of};
use crate::domain::tally::Tally;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// What a bucket takes in memory: its tally, and its text in a response.
const BUCKET_BYTES: usize = 400;

/// A period that is divided into buckets of equal length.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    pub since: Timestamp,
    /// The length of a bucket.
    pub step: Duration,
    /// The number of buckets.
    pub buckets: usize,
}

impl Period {
    /// Returns the beginning of a bucket, or the end of the period for the number of buckets.
    pub fn begin_of(&self, bucket: usize) -> Timestamp {
        self.since.plus(self.step * u32::try_from(bucket).unwrap_or(u32::MAX))
    }
}

/// The tallies of one thing, one for each bucket.
pub type Series = Vec<Tally>;

/// What statistics are about.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// All applications of an organization together.
    Organization(&'a str),
    /// Each of these applications, with its deleted endpoints.
    Applications(&'a [String]),
    /// Each of these endpoints of an application.
    Endpoints(&'a str, &'a [String]),
}

/// Returns a series for each thing that `of` names, in its order. Applications must be of the caller's organization.
///
/// # Errors
/// `Unavailable` if there is no room for so many buckets in time.
pub async fn list(source: &impl Source, of: Of<'_>, period: &Period) -> Result<Vec<Series>> {
    let names: &[String] = match of {
        Of::Organization(_) => &[String::new()],
        Of::Applications(ids) | Of::Endpoints(_, ids) => ids,
    };
    reserve(names.len() * period.buckets * BUCKET_BYTES).await?;
    let mut all = vec![vec![Tally::default(); period.buckets]; names.len()];
    let places: HashMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    for row in source
        .source()
        .query_all_raw(sums(source.dialect(), of, period))
        .await?
    {
        let (name, bucket): (String, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let series = places.get(name.as_str()).map(|at| &mut all[*at]);
        let bucket = usize::try_from(bucket).unwrap_or(usize::MAX);
        if let Some(tally) = series.and_then(|series| series.get_mut(bucket)) {
            *tally = tally_of(&row, 2)?;
        }
    }
    Ok(all)
}

/// Builds the query for the sums of each bucket that has any.
fn sums(backend: Backend, of: Of<'_>, period: &Period) -> Statement {
    let (from, name) = (
        from(backend, of),
        match of {
            Of::Organization(_) => "''",
            Of::Applications(_) => "h.app_id",
            Of::Endpoints(..) => "h.endpoint_id",
        },
    );
    let counts = each_count(|count| format!("sum(h.{count}) as {count}"));
    let sql = format!("select {name} as name, (h.hour - $1) / $2 as bucket, {counts} from {from} group by 1, 2");
    let step = i64::try_from(period.step.as_micros()).unwrap_or(i64::MAX);
    let mut values: Vec<Value> = vec![
        period.since.0.into(),
        step.into(),
        period.begin_of(period.buckets).0.into(),
    ];
    let ids: Vec<&str> = match of {
        Of::Organization(org_id) => {
            values.push(org_id.into());
            return Statement::from_sql_and_values(backend.orm(), sql, values);
        }
        Of::Applications(ids) => ids.iter().map(String::as_str).collect(),
        Of::Endpoints(app_id, ids) => {
            values.push(app_id.into());
            ids.iter().map(String::as_str).collect()
        }
    };
    let rows = Rows::new([("id", Column::Text(ids))]);
    statement(backend, &sql, &[("t", &rows)], values)
}

const ORGANIZATION: &str = "a.org_id = $4 and a.id <> a.org_id and a.deleted_at is null";
/// Endpoints that were deleted before the period have no attempts in it.
const ENDPOINT: &str = "(e.deleted_at is null or e.deleted_at >= $1)";
const HOURS: &str = "h.hour >= $1 and h.hour < $3";

/// Returns the tables of the query with their conditions. Reads go from the thing to its endpoints, and from each of
/// them to the hours of the period by the primary key.
// On Postgres each step is a subquery that is not merged into the others (`offset 0`): joined freely, an application with
// many endpoints made it read tables from end to end.
fn from(backend: Backend, of: Of<'_>) -> String {
    let things = match of {
        Of::Organization(_) => "application a",
        Of::Applications(_) | Of::Endpoints(..) => "{t}",
    };
    let (endpoint, app) = match of {
        Of::Organization(_) => (true, "a.id"),
        Of::Applications(_) => (true, "t.id"),
        Of::Endpoints(..) => (false, "$4"),
    };
    let (of_app, of_endpoint) = match endpoint {
        true => ("e.app_id", "e.id"),
        false => (app, "t.id"),
    };
    let hours = format!("h.app_id = {of_app} and h.endpoint_id = {of_endpoint} and {HOURS}");
    let mut tables = things.to_owned();
    let mut conditions = vec!["true".to_owned()];
    if matches!(of, Of::Organization(_)) {
        conditions.push(ORGANIZATION.to_owned());
    }
    let endpoints = format!("e.app_id = {app} and {ENDPOINT}");
    match backend {
        Backend::Sqlite => {
            if endpoint {
                tables.push_str(" cross join endpoint e");
                conditions.push(endpoints);
            }
            tables.push_str(" cross join endpoint_hour h");
            conditions.push(hours);
        }
        Backend::Postgres => {
            if endpoint {
                tables.push_str(&format!(
                    " cross join lateral (select e.app_id, e.id from endpoint e where {endpoints} offset 0) e"
                ));
            }
            let counts = each_count(|count| format!("h.{count}"));
            tables.push_str(&format!(
                " cross join lateral (select h.app_id, h.endpoint_id, h.hour, {counts} from endpoint_hour h \
                 where {hours} offset 0) h"
            ));
        }
    }
    format!("{tables} where {}", conditions.join(" and "))
}

/// Returns a page of the ids of an organization's applications, in ascending order.
pub async fn list_applications(source: &impl Source, org_id: &str, page: &PageRequest) -> Result<Page<String>> {
    let table = "application where org_id = $1 and id <> org_id and deleted_at is null";
    ids(source, table, org_id, page).await
}

/// Returns a page of the ids of an application's endpoints, in ascending order.
pub async fn list_endpoints(source: &impl Source, app_id: &str, page: &PageRequest) -> Result<Page<String>> {
    ids(
        source,
        "endpoint where app_id = $1 and deleted_at is null",
        app_id,
        page,
    )
    .await
}

/// Reads a page of ids without the rest of their rows, which may be large.
async fn ids(source: &impl Source, table: &str, of: &str, page: &PageRequest) -> Result<Page<String>> {
    let (beyond, order) = match page.reads_upwards() {
        true => (">", "asc"),
        false => ("<", "desc"),
    };
    let mut values: Vec<Value> = vec![of.into(), Value::from(page.limit as i64 + 1)];
    let begin = match &page.after {
        Some(after) => {
            values.push(after.as_str().into());
            format!(" and id {beyond} $3")
        }
        None => String::new(),
    };
    let sql = format!("select id from {table}{begin} order by id {order} limit $2");
    let statement = Statement::from_sql_and_values(source.dialect().orm(), sql, values);
    let rows = source.source().query_all_raw(statement).await?;
    let ids = rows.iter().map(|row| Ok(row.try_get("", "id")?));
    Ok(page.page(ids.collect::<Result<_>>()?))
}

/// Returns the first hour of an endpoint that has sums; `None` if it has none.
pub async fn find_first_hour(source: &impl Source, app_id: &str, endpoint_id: &str) -> Result<Option<Timestamp>> {
    let sql = "select hour from endpoint_hour where app_id = $1 and endpoint_id = $2 order by hour limit 1";
    let values = [app_id.into(), endpoint_id.into()];
    let statement = Statement::from_sql_and_values(source.dialect().orm(), sql, values);
    let row = source.source().query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get("", "hour")).transpose()?.map(Timestamp))
}
