//! Answers polls: reads a page of a poller's messages, waits for some if there are none, signs them and writes them.
//!
//! A poll that waits holds nothing of the database, and of its poller only the id: a row may have 260 kB. Before each
//! further look its token is proven again with its rights, because a token that was revoked or limited must not go on
//! reading. After it the secrets are read again for a page with messages, and it is checked that the poller is still
//! there. Must not decide who may poll.

use std::collections::BTreeMap;
use std::time::Duration;

use poem::Request;
use poem::http::{Method, StatusCode, Uri};
use poem_openapi::Object;
use poem_openapi::param::Query;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult};
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::api::ApiState;
use crate::api::caller::Caller;
use crate::api::message::payload;
use crate::api::paths::fits;
use crate::api::rights::prove;
use crate::api::wire::paging::{Limit, bad_query, limit_of};
use crate::api::wire::response::{Answer, not_json};
use crate::api::wire::values::{Instant, JsonText, json_type};
use crate::domain::act::Act;
use crate::domain::cursor::Cursor;
use crate::domain::identifier::check_identifier;
use crate::domain::poller_number::PollerNumber;
use crate::domain::request_headers::signature_headers;
use crate::domain::secret::EndpointSecret;
use crate::domain::signature::sign;
use crate::error::Result;
use crate::service::poller::register_epoch;
use crate::store::entity::endpoint::StoredSecret;
use crate::store::entity::poller::Model;
use crate::store::message::{WithContent, with_messages};
use crate::store::poll::{self, Filter, Read, Reader};
use crate::store::{Page, PageRequest, Store, poller};

/// The longest wait, in seconds: shorter than the time after which proxies end a connection without traffic.
const LONGEST: i64 = 25;
/// The paths of polls.
const POLLS: [&str; 2] = ["/api/v1/app/{}/poller/{}", "/api/v1/app/{}/poller/{}/consumer/{}"];

/// The query parameter `wait`: for how many seconds a poll waits for messages if there are none.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Wait(i64);

json_type!(Wait, "wait", true, |_registry| {}, {
    MetaSchemaRef::Inline(Box::new(MetaSchema {
        minimum: Some(0.0),
        maximum: Some(LONGEST as f64),
        ..MetaSchema::new_with_format("integer", "int32")
    }))
});

impl ParseFromParameter for Wait {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        let rule = |_| ParseError::custom(format!("must be an integer from 0 to {LONGEST}"));
        value.parse().map(Self).map_err(rule)
    }
}

impl Wait {
    /// Returns the time to wait.
    ///
    /// # Errors
    /// `Invalid` if it is out of range.
    fn read(wait: Query<Option<Self>>) -> Result<Duration> {
        match wait.0.map_or(0, |wait| wait.0) {
            seconds @ 0..=LONGEST => Ok(Duration::from_secs(seconds.unsigned_abs())),
            _ => Err(bad_query("wait", format!("must be from 0 to {LONGEST}"))),
        }
    }
}

/// Returns how much longer than other requests this one may take, because it asks to wait for messages.
pub(crate) fn wait_of(method: &Method, uri: &Uri) -> Duration {
    let (Some(query), true) = (uri.query(), [Method::GET, Method::HEAD].contains(method)) else {
        return Duration::ZERO;
    };
    let wait = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "wait");
    let seconds = wait.and_then(|(_, value)| value.parse().ok()).unwrap_or_default();
    match POLLS.iter().any(|poll| fits(poll, uri.path())) {
        true => Duration::from_secs(seconds).min(Duration::from_secs(LONGEST.unsigned_abs())),
        false => Duration::ZERO,
    }
}

/// What the query of a poll asks for.
pub struct Asked {
    pub limit: u64,
    /// Where to begin; `None` means that the query does not say.
    pub from: Option<Cursor>,
    pub wait: Duration,
}

impl Asked {
    /// Reads the query.
    ///
    /// # Errors
    /// `Invalid` names the parameter.
    pub fn read(
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        wait: Query<Option<Wait>>,
    ) -> Result<Self> {
        Ok(Self {
            limit: limit_of(limit)?,
            wait: Wait::read(wait)?,
            from: self::iterator(iterator)?,
        })
    }
}

/// Reads the filter of a poll.
///
/// # Errors
/// `Invalid` names the parameter.
pub fn filter(event_type: Option<String>, channel: Option<String>) -> Result<Filter> {
    for (name, value) in [("event_type", &event_type), ("channel", &channel)] {
        if let Some(value) = value {
            check_identifier(value).map_err(|rule| bad_query(name, rule))?;
        }
    }
    Ok(Filter { event_type, channel })
}

