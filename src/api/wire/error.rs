//! Makes every response that is not a success, from our errors, from poem's own errors and from panics.
//!
//! All of them have one body, `{code, detail}`, which follows from the error's kind. No other file may make error
//! responses.
//!
//! Must not show an error's source to the caller: that goes to the log.

use std::marker::PhantomData;

use poem::Response;
use poem::error::{MethodNotAllowedError, NotFoundError};
use poem::http::{HeaderValue, StatusCode, header};
use poem_openapi::error::{ParseParamError, ParsePathError};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, Object};
use serde::{Deserialize, Serialize};

use super::values::JSON;
use super::values::json_type;
use crate::error::{Error, Kind};
use crate::store::database::outage;

/// The `Retry-After` of every 503, in seconds.
const RETRY_AFTER: &str = "1";

/// Describes a 400 that only a query parameter can cause. The API document recognizes the description and drops it from
/// operations without such parameters.
pub(crate) const NOT_OF_ITS_TYPE: &str = "A query parameter is not of its type.";

/// One broken rule.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct ValidationError {
    /// Where the value stands, such as `["body", "name"]` or `["query", "limit"]`.
    loc: Vec<String>,
    /// Which rule it breaks.
    msg: String,
    /// The kind of rule: `value_error`, `value_error.jsondecode` for a body that is no JSON object,
    /// `application_uid_missing` or `application_uid_mismatch` for an application to be made on the way.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    kind: String,
}

/// Why a request was refused or failed.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct ErrorOut {
    /// What went wrong, as one stable word for programs.
    code: String,
    detail: Detail,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Detail {
    Text(String),
    Rules(Vec<ValidationError>),
}

json_type!(
    Detail,
    "ErrorDetail",
    true,
    |registry| registry.create_schema::<Detail, _>("ErrorDetail".to_owned(), |registry| {
        ValidationError::register(registry);
        let list = MetaSchema {
            items: Some(Box::new(ValidationError::schema_ref())),
            ..MetaSchema::new("array")
        };
        let text = MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
        MetaSchema {
            description: Some("What went wrong, for people; with `validation_error` the list of broken rules."),
            one_of: vec![text, MetaSchemaRef::Inline(Box::new(list))],
            ..MetaSchema::ANY
        }
    }),
    MetaSchemaRef::Reference("ErrorDetail".to_owned())
);

/// A status, with its description in the API document.
type Failure = (u16, &'static str);

/// The statuses that an operation may fail with. The document leaves out
/// those that the operation's inputs exclude: an operation without a body cannot return 413.
pub trait Failures: Send + Sync + 'static {
    const LIST: &'static [Failure];
}

/// The statuses that a read may fail with.
#[derive(Debug)]
pub struct Read;
/// The statuses that a write may fail with.
#[derive(Debug)]
pub struct Write;

const NO_TOKEN: Failure = (401, NO_TOKEN_TEXT);
/// Describes a 401 that only a token can cause. The API document drops it from operations without one.
pub(crate) const NO_TOKEN_TEXT: &str = "There is no token, or none that is known.";
// The API document replaces the description by one for the operation.
const NOT_ALLOWED: Failure = (403, "The token may not do this.");
const NOT_FOUND: Failure = (404, "There is no such thing, or the token may not see it.");
const NOT_IN_TIME: Failure = (408, "The request's body did not arrive in time.");
/// Describes a 409 that only a body can cause. The API document drops it from operations without such a body.
pub(crate) const TAKEN: &str =
    "The name, the uid or the eventId is taken, or the idempotency key came with another body before.";
const TOO_LARGE: Failure = (413, "The request's body is larger than 2 MB.");
const INVALID: Failure = (422, "A value breaks a rule; `detail` lists which.");
const FAULT: Failure = (500, "A fault of the server.");
const UNAVAILABLE: Failure = (503, "The server is overloaded or has no database just now: try again.");

impl Failures for Read {
    const LIST: &'static [Failure] = &[
        (400, NOT_OF_ITS_TYPE),
        NO_TOKEN,
        NOT_ALLOWED,
        NOT_FOUND,
        INVALID,
        FAULT,
        UNAVAILABLE,
    ];
}

impl Failures for Write {
    const LIST: &'static [Failure] = &write_failures(NOT_OF_ITS_TYPE, TAKEN);
}

