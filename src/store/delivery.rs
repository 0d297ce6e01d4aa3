//! Lists the deliveries of an application as users see them: a message at an endpoint, with what the queue still holds
//! of it.
//!
//! A page looks through a bounded number of messages, newest first, and through all their deliveries. So its cost does
//! not depend on how few of them pass the filter: a page may be short, or empty, and not be the last one. Must not
//! write.

use std::collections::HashMap;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use super::database::page::{Between, PageRequest};
use super::database::source::Source;
use super::endpoint;
use super::entity::message::{Column, Entity, Model as Message};
use super::message_tag;
use super::progress::{Pair, Progress, find_progress, find_tries};
use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::domain::verdict::{State, Tries};
use crate::error::Result;

/// How many deliveries a page looks through, about: it takes so many messages that all living endpoints of the
/// application together make no more of them.
const LOOKED_THROUGH: u64 = 2_000;
/// The most messages that a page looks through.
const MOST_MESSAGES: u64 = 500;
/// The most results, and rows of the queue, that are read at once for more than one message. There are more of them
/// than [`LOOKED_THROUGH`] only if endpoints were deleted since.
const MOST_ROWS: u64 = 10_000;
/// The newest attempts of a message, at all endpoints, that count.
const MOST_ATTEMPTS: u64 = 2_000;

/// The conditions that a listed delivery meets.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The bounds of the instant at which the message was accepted.
    pub between: Between,
    pub event_type: Option<String>,
    /// A tag that the message has.
    pub tag: Option<String>,
    /// The endpoint's id.
    pub endpoint_id: Option<String>,
    pub state: Option<State>,
}

impl Filter {
    /// Returns whether the list leaves out deliveries of messages that are read.
    fn is_selective(&self) -> bool {
        self.event_type.is_some() || self.endpoint_id.is_some() || self.state.is_some()
    }

    /// Returns whether the deliveries of a message may be in the list. The tag is not looked at: only messages with it are
    /// read.
    fn takes(&self, message: &Message) -> bool {
        let event_type = self.event_type.as_ref();
        event_type.is_none_or(|wanted| *wanted == message.event_type)
    }

    /// Returns whether a delivery of such a message is in the list.
    fn fits(&self, pair: &Pair, progress: &Progress) -> bool {
        let endpoint_id = self.endpoint_id.as_ref();
        endpoint_id.is_none_or(|wanted| *wanted == pair.endpoint_id)
            && self.state.is_none_or(|wanted| progress.state() == Some(wanted))
    }
}

/// A place in the list, after which a page begins.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub message_id: &'a str,
    /// `None` means that the page begins after all deliveries of the message.
    pub endpoint_id: Option<&'a str>,
}

impl Place<'_> {
    /// Returns whether a page that begins here takes the delivery, as far as the place's own message is concerned.
    fn is_before(&self, pair: &Pair, upwards: bool) -> bool {
        match self.endpoint_id {
            Some(endpoint_id) if self.message_id == pair.message_id => match upwards {
                true => pair.endpoint_id.as_str() > endpoint_id,
                false => pair.endpoint_id.as_str() < endpoint_id,
            },
            _ => true,
        }
    }
}

/// A message at an endpoint.
#[derive(Debug)]
pub struct Delivery {
    pub pair: Pair,
    pub message: Message,
    /// The endpoint's uid, if it has one.
    pub endpoint_uid: Option<String>,
    pub state: State,
    pub tries: Tries,
    /// When the next attempt is due. `None` means that there is none, that it is under way, or that it waits until the
    /// endpoint may get more requests.
    pub next_at: Option<Timestamp>,
}

/// One page of deliveries.
#[derive(Debug)]
pub struct Listed {
    pub rows: Vec<Delivery>,
    pub done: bool,
    /// The message after which the list goes on, if that is not the last row: the page has ended before it was full.
    pub reached: Option<String>,
}

/// The messages that a page looks through, in the direction of reading.
struct Looked {
    messages: Vec<Message>,
    /// Whether there are no further messages.
    done: bool,
}

