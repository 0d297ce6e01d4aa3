//! Reads the messages of a poller from a place onwards.
//!
//! One statement finds the rows, together with what proves that the place still means what it meant: its epoch is one of
//! this database, and its row is there. A place with its row stays where it is, of whichever epoch it is, because
//! everything that came later has a larger number. If the row is missing, its message is past its retention, or the
//! database was put back to an earlier state, perhaps within the same epoch, of which numbers were then used a second
//! time. Reading then begins an hour before the place's message, because numbers say nothing any more.
//!
//! Must not read messages or payloads: `store/message.rs` does.

use std::time::Duration;

use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};

use super::epoch::here;
use super::seek::{Reader, Sought, seek};
use crate::domain::cursor::{Cursor, Place, mark};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::database::backend::Backend;
use crate::store::database::source::Source;

/// Rows that a filtered page looks through at most.
const EXAMINED: u64 = 1_000;
/// How far before the message of a lost place reading begins again. A message whose commit was not answered keeps its
/// id while it is tried again, for as long as the database is away, and the clocks of processes differ.
const BEFORE_LOST: Duration = Duration::from_hours(1);

/// What a page is limited to, in addition to the poller's own filter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The event type of its messages; `None` means any.
    pub event_type: Option<String>,
    /// A channel that its messages have; `None` means any message.
    pub channel: Option<String>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.event_type.is_none() && self.channel.is_none()
    }
}

/// A message in the order of a poller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    pub message_id: String,
    /// The place behind the message.
    pub behind: Cursor,
}

/// A page of a poller's messages.
#[derive(Debug)]
pub struct Read {
    /// The messages that pass the filter, in order.
    pub items: Vec<Item>,
    /// Where the next page begins: behind all rows that were looked at.
    pub reached: Cursor,
    /// The number and message id behind which nothing was looked at, for a wait.
    pub behind: (i64, String),
    /// Whether nothing more can be read now.
    pub done: bool,
    /// Whether the place that was asked for is lost.
    pub restarted: bool,
}

/// Reads up to `limit` messages from `from` onwards. `None` means that the present epoch has no number yet.
pub async fn read(
    source: &impl Source,
    reader: Reader<'_>,
    from: &Cursor,
    filter: &Filter,
    limit: u64,
) -> Result<Option<Read>> {
    let start = match from {
        Cursor::At(place) => Start::at(place),
        Cursor::Since(Timestamp(0)) => Start::default(),
        Cursor::Since(at) => match since(source, reader, *at).await? {
            Some(start) => start,
            None => return Ok(None),
        },
    };
    let Some(look) = look(source, reader, &start, filter, limit).await? else {
        return Ok(None);
    };
    match from {
        Cursor::At(place) if !look.proves(place) => {}
        _ => return Ok(Some(look.page(start, from, limit, false))),
    }
    let Cursor::At(place) = from else { return Ok(None) };
    let Some(start) = since(source, reader, place.instant().minus(BEFORE_LOST)).await? else {
        return Ok(None);
    };
    let again = self::look(source, reader, &start, filter, limit).await?;
    Ok(again.map(|look| look.page(start, from, limit, true)))
}

/// Where a look begins.
#[derive(Default)]
struct Start {
    tx: i64,
    message_id: String,
    includes: bool,
    /// The cursor for it, if it is not the one that was asked for.
    cursor: Option<Cursor>,
}

impl Start {
    fn at(place: &Place) -> Self {
        Self {
            tx: place.tx,
            message_id: place.message_id.clone(),
            includes: place.includes,
            cursor: None,
        }
    }
}

/// Returns where the messages begin that are not before `at`. `None` means that the present epoch has no number yet.
async fn since(source: &impl Source, reader: Reader<'_>, at: Timestamp) -> Result<Option<Start>> {
    let sought = seek(source, reader, at).await?;
    Ok(sought.map(|sought| match sought {
        Sought::Place(place) => Start {
            cursor: Some(Cursor::At(place.clone())),
            ..Start::at(&place)
        },
        Sought::Nothing => Start::default(),
    }))
}

/// What a look has found.
struct Look {
    identity: String,
    /// The identity of the epoch in which the look begins; `None` means that there is no such epoch.
    of_start: Option<String>,
    /// Whether the row is there with which, or behind which, the look begins.
    is_kept: bool,
    rows: Vec<Row>,
    /// Whether there were no more rows than these.
    ends: bool,
}

struct Row {
    tx: i64,
    message_id: String,
    is_wanted: bool,
    /// The identity of the epoch of `tx`.
    identity: String,
}

impl Look {
    /// Returns whether the place means in this database what it meant when it was given.
    fn proves(&self, place: &Place) -> bool {
        let is_known = self
            .of_start
            .as_deref()
            .is_some_and(|identity| mark(identity) == place.mark);
        is_known && self.is_kept
    }

