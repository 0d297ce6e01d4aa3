//! Rules of single fields, with the field's name put to domain's sentence. Called by the resources of api.

use std::collections::{BTreeMap, HashSet};

use poem_openapi::types::MaybeUndefined;

use crate::domain::id::Prefix;
use crate::domain::identifier::{
    check_header_name, check_header_value, check_headers_together, check_identifier, check_metadata, check_text,
    check_uid,
};
use crate::domain::secret::EndpointSecret;
use crate::error::{Error, Result};

const MOST_HEADERS: usize = 50;

/// A name for people: text, and not empty.
pub fn name(field: &str, value: String) -> Result<String> {
    if value.is_empty() {
        return Err(Error::invalid(field, "must not be empty"));
    }
    text(field, value)
}

pub fn text(field: &str, value: String) -> Result<String> {
    match check_text(&value) {
        Ok(()) => Ok(value),
        Err(rule) => Err(Error::invalid(field, rule)),
    }
}

/// A uid of the resource whose ids have this prefix.
pub fn uid(value: String, own: Prefix) -> Result<String> {
    match check_uid(&value, own) {
        Ok(()) => Ok(value),
        Err(rule) => Err(Error::invalid("uid", rule)),
    }
}

/// An event type's name, an eventId, a channel.
pub fn identifier(field: &str, value: String) -> Result<String> {
    match check_identifier(&value) {
        Ok(()) => Ok(value),
        Err(rule) => Err(Error::invalid(field, rule)),
    }
}

/// A set of identifiers, 1 to `most`: duplicates count once, the order is kept.
pub fn identifiers(field: &str, values: Vec<String>, most: usize) -> Result<Vec<String>> {
    let mut kept: Vec<String> = Vec::with_capacity(values.len().min(most));
    let mut seen = HashSet::new();
    for (place, value) in values.iter().enumerate() {
        if !seen.insert(value.as_str()) {
            continue;
        }
        if let Err(rule) = check_identifier(value) {
            let place = place.to_string();
            return Err(Error::invalid(field, rule).at(["body", field, &place]));
        }
        if kept.len() == most {
            return Err(Error::invalid(
                field,
                format!("must have at most {most} different entries"),
            ));
        }
        kept.push(value.clone());
    }
    match kept.is_empty() {
        true => Err(Error::invalid(
            field,
            "must not be an empty list: leave it out, or null",
        )),
        false => Ok(kept),
    }
}

pub fn metadata(value: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    match check_metadata(&value) {
        Ok(()) => Ok(value),
        Err(rule) => Err(Error::invalid("metadata", rule)),
    }
}

/// The throttle rate, by its name or by its older one.
pub fn throttle_rate(rate: Option<i64>, older: Option<i64>) -> Result<Option<i32>> {
    let older = older.map(|rate| in_range("rateLimit", rate)).transpose()?;
    let rate = rate.map(|rate| in_range("throttleRate", rate)).transpose()?;
    Ok(rate.or(older))
}

/// The same in a PATCH.
pub fn changed_throttle_rate(rate: MaybeUndefined<i64>, older: MaybeUndefined<i64>) -> Result<Option<Option<i32>>> {
    let older = change(older, |rate| in_range("rateLimit", rate))?;
    Ok(change(rate, |rate| in_range("throttleRate", rate))?.or(older))
}

/// A nullable field of a PATCH: absent keeps, null clears, a value is checked.
pub fn change<T, U>(value: MaybeUndefined<T>, check: impl FnOnce(T) -> Result<U>) -> Result<Option<Option<U>>> {
    match value {
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => Ok(Some(None)),
        MaybeUndefined::Value(value) => check(value).map(|checked| Some(Some(checked))),
    }
}

fn in_range(field: &str, rate: i64) -> Result<i32> {
    match u16::try_from(rate) {
        Ok(rate) if rate > 0 => Ok(i32::from(rate)),
        _ => Err(Error::invalid(field, "must be from 1 to 65535")),
    }
}

/// A signing secret; the message never repeats it.
pub fn secret(field: &str, value: &str) -> Result<EndpointSecret> {
    EndpointSecret::parse(value).map_err(|rule| Error::invalid(field, rule))
}

/// Own headers of an endpoint; a name may come once, whatever its capitals.
pub fn headers(values: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    header_count(values.len())?;
    let mut seen: Vec<String> = Vec::with_capacity(values.len());
    for (name, value) in &values {
        header(name, value)?;
        let lower = name.to_ascii_lowercase();
        if seen.contains(&lower) {
            return Err(refused_header(name, "is given twice, in different capitals".to_owned()));
        }
        seen.push(lower);
    }
    headers_together(&values)?;
    Ok(values)
}

/// All own headers of an endpoint: they go out with every delivery.
pub fn headers_together(all: &BTreeMap<String, String>) -> Result<()> {
    header_count(all.len())?;
    check_headers_together(all).map_err(|rule| Error::invalid("headers", rule))
}

pub fn header_count(count: usize) -> Result<()> {
    match count {
        ..=MOST_HEADERS => Ok(()),
        _ => Err(Error::invalid("headers", format!("must be at most {MOST_HEADERS}"))),
    }
}

/// One own header.
pub fn header(name: &str, value: &str) -> Result<()> {
    check_header_name(name)
        .and_then(|()| check_header_value(value))
        .map_err(|rule| refused_header(name, rule))
}

fn refused_header(name: &str, rule: String) -> Error {
    Error::invalid("headers", rule).at(["body", "headers", name])
}