/// Reads the iterator of a poll; `None` if there is none.
///
/// # Errors
/// `Invalid` if it is none that a poll or a seek has returned.
fn iterator(given: Query<Option<String>>) -> Result<Option<Cursor>> {
    let given = given.0.filter(|text| !text.is_empty());
    let refused = || bad_query("iterator", "must be an iterator that a poll or a seek returned");
    given.map(|text| Cursor::parse(&text).ok_or_else(refused)).transpose()
}

/// A message that a poll returns.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct PollMessageOut {
    id: String,
    event_type: String,
    #[oai(nullable)]
    event_id: Option<String>,
    #[oai(nullable)]
    channels: Option<Vec<String>>,
    #[oai(nullable)]
    tags: Option<Vec<String>>,
    /// `{"expired":true}` if it is no longer kept, `{"rawPayload": "…"}` if what was sent is not a JSON object.
    payload: JsonText,
    timestamp: Instant,
    /// The headers of a webhook with this payload: id, timestamp and signatures. The signatures are those of the text of
    /// `payload`, byte for byte as it stands in this response.
    headers: BTreeMap<String, String>,
}

/// A page of a poller's messages.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct PollOut {
    data: Vec<PollMessageOut>,
    /// Where the next poll goes on. Never empty, on an empty page too.
    iterator: String,
    /// Whether nothing more can be read now.
    done: bool,
    /// Whether the place of the given iterator is lost, because its message is past its retention or the database was
    /// put back to an earlier state. The page then begins with what is kept from an hour before that message on:
    /// messages may come again.
    restarted: bool,
}

/// The end of a page, after its messages.
#[derive(Serialize)]
struct End {
    iterator: String,
    done: bool,
    restarted: bool,
}

/// What a poll keeps of its poller.
pub struct Polled {
    app_id: String,
    id: String,
    number: PollerNumber,
    /// The secrets, newest first. `None` means that they must be read again, because the poll has looked before.
    secrets: Option<Vec<StoredSecret>>,
}

impl From<Model> for Polled {
    fn from(row: Model) -> Self {
        Self {
            app_id: row.app_id,
            id: row.id,
            number: row.number,
            secrets: Some(row.secrets.0),
        }
    }
}

/// A poll whose caller is proven.
pub struct Poll<'a> {
    pub state: &'a ApiState,
    pub request: &'a Request,
    pub caller: &'a Caller,
    /// What the caller does, for which it must still have the right after a wait.
    pub act: Act,
    pub poller: Polled,
    pub from: Cursor,
    pub filter: Filter,
    pub limit: u64,
    pub wait: Duration,
}

