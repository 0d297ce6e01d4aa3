//! Checks single fields of request bodies. The rules are in `domain`; this file adds the field's name to the error.
//!
//! All errors are `Invalid` with the place of the field.
//!
//! Must not know the types of bodies: each resource reads its own.

use std::collections::{BTreeMap, HashSet};

use poem_openapi::types::MaybeUndefined;

use crate::domain::id::Prefix;
use crate::domain::identifier::{
    check_header_name, check_header_value, check_headers_together, check_identifier, check_metadata, check_text,
    check_uid,
};
use crate::domain::secret::EndpointSecret;
use crate::domain::token::check_name;
use crate::error::{Error, Result};

/// How many custom headers an endpoint may have.
const MOST_HEADERS: usize = 50;

/// Checks a display name: text that is not empty.
pub fn name(field: &str, value: String) -> Result<String> {
    if value.is_empty() {
        return Err(Error::invalid(field, "must not be empty"));
    }
    text(field, value)
}

/// Checks the name of a token.
pub fn token_name(value: String) -> Result<String> {
    match check_name(&value) {
        Ok(()) => Ok(value),
        Err(rule) => Err(Error::invalid("name", rule)),
    }
}

/// Checks free text.
pub fn text(field: &str, value: String) -> Result<String> {
    match check_text(&value) {
        Ok(()) => Ok(value),
        Err(rule) => Err(Error::invalid(field, rule)),
    }
}

/// Checks the uid of a resource whose ids have the prefix `own`.
pub fn uid(value: String, own: Prefix) -> Result<String> {
    match check_uid(&value, own) {
        Ok(()) => Ok(value),
        Err(rule) => Err(Error::invalid("uid", rule)),
    }
}

/// Checks an identifier: an event type's name, an eventId or a channel.
pub fn identifier(field: &str, value: String) -> Result<String> {
    match check_identifier(&value) {
        Ok(()) => Ok(value),
        Err(rule) => Err(Error::invalid(field, rule)),
    }
}

/// Checks a set of 1 to `most` identifiers. Returns them in their order, without duplicates.
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
            "must not be an empty list: leave it out or send null",
        )),
        false => Ok(kept),
    }
}

/// Checks metadata.
pub fn metadata(value: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    match check_metadata(&value) {
        Ok(()) => Ok(value),
        Err(rule) => Err(Error::invalid("metadata", rule)),
    }
}

/// Checks the throttle rate, which may be given as `throttleRate` or under its older name `rateLimit`. The newer name
/// takes precedence. `None` means that there is no limit.
pub fn throttle_rate(rate: Option<i64>, older: Option<i64>) -> Result<Option<i32>> {
    let older = older.map(|rate| in_range("rateLimit", rate)).transpose()?;
    let rate = rate.map(|rate| in_range("throttleRate", rate)).transpose()?;
    Ok(rate.or(older))
}

/// Checks the throttle rate of a PATCH, under either name, as [`change`] does.
pub fn changed_throttle_rate(rate: MaybeUndefined<i64>, older: MaybeUndefined<i64>) -> Result<Option<Option<i32>>> {
    let older = change(older, |rate| in_range("rateLimit", rate))?;
    Ok(change(rate, |rate| in_range("throttleRate", rate))?.or(older))
}

/// Checks a nullable field of a PATCH. `None` means that it is absent and the old value stays, `Some(None)` that it is
/// null and the old value is cleared.
pub fn change<T, U>(value: MaybeUndefined<T>, check: impl FnOnce(T) -> Result<U>) -> Result<Option<Option<U>>> {
    match value {
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => Ok(Some(None)),
        MaybeUndefined::Value(value) => check(value).map(|checked| Some(Some(checked))),
    }
}

/// Checks a throttle rate, in deliveries per second.
fn in_range(field: &str, rate: i64) -> Result<i32> {
    match u16::try_from(rate) {
        Ok(rate) if rate > 0 => Ok(i32::from(rate)),
        _ => Err(Error::invalid(field, "must be from 1 to 65535")),
    }
}

/// Checks a signing secret. The error never contains it.
pub fn secret(field: &str, value: &str) -> Result<EndpointSecret> {
    EndpointSecret::parse(value).map_err(|rule| Error::invalid(field, rule))
}

/// Checks an endpoint's custom headers. Names that differ only in upper and lower case count as the same name twice.
pub fn headers(values: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    header_count(values.len())?;
    let mut seen: Vec<String> = Vec::with_capacity(values.len());
    for (name, value) in &values {
        header(name, value)?;
        let lower = name.to_ascii_lowercase();
        if seen.contains(&lower) {
            return Err(refused_header(name, "is given twice, in different case".to_owned()));
        }
        seen.push(lower);
    }
    headers_together(&values)?;
    Ok(values)
}

/// Checks the number and the size of all custom headers of an endpoint together: they are sent with every delivery.
pub fn headers_together(all: &BTreeMap<String, String>) -> Result<()> {
    header_count(all.len())?;
    check_headers_together(all).map_err(|rule| Error::invalid("headers", rule))
}

/// Checks the number of an endpoint's custom headers.
pub fn header_count(count: usize) -> Result<()> {
    match count {
        ..=MOST_HEADERS => Ok(()),
        _ => Err(Error::invalid("headers", format!("must be at most {MOST_HEADERS}"))),
    }
}

/// Checks one custom header.
pub fn header(name: &str, value: &str) -> Result<()> {
    check_header_name(name)
        .and_then(|()| check_header_value(value))
        .map_err(|rule| refused_header(name, rule))
}

fn refused_header(name: &str, rule: String) -> Error {
    Error::invalid("headers", rule).at(["body", "headers", name])
}
