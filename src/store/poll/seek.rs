//! Finds the place in a poller's messages from which none is left out that is not before an instant.
//!
//! Numbers of transactions and ids of messages grow together, but not exactly: a message keeps its id while its commit is
//! tried again. So the place is not that of the first message by id. Must not return a place that is not final.

use std::time::Duration;

use sea_orm::{ConnectionTrait, QueryResult, Statement};

use super::epoch::here;
use crate::domain::cursor::{Place, mark};
use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::database::source::Source;

/// The messages before an instant among which the smallest number is taken: more than the batches of several processes
/// whose commits are not answered at the same time.
const SAMPLE: i64 = 2_000;
/// How long before the instant these messages end. Within that time a message may have been tried again and again.
const SLACK: Duration = Duration::from_secs(60);

/// The poller that is read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    pub app_id: &'a str,
    pub poller_id: &'a str,
}

/// The result of a search for a place.
#[derive(Debug)]
pub enum Sought {
    Place(Place),
    /// The poller has no messages that can be read.
    Nothing,
}

/// Returns the smallest place whose message is not before `at`; if there is none, the place behind the last message.
/// `None` means that the present epoch has no number yet.
///
/// It looks at messages in order from the smallest number on that 2,000 messages of the application have, which are a
/// minute older. A message that is not before `at` has a smaller number than that only if all of those were stored more
/// than a minute late. If there are fewer, it looks from the first message on: a small sample may be late as a whole.
pub async fn seek(source: &impl Source, reader: Reader<'_>, at: Timestamp) -> Result<Option<Sought>> {
    let sql = format!(
        "with here as ({}), low as (select case when count(*) < {SAMPLE} then 0 else min(tx) end as tx \
         from (select tx from poll_item where app_id = $2 and message_id < $4 \
         order by message_id desc limit {SAMPLE}) as sample) \
         select here.identity, f.tx as f_tx, f.message_id as f_id, l.tx as l_tx, l.message_id as l_id, \
         (select e.identity from poll_epoch e where e.number = f.tx >> 48) as of_f, \
         (select e.identity from poll_epoch e where e.number = l.tx >> 48) as of_l \
         from here left join (select tx, message_id from poll_item where poller_id = $1 \
         and tx >= (select tx from low) and tx < (select horizon from here) and message_id >= $3 \
         order by tx, message_id limit 1) as f on true \
         left join (select tx, message_id from poll_item where poller_id = $1 and tx < (select horizon from here) \
         order by tx desc, message_id desc limit 1) as l on true",
        here(source.dialect())
    );
    let first_id = |at: Timestamp| Prefix::Message.first_id_at(at);
    let values = [
        reader.poller_id.into(),
        reader.app_id.into(),
        first_id(at).into(),
        first_id(at.minus(SLACK)).into(),
    ];
    let statement = Statement::from_sql_and_values(source.dialect().orm(), sql, values);
    let Some(row) = source.source().query_one_raw(statement).await? else {
        return Ok(None);
    };
    let first = place(&row, "f", true)?;
    let found = match first {
        Some(first) => Some(first),
        None => place(&row, "l", false)?,
    };
    Ok(Some(found.map_or(Sought::Nothing, Sought::Place)))
}

/// Reads a place from the columns of this name.
fn place(row: &QueryResult, name: &str, includes: bool) -> Result<Option<Place>> {
    let Some(tx) = row.try_get("", &format!("{name}_tx"))? else {
        return Ok(None);
    };
    let identity: String = row.try_get("", &format!("of_{name}"))?;
    Ok(Some(Place {
        mark: mark(&identity),
        tx,
        message_id: row.try_get("", &format!("{name}_id"))?,
        includes,
    }))
}
