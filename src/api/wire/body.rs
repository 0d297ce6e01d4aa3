//! Reads request bodies within a limit and a deadline, and parses them by serde directly from the bytes.
//!
//! The error for a body that is refused names the place of the fault and never contains the value, which may be a
//! secret.
//!
//! Must not check fields: the resources do, most of them with the checks in fields.rs. The validators on the types of
//! bodies describe these rules in the API document, and never run.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::Body as _;
use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

use super::error::into_poem;
use super::idempotency::hash_body;
use super::values::JSON;
use crate::api::ApiState;
use crate::error::{Error, Kind, Result};
use crate::store::database::request;

/// The largest body, in bytes (wire contract).
pub const LIMIT: usize = 2 * 1024 * 1024;
/// The bytes that are reserved at first for a body of unknown length. The reservation doubles whenever it is used up.
const FIRST: usize = 16 * 1024;
/// How many bytes of a refused body are read and dropped, so that its sender finishes and reads the response.
const DRAINED: usize = 32 * 1024 * 1024;
/// How long the rest of a body is read and dropped if there is no memory for it. The sender should learn of it soon,
/// even if it sends the rest slowly.
const DRAINED_WITHIN: Duration = Duration::from_secs(1);

/// A body that is a JSON object of the shape `T`, and its hash. The hash is `None` unless the body is `KEYED` and the
/// request has an idempotency key.
pub struct Body<T, const KEYED: bool = false>(pub T, pub Option<String>);

/// The body of a POST that is executed once per idempotency key. Its hash shows whether the key comes again with
/// another body.
pub type KeyedBody<T> = Body<T, true>;

impl<'a, T: Type + DeserializeOwned, const KEYED: bool> ApiExtractor<'a> for Body<T, KEYED> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: JSON,
                schema: T::schema_ref(),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = read(request, body).await.map_err(|err| into_poem(&err))?;
        let value = parse(&bytes).map_err(|err| into_poem(&err))?;
        let hash = if KEYED { hash_body(request, &bytes) } else { None };
        Ok(Self(value, hash))
    }
}

/// A [`KeyedBody`] that may be absent; an absent body counts as `{}`.
pub struct OptionalBody<T>(pub T, pub Option<String>);

impl<'a, T: Type + DeserializeOwned> ApiExtractor<'a> for OptionalBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let required = false;
        KeyedBody::<T>::request_meta().map(|meta| MetaRequest { required, ..meta })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let mut bytes = read(request, body).await.map_err(|err| into_poem(&err))?;
        if bytes.is_empty() {
            bytes.extend_from_slice(b"{}");
        }
        let value = parse(&bytes).map_err(|err| into_poem(&err))?;
        Ok(Self(value, hash_body(request, &bytes)))
    }
}

/// Reads a body within the deadline.
///
/// # Errors
/// `TooLarge`; `TooSlow`; `Malformed` if the body was cut off; `Unavailable` if there is no memory for it.
async fn read(request: &Request, body: &mut RequestBody) -> Result<Vec<u8>> {
    let deadline = request
        .data::<Arc<ApiState>>()
        .map_or(Duration::MAX, |state| state.body_deadline);
    let body = body
        .take()
        .map_err(|_| Error::internal("the request's body was read before"))?;
    let mut body: BoxBody<Bytes, io::Error> = body.into();
    match tokio::time::timeout(deadline, receive(request, &mut body)).await {
        Ok(received) => received,
        Err(_) => {
            let message = format!("the body did not arrive in {} s", deadline.as_secs_f32());
            Err(Error::new(Kind::TooSlow, message))
        }
    }
}

/// Reads a body. Reserves its bytes before they are read. If the body is refused, the rest of it is read and dropped.
async fn receive(request: &Request, body: &mut BoxBody<Bytes, io::Error>) -> Result<Vec<u8>> {
    let refusal = match collect(body).await {
        Err(err) if [Kind::TooLarge, Kind::Unavailable].contains(&err.kind) => err,
        collected => return collected,
    };
    if request.headers().contains_key(header::EXPECT) && body.size_hint().exact().is_some() {
        // A body of known length is refused before anything of it is read. So no `100 Continue` was sent, and the
        // sender waits for it with the body.
        return Err(refusal);
    }
    match refusal.kind {
        Kind::TooLarge => drain(body).await,
        _ => {
            let _ = tokio::time::timeout(DRAINED_WITHIN, drain(body)).await;
        }
    }
    Err(refusal)
}

/// Reads the whole body, and reserves its bytes for the request before they are read.
async fn collect(body: &mut BoxBody<Bytes, io::Error>) -> Result<Vec<u8>> {
    let too_large = || Error::new(Kind::TooLarge, format!("the body is larger than {LIMIT} bytes"));
    let mut reserved = match body.size_hint().exact().map(usize::try_from) {
        Some(Ok(length)) if length <= LIMIT => length,
        Some(_) => return Err(too_large()),
        None => FIRST,
    };
    request::reserve(reserved).await?;
    let mut bytes = Vec::with_capacity(reserved);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|err| Error::new(Kind::Malformed, "the body was cut off").because(err))?;
        let Ok(piece) = frame.into_data() else { continue };
        let size = bytes.len() + piece.len();
        if size > LIMIT {
            return Err(too_large());
        }
        if size > reserved {
            let more = size.max(2 * reserved) - reserved;
            request::reserve(more).await?;
            reserved += more;
            bytes.reserve_exact(reserved - bytes.len());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Reads and drops up to [`DRAINED`] bytes of a body.
async fn drain(body: &mut BoxBody<Bytes, io::Error>) {
    let mut dropped = 0;
    while let Some(Ok(frame)) = body.frame().await {
        dropped += frame.data_ref().map_or(0, Bytes::len);
        if dropped >= DRAINED {
            return;
        }
    }
}

/// Parses a JSON object.
///
/// # Errors
/// `Malformed` if the bytes are not a JSON object, `Invalid` if the object does not have the shape `T`.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'{')
        && let Ok(value) = serde_json::from_slice(bytes)
    {
        return Ok(value);
    }
    Err(explain::<T>(bytes, first))
}

