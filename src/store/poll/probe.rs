//! Looks at many places at once: which pollers have messages behind them, and how many wait for consumers. Also finds the
//! transaction that holds polls back.
//!
//! Must not read messages or payloads.

use sea_orm::{ConnectionTrait, Statement};

use super::epoch::here;
use super::waits::Wanted;
use crate::domain::cursor::Cursor;
use crate::domain::id::Prefix;
use crate::domain::poller_number::PollerNumber;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::database::source::Source;
use crate::store::{Backend, Store};

/// The number at which the messages that wait for a consumer are counted no further.
pub const BACKLOG_MOST: i64 = 1_000;

/// What the messages of a poller are behind a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Behind {
    /// There are some that can be read.
    Readable,
    /// There are some, but an older transaction is still open.
    HeldBack,
}

/// Returns the pollers that have messages behind these places. All are readable if the present epoch has no number yet:
/// the polls that read them give it one.
pub(super) async fn probe(store: &Store, wanted: &[Wanted]) -> Result<Vec<(PollerNumber, Behind)>> {
    let rows = Rows::new([
        (
            "poller_number",
            Column::Int(wanted.iter().map(|poller| poller.poller.0).collect()),
        ),
        ("tx", Column::Int(wanted.iter().map(|poller| poller.behind.0).collect())),
        (
            "message_id",
            Column::Text(wanted.iter().map(|poller| poller.behind.1.as_str()).collect()),
        ),
    ]);
    let next = "(select i.tx from poll_item i where i.poller_number = t.poller_number \
                and (i.tx, i.message_id) > (t.tx, t.message_id) order by i.tx, i.message_id limit 1)";
    let sql = format!(
        "with here as ({}) select t.poller_number, {next} as next, (select horizon from here) as horizon from {{t}}",
        here(store.backend())
    );
    let statement = statement(store.backend(), &sql, &[("t", &rows)], []);
    let mut found = Vec::new();
    for row in store.pool().query_all_raw(statement).await? {
        let poller: PollerNumber = row.try_get("", "poller_number")?;
        let next: Option<i64> = row.try_get("", "next")?;
        let behind = match (next, row.try_get::<Option<i64>>("", "horizon")?) {
            (None, Some(_)) => continue,
            (Some(next), Some(horizon)) if next >= horizon => Behind::HeldBack,
            _ => Behind::Readable,
        };
        found.push((poller, behind));
    }
    Ok(found)
}

/// The messages that wait for a consumer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Backlog {
    /// Their number, at most [`BACKLOG_MOST`].
    pub count: i64,
    /// The instant of the first of them.
    pub since: Option<Timestamp>,
}

/// Returns for each of these places how many messages of the poller are behind it.
pub async fn list_backlogs(source: &impl Source, poller: PollerNumber, places: &[Cursor]) -> Result<Vec<Backlog>> {
    let behind = |cursor: &Cursor| match cursor {
        Cursor::At(place) => (place.tx, place.message_id.clone(), place.includes),
        Cursor::Since(at) => (0, Prefix::Message.first_id_at(*at), false),
    };
    let places: Vec<_> = places.iter().map(behind).collect();
    let rows = Rows::new([
        ("number", Column::Int((0..).take(places.len()).collect())),
        ("tx", Column::Int(places.iter().map(|place| place.0).collect())),
        (
            "message_id",
            Column::Text(places.iter().map(|place| place.1.as_str()).collect()),
        ),
        (
            "includes",
            Column::Int(places.iter().map(|place| i64::from(place.2)).collect()),
        ),
    ]);
    let beyond = "from poll_item i where i.poller_number = $1 and (i.tx, i.message_id) >= (t.tx, t.message_id) \
                  and (t.includes = 1 or i.tx <> t.tx or i.message_id <> t.message_id)";
    let sql = format!(
        "select t.number, (select count(*) from (select 1 {beyond} limit {BACKLOG_MOST}) as counted) as count, \
         (select i.message_id {beyond} order by i.tx, i.message_id limit 1) as first from {{t}}"
    );
    let statement = statement(source.dialect(), &sql, &[("t", &rows)], [poller.into()]);
    let mut backlogs = vec![Backlog::default(); places.len()];
    for row in source.source().query_all_raw(statement).await? {
        let number: i64 = row.try_get("", "number")?;
        let first: Option<String> = row.try_get("", "first")?;
        let backlog = usize::try_from(number).ok().and_then(|number| backlogs.get_mut(number));
        if let Some(backlog) = backlog {
            backlog.count = row.try_get("", "count")?;
            backlog.since = first.and_then(|id| Prefix::Message.instant_of(&id));
        }
    }
    Ok(backlogs)
}

/// Returns the number of the oldest transaction that may still write, in whatever database of the server. If two calls
/// return the same number, it was open all the time between them, and polls show nothing that was stored since. `None`
/// on SQLite, and if no transaction is open.
pub async fn find_oldest_writer(store: &Store) -> Result<Option<String>> {
    if store.backend() == Backend::Sqlite {
        return Ok(None);
    }
    let sql = "select pg_snapshot_xmin(s)::text as oldest from pg_current_snapshot() as s \
               where pg_snapshot_xmin(s) < pg_snapshot_xmax(s)";
    let statement = Statement::from_string(store.backend().orm(), sql);
    let row = store.pool().query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get("", "oldest")).transpose()?)
}
