//! Reads how far messages have come at endpoints: what the queue still holds of them, their results and their attempts.
//! So a delivery shows from the moment of its acceptance, before it has a result.
//!
//! The queue has no index by application, so everything here begins at messages. Each function takes the application,
//! and never finds a delivery of another one. Must not write.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::database::rows::{Column, Rows, statement};
use super::database::source::Source;
use crate::domain::delivery::ResultState;
use crate::domain::timestamp::Timestamp;
use crate::domain::verdict::{Queued, State, Tries, state_of};
use crate::error::Result;

/// The most characters that are read of the reason why there was no answer.
const ERROR_LENGTH: i64 = 1_000;

/// A message and an endpoint, by their ids.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pair {
    pub message_id: String,
    pub endpoint_id: String,
}

impl Pair {
    fn of(row: &QueryResult) -> Result<Self> {
        Ok(Self {
            message_id: row.try_get("", "message_id")?,
            endpoint_id: row.try_get("", "endpoint_id")?,
        })
    }
}

/// How far a message has come at an endpoint, without its attempts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub result: Option<ResultState>,
    /// When the result says that the next attempt is due.
    retry_at: Option<Timestamp>,
    pub queued: Option<Queued>,
}

impl Progress {
    /// Returns the state; `None` means that the message was never queued for the endpoint.
    pub fn state(&self) -> Option<State> {
        state_of(self.result, self.queued)
    }

    /// Returns when the next attempt is due. `None` means that there is none, that it is under way, or that it waits until
    /// the endpoint may get more requests.
    pub fn next_at(&self) -> Option<Timestamp> {
        match (self.state()?, self.queued) {
            (State::Waiting, Some(row)) => row.due_at,
            (State::Waiting, None) => self.retry_at,
            _ => None,
        }
    }
}

/// Returns the progress of the messages at all endpoints for which they were queued, in the order of message and
/// endpoint. Reads at most `most` results and as many rows of the queue. `None` means that there are more, or as many.
pub async fn find_progress(
    source: &impl Source,
    app_id: &str,
    messages: &[&str],
    most: u64,
    now: Timestamp,
) -> Result<Option<BTreeMap<Pair, Progress>>> {
    let mut found: BTreeMap<Pair, Progress> = BTreeMap::new();
    // The queue first: a delivery that ends between the two reads has a result by then.
    let queued = list(source, QUEUED, app_id, messages, most).await?;
    let results = list(source, RESULTS, app_id, messages, most).await?;
    if queued.len().max(results.len()) as u64 >= most {
        return Ok(None);
    }
    for row in &queued {
        let due_at: Option<Timestamp> = row.try_get("", "due_at")?;
        let owner: Option<String> = row.try_get("", "owner")?;
        let is_leased = owner.is_some() && due_at.is_some_and(|end| end > now);
        let known = &mut found.entry(Pair::of(row)?).or_default().queued;
        // A resend may wait beside a retry.
        let other = known.and_then(|other| other.due_at);
        *known = Some(Queued {
            is_leased: is_leased || known.is_some_and(|other| other.is_leased),
            due_at: [due_at, other].into_iter().flatten().min(),
        });
    }
    for row in &results {
        let progress = found.entry(Pair::of(row)?).or_default();
        progress.result = Some(row.try_get("", "state")?);
        progress.retry_at = row.try_get("", "next_at")?;
    }
    Ok(Some(found))
}

// Cross joins, here and below: SQLite reads the tables of those in their order. Without them it read all results of the
// application, and looked for each among the messages that were asked for.
const QUEUED: &str = "select d.message_id, d.endpoint_id, d.due_at, d.owner from {t} \
    cross join delivery d where d.message_id = t.id and d.app_id = $1 limit $2";

const RESULTS: &str = "select r.message_id, r.endpoint_id, r.state, r.next_at from {t} \
    cross join delivery_result r where r.app_id = $1 and r.message_id = t.id limit $2";

/// Runs a query over the table `t` of messages.
async fn list(source: &impl Source, sql: &str, app_id: &str, messages: &[&str], most: u64) -> Result<Vec<QueryResult>> {
    let rows = Rows::new([("id", Column::Text(messages.to_vec()))]);
    let values = [app_id.into(), limit(most)];
    let statement = statement(source.dialect(), sql, &[("t", &rows)], values);
    Ok(source.source().query_all_raw(statement).await?)
}

fn limit(most: u64) -> Value {
    i64::try_from(most).unwrap_or(i64::MAX).into()
}

/// Returns the attempts of each pair that has some. Of each message only the newest `most` attempts count, at all
/// endpoints together.
pub async fn find_tries(
    source: &impl Source,
    app_id: &str,
    pairs: &[&Pair],
    most: u64,
) -> Result<HashMap<Pair, Tries>> {
    let mut messages: Vec<&str> = pairs.iter().map(|pair| pair.message_id.as_str()).collect();
    messages.sort_unstable();
    messages.dedup();
    let messages = Rows::new([("id", Column::Text(messages))]);
    let text = |of: fn(&Pair) -> &str| Column::Text(pairs.iter().map(|pair| of(pair)).collect());
    let pairs = Rows::new([
        ("message_id", text(|pair| &pair.message_id)),
        ("endpoint_id", text(|pair| &pair.endpoint_id)),
    ]);
    let values = [app_id.into(), limit(most), ERROR_LENGTH.into()];
    let statement = statement(source.dialect(), TRIES, &[("t", &messages), ("p", &pairs)], values);
    let found = source.source().query_all_raw(statement).await?;
    let tries = |row: &QueryResult| {
        let tries = Tries {
            attempts: row.try_get("", "attempts")?,
            last_status: Some(row.try_get("", "response_status")?),
            last_error: row.try_get("", "error")?,
            last_at: Some(row.try_get("", "created_at")?),
        };
        Ok((Pair::of(row)?, tries))
    };
    found.iter().map(tries).collect()
}

/// `bounds` is computed once for each message: as a condition of the join it would be computed for each attempt.
const TRIES: &str = "with bounds as materialized (select t.id, coalesce((select x.id from attempt x \
    where x.app_id = $1 and x.message_id = t.id order by x.id desc limit 1 offset $2), '') as oldest from {t}), \
    tried as materialized (select x.message_id, x.endpoint_id, count(*) as attempts, max(x.id) as last from bounds \
    cross join attempt x where x.app_id = $1 and x.message_id = bounds.id and x.id > bounds.oldest \
    group by x.message_id, x.endpoint_id) \
    select p.message_id, p.endpoint_id, tried.attempts, a.response_status, a.created_at, \
    case when a.response_status = 0 then substr(a.response, 1, cast($3 as integer)) end as error \
    from {p} cross join tried cross join attempt a \
    where tried.message_id = p.message_id and tried.endpoint_id = p.endpoint_id \
    and a.app_id = $1 and a.message_id = tried.message_id and a.id = tried.last";
