//! Reads the parameters of lists (`limit`, `iterator`, `order`) and writes their pages (`data`, `iterator`,
//! `prevIterator`, `done`).
//!
//! An iterator is the key of a row, an id or a name. A prefix says in which direction the list goes on from there.
//!
//! Must not read rows: the store does.

use std::borrow::Cow;
use std::marker::PhantomData;

use poem::http::StatusCode;
use poem_openapi::Enum;
use poem_openapi::param::Query;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult, Type};
use serde::{Deserialize, Serialize};

use super::response::{Answer, not_json};
use super::values::{Nullable, json_type};
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::error::{Error, Kind, Result};
use crate::store::endpoint_health::Place;
use crate::store::{Page, PageRequest};

/// How many rows a page has if the request names no limit.
const DEFAULT_LIMIT: i64 = 50;
/// The largest limit that a request may name.
const MOST: i64 = 250;
/// Bytes that the end of a page usually takes: two ids and the names of three fields.
const ROOM_FOR_END: usize = 128;
/// The first character of an iterator that goes backwards.
const BACKWARDS: char = '-';
/// The first character of an iterator that goes forwards from a name that begins with [`BACKWARDS`]. No name contains
/// it.
const FORWARDS: char = ':';

/// The order of a list.
#[derive(Clone, Copy, Debug, Enum, Eq, PartialEq)]
#[oai(rename = "Ordering", rename_all = "lowercase")]
pub enum Ordering {
    Ascending,
    Descending,
}

/// The keys that iterators of a list contain.
pub enum Iterates {
    /// Ids with this prefix.
    Over(Prefix),
    /// Names of event types.
    Names,
    /// A message's id, or one and an endpoint's id with a dot in between.
    Deliveries,
    /// Places in the list of endpoints in trouble.
    Places,
}

/// The query parameter `limit`: how many rows a page has at most.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Limit(i64);

impl Limit {
    /// The largest limit.
    pub const MOST: Self = Self(MOST);
}

json_type!(Limit, "limit", true, |_registry| {}, {
    MetaSchemaRef::Inline(Box::new(MetaSchema {
        minimum: Some(1.0),
        maximum: Some(MOST as f64),
        ..MetaSchema::new_with_format("integer", "int32")
    }))
});

impl ParseFromParameter for Limit {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        let rule = |_| ParseError::custom(format!("must be an integer from 1 to {MOST}"));
        value.parse().map(Self).map_err(rule)
    }
}

/// The query parameters that all lists share.
pub struct ListQuery {
    pub limit: Query<Option<Limit>>,
    pub iterator: Query<Option<String>>,
}

impl ListQuery {
    /// Returns the page that is asked for. `ascending` is the order of the list itself.
    ///
    /// # Errors
    /// `Invalid` if the limit is out of range or the iterator is malformed.
    pub fn request(self, iterates: &Iterates, ascending: bool) -> Result<PageRequest> {
        let limit = limit_of(self.limit)?;
        let iterator = self.iterator.0.filter(|text| !text.is_empty());
        let (backwards, after) = iterator.map_or((false, None), |text| {
            let (backwards, key) = match text.strip_prefix(BACKWARDS) {
                Some(key) => (true, key),
                None => (false, text.strip_prefix(FORWARDS).unwrap_or(&text)),
            };
            (backwards, Some(key.to_owned()))
        });
        if let Some(after) = &after {
            iterates.check(after)?;
        }
        Ok(PageRequest {
            limit,
            after,
            backwards,
            ascending,
        })
    }
}

impl Iterates {
    /// Checks the key of an iterator, without the prefix for the direction.
    fn check(&self, text: &str) -> Result<()> {
        let well_formed = match self {
            // A prefix alone names no row.
            _ if text.is_empty() => false,
            Iterates::Over(prefix) => prefix.is_of(text) && check_identifier(text).is_ok(),
            Iterates::Places => Place::of(text).is_some(),
            Iterates::Names => check_identifier(text).is_ok(),
            Iterates::Deliveries => {
                let (message, endpoint) = text.split_once('.').unwrap_or((text, "ep_"));
                Prefix::Message.is_of(message) && Prefix::Endpoint.is_of(endpoint) && check_identifier(text).is_ok()
            }
        };
        match well_formed {
            true => Ok(()),
            false => Err(bad_query("iterator", "must be an iterator that a list returned")),
        }
    }
}

/// Returns the number of rows that a page may have.
///
/// # Errors
/// `Invalid` if the limit is out of range.
pub fn limit_of(limit: Query<Option<Limit>>) -> Result<u64> {
    match limit.0.map_or(DEFAULT_LIMIT, |limit| limit.0) {
        limit @ 1..=MOST => Ok(limit.unsigned_abs()),
        _ => Err(bad_query("limit", format!("must be from 1 to {MOST}"))),
    }
}