/// The statuses of a write that may also fail with a 400 because it cannot be done as things are, for example because a
/// limit is reached.
#[derive(Debug)]
pub struct Conditional;

impl Failures for Conditional {
    const LIST: &'static [Failure] = &write_failures(
        "It cannot be done as things are, or a query parameter is not of its type: `code` says which.",
        TAKEN,
    );
}

/// The statuses of a read that may make something on the way, and so reach a limit.
#[derive(Debug)]
pub struct OfConsumers;

impl Failures for OfConsumers {
    const LIST: &'static [Failure] = &[
        (
            400,
            "The poller has as many consumers as it may have, or a query parameter is not of its type: `code` says which.",
        ),
        NO_TOKEN,
        NOT_ALLOWED,
        NOT_FOUND,
        INVALID,
        FAULT,
        UNAVAILABLE,
    ];
}

/// The statuses of a change of a token, after which a valid token of an admin must be left.
#[derive(Debug)]
pub struct LeavesAnAdmin;

impl Failures for LeavesAnAdmin {
    const LIST: &'static [Failure] = &write_failures(
        NOT_OF_ITS_TYPE,
        "It is the organization's last valid token with the role `admin`.",
    );
}

/// The statuses of a request that brings a code in place of a token.
#[derive(Debug)]
pub struct SignIn;

impl Failures for SignIn {
    const LIST: &'static [Failure] = &[
        (401, "The code is unknown, was used or has expired."),
        NOT_IN_TIME,
        TOO_LARGE,
        INVALID,
        FAULT,
        UNAVAILABLE,
    ];
}

/// Returns the statuses of a write whose 400 and 409 have these descriptions.
const fn write_failures(of_400: &'static str, of_409: &'static str) -> [Failure; 10] {
    [
        (400, of_400),
        NO_TOKEN,
        NOT_ALLOWED,
        NOT_FOUND,
        NOT_IN_TIME,
        (409, of_409),
        TOO_LARGE,
        INVALID,
        FAULT,
        UNAVAILABLE,
    ]
}

/// An error of an operation whose possible statuses are those of `F`.
pub struct ApiError<F>(Error, PhantomData<F>);

impl<F> From<Error> for ApiError<F> {
    fn from(error: Error) -> Self {
        Self(error, PhantomData)
    }
}

impl<F: Failures> From<ApiError<F>> for poem::Error {
    fn from(error: ApiError<F>) -> Self {
        into_poem(&error.0)
    }
}

impl<F: Failures> ApiResponse for ApiError<F> {
    fn meta() -> MetaResponses {
        let responses = F::LIST.iter().map(|(status, description)| MetaResponse {
            description,
            status: Some(*status),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: JSON,
                schema: ErrorOut::schema_ref(),
            }],
            headers: vec![],
        });
        MetaResponses {
            responses: responses.collect(),
        }
    }

    fn register(registry: &mut Registry) {
        ErrorOut::register(registry);
    }
}

/// Wraps an error for extractors, which must return poem's error type.
pub(crate) fn into_poem(error: &Error) -> poem::Error {
    poem::Error::from_response(response(error))
}