    fn page(self, start: Start, from: &Cursor, limit: u64, restarted: bool) -> Read {
        let mut items = Vec::new();
        let (mut behind, mut reached) = (
            (start.tx, start.message_id),
            start.cursor.unwrap_or_else(|| from.clone()),
        );
        let mut rows = self.rows.into_iter();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut marks: Vec<(String, String)> = vec![(mark(&self.identity), self.identity)];
        for row in rows.by_ref() {
            let mark_of_row = match marks.iter().find(|(_, identity)| *identity == row.identity) {
                Some((known, _)) => known.clone(),
                None => {
                    let new = mark(&row.identity);
                    marks.push((new.clone(), row.identity));
                    new
                }
            };
            reached = Cursor::At(Place {
                mark: mark_of_row,
                tx: row.tx,
                message_id: row.message_id.clone(),
                includes: false,
            });
            behind = (row.tx, row.message_id.clone());
            if row.is_wanted {
                items.push(Item {
                    message_id: row.message_id,
                    behind: reached.clone(),
                });
            }
            if items.len() == limit {
                break;
            }
        }
        Read {
            items,
            reached,
            behind,
            done: self.ends && rows.next().is_none(),
            restarted,
        }
    }
}

/// Runs the statement. `None` means that the present epoch has no number yet.
async fn look(
    source: &impl Source,
    reader: Reader<'_>,
    start: &Start,
    filter: &Filter,
    limit: u64,
) -> Result<Option<Look>> {
    let most = if filter.is_empty() { limit } else { EXAMINED };
    let (sql, more) = text(source.dialect(), start.includes, filter, reader.app_id);
    let values = [
        reader.poller.into(),
        start.tx.into(),
        start.message_id.as_str().into(),
        i64::try_from(most + 1).unwrap_or(i64::MAX).into(),
    ];
    let values: Vec<Value> = values.into_iter().chain(more).collect();
    let statement = Statement::from_sql_and_values(source.dialect().orm(), sql, values);
    let found = source.source().query_all_raw(statement).await?;
    let Some(first) = found.first() else { return Ok(None) };
    let mut look = Look {
        identity: first.try_get("", "identity")?,
        of_start: first.try_get("", "of_start")?,
        is_kept: first.try_get("", "is_kept")?,
        rows: Vec::with_capacity(found.len()),
        ends: true,
    };
    for row in &found {
        if let Some(row) = self::row(row)? {
            look.rows.push(row);
        }
    }
    look.rows
        .sort_by(|a, b| (a.tx, &a.message_id).cmp(&(b.tx, &b.message_id)));
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    look.ends = look.rows.len() <= most;
    look.rows.truncate(most);
    Ok(Some(look))
}

/// Returns a row of the statement; `None` for the one that it has if it finds nothing.
fn row(row: &QueryResult) -> Result<Option<Row>> {
    let Some(tx) = row.try_get("", "tx")? else {
        return Ok(None);
    };
    Ok(Some(Row {
        tx,
        message_id: row.try_get("", "message_id")?,
        is_wanted: row.try_get::<Option<bool>>("", "is_wanted")?.unwrap_or_default(),
        identity: row.try_get("", "of_row")?,
    }))
}

/// Builds the statement, and returns the values of its parameters from $5 on. It has at least one row, unless the present
/// epoch has no number.
fn text(backend: Backend, includes: bool, filter: &Filter, app_id: &str) -> (String, Vec<Value>) {
    let beyond = if includes { ">=" } else { ">" };
    let mut values: Vec<Value> = Vec::new();
    let mut conditions = Vec::new();
    if let Some(event_type) = &filter.event_type {
        values.push(event_type.as_str().into());
        conditions.push(format!("m.event_type = ${}", 4 + values.len()));
    }
    if let Some(channel) = &filter.channel {
        let find = match backend {
            Backend::Sqlite => "instr",
            Backend::Postgres => "strpos",
        };
        // Channels are stored as a JSON list, and no channel contains a quotation mark.
        values.push(format!("\"{channel}\"").into());
        conditions.push(format!("{find}(coalesce(m.channels, ''), ${}) > 0", 4 + values.len()));
    }
    let (is_wanted, join) = match conditions.is_empty() {
        true => ("true".to_owned(), String::new()),
        false => {
            values.push(app_id.into());
            let number = 4 + values.len();
            let join = format!(" left join message m on m.app_id = ${number} and m.id = i.message_id");
            (conditions.join(" and "), join)
        }
    };
    let sql = format!(
        "with here as ({}) \
         select here.identity, \
         (select e.identity from poll_epoch e where e.number = {start} >> 48) as of_start, \
         exists (select 1 from poll_item k where k.poller_number = $1 and k.tx = {start} and k.message_id = $3) as is_kept, \
         i.tx, i.message_id, i.is_wanted, \
         (select e.identity from poll_epoch e where e.number = i.tx >> 48) as of_row \
         from here left join (select i.tx, i.message_id, {is_wanted} as is_wanted \
         from (select tx, message_id from poll_item where poller_number = $1 and (tx, message_id) {beyond} ({start}, $3) \
         and tx < (select horizon from here) order by tx, message_id limit $4) as i{join}) as i on true",
        here(backend),
        start = match backend {
            Backend::Sqlite => "$2",
            Backend::Postgres => "$2::int8",
        },
    );
    (sql, values)
}