/// Returns the error for a query parameter that breaks a rule.
pub fn bad_query(name: &str, message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message).at(["query", name])
}

/// Returns whether a list is in ascending order, by its `order` parameter.
pub fn ascending(order: Option<Ordering>, default: Ordering) -> bool {
    order.unwrap_or(default) == Ordering::Ascending
}

/// The shape of a page of a list of `T`, which [`ListOut::answer`] writes.
pub struct ListOut<T>(PhantomData<fn() -> T>);

/// The end of a page, after its rows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct End {
    /// The iterator that goes on after this page; `None` if the page is empty.
    iterator: Option<String>,
    /// The iterator that goes back from the start of this page; `None` if the page is empty.
    prev_iterator: Option<String>,
    /// Whether there is nothing further in the direction of the request.
    done: bool,
}

impl<T: Serialize> ListOut<T> {
    /// Makes the response with a page. `out` turns each row into what is written of it, and `key` returns the key for
    /// the iterators. The page is cut here a second time, by the bytes that are written: JSON may take six times the
    /// bytes that were read.
    ///
    /// # Errors
    /// The first error of `out`.
    pub fn answer<M>(
        page: Page<M>,
        request: &PageRequest,
        key: impl Fn(&M) -> &str,
        out: impl FnMut(M) -> Result<T>,
    ) -> Result<Answer<Self>> {
        Self::answer_reaching(page, None, request, key, out)
    }

    /// Makes the response as [`ListOut::answer`] does, but lets the list go on after the key `reached` instead of after
    /// the last row; `None` changes nothing. For lists that look through a bounded number of rows, and whose page may
    /// end before it is full.
    ///
    /// # Errors
    /// As [`ListOut::answer`].
    pub fn answer_reaching<M>(
        page: Page<M>,
        reached: Option<String>,
        request: &PageRequest,
        key: impl Fn(&M) -> &str,
        mut out: impl FnMut(M) -> Result<T>,
    ) -> Result<Answer<Self>> {
        // Rows are written one after another into one buffer: a value for each would be copied into the body again.
        let (mut rows, whole) = (Vec::new(), page.rows.len());
        let page = page.within(request, |row| {
            let (key, start) = (key(&row).to_owned(), rows.len());
            serde_json::to_writer(&mut rows, &out(row)?).map_err(not_json)?;
            let written = start..rows.len();
            let size = written.len() + 1;
            Ok(((key, written), size))
        })?;
        // A page that was cut goes on after its last row.
        let reached = reached.filter(|_| page.rows.len() == whole);
        let (first, last) = (page.rows.first(), page.rows.last());
        let (first, last) = (first.map(|(key, _)| key.as_str()), last.map(|(key, _)| key.as_str()));
        let (first, last) = match request.backwards {
            true => (reached.as_deref().or(first), last),
            false => (first, reached.as_deref().or(last)),
        };
        let end = End {
            iterator: last.map(forwards),
            prev_iterator: first.map(|key| format!("{BACKWARDS}{key}")),
            done: page.done,
        };
        let mut body = Vec::with_capacity(rows.len() + page.rows.len() + ROOM_FOR_END);
        body.extend_from_slice(br#"{"data":["#);
        for (number, (_, written)) in page.rows.into_iter().enumerate() {
            if number > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&rows[written]);
        }
        body.extend_from_slice(b"],");
        let end = serde_json::to_vec(&end).map_err(not_json)?;
        body.extend_from_slice(&end[1..]);
        Ok(Answer::of_json(StatusCode::OK, body))
    }
}

/// Returns the iterator that goes forwards from a key.
fn forwards(key: &str) -> String {
    match key.starts_with(BACKWARDS) {
        true => format!("{FORWARDS}{key}"),
        false => key.to_owned(),
    }
}

impl<T: Type> Type for ListOut<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        format!("ListResponse{}", T::name()).into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference(Self::name().into_owned())
    }

    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>(Self::name().into_owned(), |registry| {
            T::register(registry);
            MetaSchema {
                description: Some(
                    "One page of a list. It ends at 4 MiB, and may then hold fewer than `limit`; `done` tells \
                     whether it is the last.",
                ),
                required: vec!["data", "iterator", "done"],
                properties: vec![
                    ("data", Vec::<T>::schema_ref()),
                    ("iterator", described("Goes on after this page; null when it is empty.")),
                    ("prevIterator", described("Goes back before this page.")),
                    ("done", bool::schema_ref()),
                ],
                ..MetaSchema::new("object")
            }
        });
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(self.as_raw_value().into_iter())
    }
}

/// Returns the schema of an iterator, with its description.
fn described(text: &'static str) -> MetaSchemaRef {
    Nullable::<String>::schema_ref().merge(MetaSchema {
        description: Some(text),
        ..MetaSchema::ANY
    })
}