impl Poll<'_> {
    /// Reads a page, and waits for one that is not empty if the caller wants that.
    ///
    /// # Errors
    /// `Unavailable` if too many polls wait; after a wait also what a token or a poller that has ended brings.
    pub async fn answer(mut self) -> Result<Answer<PollOut>> {
        let (clock, waits) = (self.state.store.clock(), self.state.store.waits());
        let end = clock.monotonic() + self.wait;
        let mut waiting = match self.wait.is_zero() {
            true => None,
            // Before the first look: a message that comes between it and the wait is hinted at.
            false => Some(waits.enter(self.poller.number, self.caller.customer.name())?),
        };
        let (mut restarted, mut is_woken) = (false, false);
        loop {
            let read = self.read().await?;
            restarted |= read.restarted;
            self.refresh(read.items.is_empty()).await?;
            let Some(waiting) = waiting.as_mut().filter(|_| read.items.is_empty()) else {
                return self.page(read, restarted).await;
            };
            // A filtered page that is empty and not done looks on at once.
            self.poller.secrets = None;
            let goes_on = !read.done
                // Messages that another filter wants wake this poll again and again.
                || (!is_woken || waiting.pause(clock, end).await)
                    && waiting.wait(clock, read.behind.clone(), end).await;
            if !goes_on || clock.monotonic() > end {
                return self.page(read, restarted).await;
            }
            is_woken = read.done;
            self.from = read.reached;
            prove(self.request, self.act, false).await?;
        }
    }

    /// Reads the secrets for a page with messages, or checks that the poller is still there. Does nothing at the first look.
    ///
    /// # Errors
    /// `NotFound` if the poller is deleted.
    async fn refresh(&mut self, is_empty: bool) -> Result<()> {
        let (
            store,
            Polled {
                app_id, id, secrets, ..
            },
        ) = (&self.state.store, &mut self.poller);
        match secrets {
            Some(_) => {}
            None if is_empty => poller::check_exists(store, app_id, id).await?,
            None => *secrets = Some(poller::get_secrets(store, app_id, id).await?),
        }
        Ok(())
    }

    /// Reads the rows of a page. If the present epoch has no number, gives it one first.
    async fn read(&self) -> Result<Read> {
        let reader = Reader {
            app_id: &self.poller.app_id,
            poller: self.poller.number,
        };
        let store = &self.state.store;
        if let Some(read) = poll::read(store, reader, &self.from, &self.filter, self.limit).await? {
            return Ok(read);
        }
        register_epoch(store).await?;
        let read = poll::read(store, reader, &self.from, &self.filter, self.limit).await?;
        read.ok_or_else(no_epoch)
    }

    /// Reads the messages of a page, and writes them.
    async fn page(&self, read: Read, restarted: bool) -> Result<Answer<PollOut>> {
        let Self { state, poller, .. } = self;
        let request = PageRequest {
            limit: self.limit,
            after: None,
            backwards: false,
            ascending: true,
        };
        // No statement for an empty page: at a stop 2,000 polls end at once.
        let found = match read.items.is_empty() {
            true => Page::empty(),
            false => {
                let items = Page {
                    rows: read.items,
                    done: true,
                };
                with_messages(&state.store, &poller.app_id, items, &request, true, |item| {
                    &item.message_id
                })
                .await?
            }
        };
        let secrets = self.secrets(&state.store)?;
        let mut rows = Vec::new();
        let page = found.within(&request, |(item, row)| {
            let start = rows.len();
            let out = self.message(row, &secrets)?;
            serde_json::to_writer(&mut rows, &out).map_err(not_json)?;
            let size = rows.len() - start;
            Ok(((item.behind, start..rows.len()), size))
        })?;
        // A page that was cut goes on behind its last message.
        let reached = match page.rows.last() {
            Some((behind, _)) if !page.done => behind,
            _ => &read.reached,
        };
        let end = End {
            iterator: reached.to_text(),
            done: read.done && page.done,
            restarted,
        };
        let mut body = Vec::with_capacity(rows.len() + page.rows.len() + 256);
        body.extend_from_slice(br#"{"data":["#);
        for (number, (_, written)) in page.rows.iter().enumerate() {
            if number > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&rows[written.clone()]);
        }
        body.extend_from_slice(b"],");
        let end = serde_json::to_vec(&end).map_err(not_json)?;
        body.extend_from_slice(&end[1..]);
        Ok(Answer::of_json(StatusCode::OK, body))
    }

    /// Opens the secrets that sign now.
    fn secrets(&self, store: &Store) -> Result<Vec<EndpointSecret>> {
        let secrets = self.poller.secrets.as_deref().unwrap_or_default();
        StoredSecret::open_valid(secrets, store.keys()?, &self.poller.id, store.clock().now())
    }

    /// Returns a message with its headers, signed at this instant as a webhook would be.
    fn message(&self, found: WithContent, secrets: &[EndpointSecret]) -> Result<PollMessageOut> {
        let payload = payload(found.body, true)?;
        let row = found.message;
        let seconds = self.state.store.clock().now().unix_seconds();
        let signature = sign(secrets, &row.id, seconds, payload.0.get().as_bytes());
        let named = signature_headers(self.state.svix_headers).flat_map(|[id, timestamp, signatures]| {
            [
                (id.to_owned(), row.id.clone()),
                (timestamp.to_owned(), seconds.to_string()),
                (signatures.to_owned(), signature.clone()),
            ]
        });
        let headers = named.collect();
        Ok(PollMessageOut {
            headers,
            event_type: row.event_type,
            event_id: row.event_id,
            channels: row.channels.map(|list| list.0),
            tags: row.tags.map(|list| list.0),
            payload,
            timestamp: Instant(row.created_at),
            id: row.id,
        })
    }
}

/// Returns the poller as its messages are read.
pub fn reader(poller: &Model) -> Reader<'_> {
    Reader {
        app_id: &poller.app_id,
        poller: poller.number,
    }
}

/// Returns the error for an epoch that has no number although it was given one.
pub fn no_epoch() -> crate::error::Error {
    crate::error::Error::unavailable("the database is another one since a moment ago; try again")
}
