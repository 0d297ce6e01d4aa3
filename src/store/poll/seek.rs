//! Finds the place in a poller's messages from which none is left out that is not before an instant.
//!
//! Numbers of transactions and ids of messages grow together, but not exactly: a message keeps its id while its commit is
//! tried again. So the place is not that of the first message by id. Must not return a place that is not final.

use std::time::Duration;

use sea_orm::{ConnectionTrait, QueryResult, Statement};

use super::epoch::here;
use crate::domain::cursor::{Place, mark};
use crate::domain::id::Prefix;
use crate::domain::poller_number::PollerNumber;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::database::source::Source;

/// The messages before an instant among which the smallest number is taken. Each is from another quarter of a second, so
/// they reach over 25 s at least: a worker whose commit is not answered tries its batch again and takes no other, and the
/// messages of a batch have waited for 5 s at most.
const SAMPLE: i64 = 100;
/// The characters of an id with the quarter of a second in which it was made: prefix, and eight digits.
const QUARTER: usize = 12;
/// How long before the instant these messages end. Within that time a message may have been tried again and again.
const SLACK: Duration = Duration::from_secs(60);

/// The poller that is read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    pub app_id: &'a str,
    pub poller: PollerNumber,
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
/// It looks at messages in order from the smallest number on that a hundred messages of any pollers have, which are a
/// minute older. A message that is not before `at` has a smaller number than that only if all of those were stored more
/// than a minute late. If there are fewer, it looks from the first message on: a small sample may be late as a whole.
pub async fn seek(source: &impl Source, reader: Reader<'_>, at: Timestamp) -> Result<Option<Sought>> {
    let sql = format!(
        "with recursive here as ({}), sample as ( \
         select 1 as number, ({}) as message_id \
         union all \
         select number + 1, ({}) from sample where message_id is not null and number < {SAMPLE}), \
         low as (select case when count(tx) < {SAMPLE} then 0 else min(tx) end as tx \
         from (select (select i.tx from poll_item i where i.message_id = sample.message_id limit 1) as tx \
         from sample) as numbers) \
         select here.identity, f.tx as f_tx, f.message_id as f_id, l.tx as l_tx, l.message_id as l_id, \
         (select e.identity from poll_epoch e where e.number = f.tx >> 48) as of_f, \
         (select e.identity from poll_epoch e where e.number = l.tx >> 48) as of_l \
         from here left join (select tx, message_id from poll_item where poller_number = $1 \
         and tx >= (select tx from low) and tx < (select horizon from here) and message_id >= $2 \
         order by tx, message_id limit 1) as f on true \
         left join (select tx, message_id from poll_item where poller_number = $1 \
         and tx < (select horizon from here) order by tx desc, message_id desc limit 1) as l on true",
        here(source.dialect()),
        newest_before("$3"),
        newest_before(&format!("substr(sample.message_id, 1, {QUARTER})")),
    );
    let first_id = |at: Timestamp| Prefix::Message.first_id_at(at);
    let values = [
        reader.poller.into(),
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

/// SQL for the newest message of any poller whose id is below `bound`.
fn newest_before(bound: &str) -> String {
    format!("select i.message_id from poll_item i where i.message_id < {bound} order by i.message_id desc limit 1")
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