/// Returns the error for bytes that could not be parsed. Parses them again, with a parser that is slower but knows the
/// place of the fault.
fn explain<T: DeserializeOwned>(bytes: &[u8], first: Option<&u8>) -> Error {
    if let Err(err) = serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        return Error::new(Kind::Malformed, format!("is not valid JSON: {err}"));
    }
    if first != Some(&b'{') {
        return Error::new(Kind::Malformed, "must be a JSON object");
    }
    match serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_slice(bytes)) {
        Ok(_) => Error::new(Kind::Malformed, "is not valid JSON"),
        Err(err) if err.inner().to_string().starts_with("recursion limit") => {
            Error::new(Kind::Invalid, "is nested too deeply").at(location(err.path()))
        }
        Err(err) if !err.inner().is_data() => {
            Error::new(Kind::Malformed, format!("is not valid JSON: {}", err.inner()))
        }
        Err(err) => {
            let (mut loc, text) = (location(err.path()), err.inner().to_string());
            if let Some(field) = between(&text, "missing field `") {
                loc.push(field.to_owned());
                return Error::new(Kind::Invalid, "is required").at(loc);
            }
            if let Some(field) = between(&text, "duplicate field `") {
                loc.push(field.to_owned());
                return Error::new(Kind::Invalid, "must be given once").at(loc);
            }
            Error::new(Kind::Invalid, expectation(&text)).at(loc)
        }
    }
}

/// Returns a path within the body as the steps of `loc`, beginning with `body`.
fn location(path: &Path) -> Vec<String> {
    let steps = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    });
    std::iter::once("body".to_owned()).chain(steps).collect()
}

/// Returns the text from `before`, with which the text must begin, to the next backtick.
fn between<'t>(text: &'t str, before: &str) -> Option<&'t str> {
    text.strip_prefix(before)?.split('`').next()
}

/// Returns what serde expected, without the value that it found, which may be a secret.
fn expectation(text: &str) -> String {
    let text = text.rfind(" at line ").map_or(text, |end| &text[..end]);
    let Some(start) = text.rfind(", expected ") else {
        // A message of our own types, which never contain a value.
        return text.to_owned();
    };
    let expected = match &text[start + ", expected ".len()..] {
        "i16" | "i32" | "i64" | "u16" | "u32" | "u64" => "an integer",
        "a map" => "an object",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("must be {expected}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Shape {
        #[allow(dead_code)]
        name: String,
        #[serde(default)]
        #[allow(dead_code)]
        rate: Option<i64>,
        #[serde(default)]
        #[allow(dead_code)]
        metadata: BTreeMap<String, String>,
        #[serde(default)]
        #[allow(dead_code)]
        tags: Vec<String>,
    }

    fn refused(body: &str) -> (Vec<String>, String) {
        let err = parse::<Shape>(body.as_bytes()).unwrap_err();
        (err.loc, err.message)
    }

    #[test]
    fn a_refused_body_names_the_place_and_the_rule() {
        for (body, loc, message) in [
            (r#"{}"#, "body.name", "is required"),
            (r#"{"name":null}"#, "body.name", "must be a string"),
            (r#"{"name":7}"#, "body.name", "must be a string"),
            (r#"{"name":"a","name":"b"}"#, "body.name", "must be given once"),
            (r#"{"name":"a","rate":"x"}"#, "body.rate", "must be an integer"),
            (r#"{"name":"a","rate":1.5}"#, "body.rate", "must be an integer"),
            (
                r#"{"name":"a","rate":99999999999999999999}"#,
                "body.rate",
                "must be an integer",
            ),
            (r#"{"name":"a","metadata":[]}"#, "body.metadata", "must be an object"),
            (
                r#"{"name":"a","metadata":{"k":1}}"#,
                "body.metadata.k",
                "must be a string",
            ),
            (r#"{"name":"a","tags":{}}"#, "body.tags", "must be a list"),
            (r#"{"name":"a","tags":["x",1]}"#, "body.tags.1", "must be a string"),
        ] {
            let (at, text) = refused(body);
            assert_eq!((at.join(".").as_str(), text.as_str()), (loc, message), "{body}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_malformed() {
        for body in [
            "",
            " ",
            "{",
            "[]",
            "7",
            "\"x\"",
            "null",
            r#"{"name":"a"} x"#,
            r#"["a"]"#,
            "{\"name\":\"\u{1}\"}",
        ] {
            let err = parse::<Shape>(body.as_bytes()).unwrap_err();
            assert_eq!(err.kind, Kind::Malformed, "{body}");
        }
        assert_eq!(
            parse::<Shape>(b"{\"name\":\"\xff\"}").unwrap_err().kind,
            Kind::Malformed
        );
    }

    #[test]
    fn no_value_is_repeated() {
        for body in [
            r#"{"name":"a","rate":"whsec_topsecret"}"#,
            r#"{"name":"a","rate":"x, expected whsec_topsecret"}"#,
            r#"{"name":"a","metadata":"whsec_topsecret"}"#,
            r#"{"name":"a","tags":"whsec_topsecret at line 1"}"#,
        ] {
            let (_, text) = refused(body);
            assert!(!text.contains("whsec_"), "{body}: {text}");
        }
    }

    #[test]
    fn unknown_fields_are_ignored() {
        assert!(parse::<Shape>(br#" {"name":"a","extra":{"deep":[1]}} "#).is_ok());
    }
}