/// Returns the response to an error. Logs it if the fault is ours; nothing else logs it. An overload is logged at `debug`
/// alone: its refusals come by the thousand, and the metrics count them.
pub(crate) fn response(error: &Error) -> Response {
    let (status, code) = status_and_code(error.kind);
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(err = %error, "a request failed");
    } else if error.kind == Kind::Database {
        outage::note_failure(error, "a request could not use the database");
    } else if status == StatusCode::SERVICE_UNAVAILABLE {
        tracing::debug!(err = %error, "a request was refused for now");
    }
    let detail = match error.kind {
        Kind::Invalid | Kind::ApplicationUidMissing | Kind::ApplicationUidMismatch | Kind::Malformed => {
            Detail::Rules(vec![rule(error)])
        }
        Kind::Internal | Kind::Config => Detail::Text("the server could not do this; its log says why".to_owned()),
        Kind::Database => Detail::Text("the database cannot be reached just now".to_owned()),
        _ => Detail::Text(error.message.clone()),
    };
    let mut response = json(status, code, detail);
    let extra = match status {
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
        StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, RETRY_AFTER)),
        _ => None,
    };
    if let Some((name, value)) = extra {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns the response to an error of poem: unknown route, unknown method, unreadable parameter.
pub(crate) fn from_poem(error: poem::Error) -> Response {
    if error.is_from_response() {
        return error.into_response();
    }
    let own = if error.is::<NotFoundError>() {
        Error::new(Kind::NotFound, "there is no such route")
    } else if error.is::<ParsePathError>() {
        Error::new(Kind::NotFound, "the path is not valid UTF-8")
    } else if error.is::<MethodNotAllowedError>() {
        Error::new(Kind::MethodNotAllowed, "this route does not know this method")
    } else if let Some(bad) = error.downcast_ref::<ParseParamError>() {
        let message = format!("the query parameter `{}` {}", bad.name, wanted(&bad.reason));
        Error::new(Kind::BadQuery, message)
    } else {
        Error::internal("poem returned an error of its own").because(error.to_string())
    };
    response(&own)
}

/// Returns what a query parameter must be. poem's reason is `failed to parse "TYPE": WHY`; for poem's own types the
/// `WHY` speaks of Rust and is not passed on.
fn wanted(reason: &str) -> &str {
    let said = reason.strip_prefix("failed to parse \"");
    let (kind, why) = said.and_then(|said| said.split_once("\": ")).unwrap_or_default();
    match kind {
        "boolean" => "must be true or false",
        "Ordering" => "must be ascending or descending",
        "DeliveryState" => "must be waiting, sending, delivered or failed",
        "BackgroundTaskStatus" => "must be running, finished or failed",
        "BackgroundTaskType" => "must be a kind of task that the API document lists, such as endpoint.recover",
        "StatisticsBy" => "must be organization, application or endpoint",
        "EndpointTrouble" => "must be failing, disabled or slow",
        integer if integer.starts_with("integer") => "must be an integer",
        _ => match why.split(" (occurred while").next() {
            Some(rule) if rule.starts_with("must be ") => rule,
            _ => "is not of its type",
        },
    }
}

/// Returns the response to a panic in a handler.
pub(crate) fn from_panic() -> Response {
    response(&Error::internal("a handler panicked"))
}

/// Returns the broken rule of an error whose response is a 422.
fn rule(error: &Error) -> ValidationError {
    let (loc, kind) = match error.kind {
        Kind::Malformed => (vec!["body".to_owned()], "value_error.jsondecode"),
        Kind::ApplicationUidMissing => (error.loc.clone(), "application_uid_missing"),
        Kind::ApplicationUidMismatch => (error.loc.clone(), "application_uid_mismatch"),
        _ => (error.loc.clone(), "value_error"),
    };
    ValidationError {
        loc,
        msg: error.message.clone(),
        kind: kind.to_owned(),
    }
}

/// Returns a response with the one body of all errors.
fn json(status: StatusCode, code: &str, detail: Detail) -> Response {
    let body = ErrorOut {
        code: code.to_owned(),
        detail,
    };
    Response::builder()
        .status(status)
        .content_type(JSON)
        .body(serde_json::to_vec(&body).unwrap_or_default())
}

/// Maps an error's kind to the response's status and `code`. Nothing else does.
fn status_and_code(kind: Kind) -> (StatusCode, &'static str) {
    match kind {
        Kind::Invalid | Kind::ApplicationUidMissing | Kind::ApplicationUidMismatch | Kind::Malformed => {
            (StatusCode::UNPROCESSABLE_ENTITY, "validation_error")
        }
        Kind::BadQuery => (StatusCode::BAD_REQUEST, "generic_error"),
        Kind::Unauthenticated => (StatusCode::UNAUTHORIZED, "authentication_failed"),
        Kind::Forbidden => (StatusCode::FORBIDDEN, "insufficient access"),
        Kind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        Kind::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
        Kind::Conflict => (StatusCode::CONFLICT, "conflict"),
        Kind::EventTypeExists => (StatusCode::CONFLICT, "event_type_exists"),
        Kind::LimitReached => (StatusCode::BAD_REQUEST, "limit_reached"),
        Kind::InvalidScheme => (StatusCode::BAD_REQUEST, "invalid_scheme"),
        Kind::NotImplemented => (StatusCode::NOT_IMPLEMENTED, "not_implemented"),
        Kind::InvalidRange => (StatusCode::BAD_REQUEST, "invalid_range"),
        Kind::MissingPayload => (StatusCode::BAD_REQUEST, "missing_payload"),
        Kind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
        Kind::TooSlow => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
        Kind::Unavailable | Kind::Database => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Kind::Config | Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
    }
}