/// Returns a page of the application's deliveries, newest message first, after the place `after`. The key of `request`
/// does not count.
pub async fn list(
    source: &impl Source,
    app_id: &str,
    filter: &Filter,
    after: Option<Place<'_>>,
    request: &PageRequest,
    now: Timestamp,
) -> Result<Listed> {
    let endpoints = endpoint::count(source, app_id).await?.max(1);
    // If every delivery is in the list, so many messages fill the page, unless some have no delivery.
    let wanted = if filter.is_selective() {
        MOST_MESSAGES
    } else {
        request.limit + 1
    };
    let most = (LOOKED_THROUGH / endpoints).clamp(1, wanted.min(10 * request.limit));
    let mut looked = look(source, app_id, filter, after, request, most).await?;
    let found = loop {
        let taken = looked.messages.iter().filter(|message| filter.takes(message));
        let taken: Vec<&str> = taken.map(|message| message.id.as_str()).collect();
        let most = if looked.messages.len() > 1 { MOST_ROWS } else { u64::MAX };
        if let Some(found) = find_progress(source, app_id, &taken, most, now).await? {
            break found;
        }
        looked.messages.truncate(looked.messages.len().div_ceil(16));
        looked.done = false;
    };
    let upwards = request.reads_upwards();
    let is_after = |pair: &Pair| after.is_none_or(|place| place.is_before(pair, upwards));
    let fitting = found
        .into_iter()
        .filter(|(pair, progress)| is_after(pair) && filter.fits(pair, progress));
    let mut found: Vec<(Pair, Progress)> = fitting.collect();
    if !upwards {
        found.reverse();
    }
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let is_full = found.len() > limit;
    found.truncate(limit);
    if request.backwards {
        found.reverse();
    }
    let last = looked.messages.last().map(|message| message.id.clone());
    Ok(Listed {
        rows: describe(source, app_id, looked.messages, found).await?,
        done: looked.done && !is_full,
        reached: last.filter(|_| !looked.done && !is_full),
    })
}

/// Reads up to `most` messages from where the page begins.
async fn look(
    source: &impl Source,
    app_id: &str,
    filter: &Filter,
    after: Option<Place<'_>>,
    request: &PageRequest,
    most: u64,
) -> Result<Looked> {
    let query = Entity::find().filter(Column::AppId.eq(app_id));
    let query = match &filter.tag {
        None => within(query, Column::Id, filter, after, request),
        Some(tag) => {
            let query = message_tag::lead(source.dialect(), query, app_id, tag, (Entity, Column::Id));
            within(query, message_tag::Column::MessageId, filter, after, request)
        }
    };
    let mut messages = query.limit(most + 1).all(source.source()).await?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let done = messages.len() <= most;
    messages.truncate(most);
    Ok(Looked { messages, done })
}

/// Limits `query` to messages within the filter's bounds and from the place `after` on, in the direction of reading. `key`
/// is the column of the messages' ids.
fn within<C: ColumnTrait>(
    query: Select<Entity>,
    key: C,
    filter: &Filter,
    after: Option<Place<'_>>,
    request: &PageRequest,
) -> Select<Entity> {
    let mut query = filter.between.apply(query, key, Prefix::Message);
    if let Some(Place {
        message_id,
        endpoint_id,
    }) = after
    {
        query = query.filter(match (request.reads_upwards(), endpoint_id) {
            // Deliveries of the same message may be left.
            (true, Some(_)) => key.gte(message_id),
            (false, Some(_)) => key.lte(message_id),
            (true, None) => key.gt(message_id),
            (false, None) => key.lt(message_id),
        });
    }
    query.order_by(key, request.order())
}

/// Reads what is shown of these deliveries.
async fn describe(
    source: &impl Source,
    app_id: &str,
    messages: Vec<Message>,
    found: Vec<(Pair, Progress)>,
) -> Result<Vec<Delivery>> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let messages: HashMap<String, Message> = messages.into_iter().map(|row| (row.id.clone(), row)).collect();
    let pairs: Vec<&Pair> = found.iter().map(|(pair, _)| pair).collect();
    let mut tries = find_tries(source, app_id, &pairs, MOST_ATTEMPTS).await?;
    let uids = endpoint::find_uids(source, app_id, pairs.iter().map(|pair| pair.endpoint_id.as_str())).await?;
    let delivery = |(pair, progress): (Pair, Progress)| {
        Some(Delivery {
            message: messages.get(&pair.message_id)?.clone(),
            endpoint_uid: uids.get(&pair.endpoint_id).cloned().flatten(),
            state: progress.state()?,
            tries: tries.remove(&pair).unwrap_or_default(),
            next_at: progress.next_at(),
            pair,
        })
    };
    Ok(found.into_iter().filter_map(delivery).collect())
}
