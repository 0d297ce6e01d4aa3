//! What the response to a single attempt shows beside the contract's fields: why it failed, the headers of both sides,
//! the receiver's address and the times.
//!
//! Must not read rows, and must not show a signature or the value of a custom header.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use crate::domain::failure::{Failure, Phase};
use crate::domain::request_headers::Sent;
use crate::domain::target::parse_url;
use crate::store::entity::attempt::Model;

/// Why an attempt failed.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct AttemptErrorOut {
    /// The step that failed. `resolve`: the host's name has no address. `connect`: there was no connection. `tls`: TLS
    /// failed. `send`: the request could not be made. `answer`: there was no answer, or one with another status than 2xx. `target`: the target must not be called. With an application's token a name that does not exist
    /// and an address that is not public are both `target`, with one text.
    phase: Phase,
    /// The error in words.
    text: String,
}

/// A header of an answer.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct ResponseHeaderOut {
    name: String,
    value: String,
}

/// A header of a request.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct RequestHeaderOut {
    name: String,
    /// Null if it is not shown: a signature, or the value of a custom header.
    #[oai(nullable)]
    value: Option<String>,
}

/// How long the phases of an attempt took, in milliseconds. A phase that there was none of is absent: `resolve`, `connect`
/// and `tls` if the connection was open already.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct AttemptPhasesOut {
    #[serde(skip_serializing_if = "Option::is_none")]
    resolve: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<u32>,
    /// From the time when the connection was there until the head of the answer was.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte: Option<u32>,
    /// The whole attempt, with the body of the answer.
    total: i64,
}

/// What is kept of a failed attempt, as it is shown.
pub struct FailureOut {
    pub error: AttemptErrorOut,
    /// `None` means that there was no answer, or that none of its headers is kept.
    pub response_headers: Option<Vec<ResponseHeaderOut>>,
    /// `None` means false.
    pub response_headers_cut: Option<bool>,
    pub peer: Option<String>,
    pub phases_ms: AttemptPhasesOut,
}

impl FailureOut {
    /// Returns what is shown of a failed attempt; `None` if nothing is kept. `is_limited` means that the caller's token is
    /// an application's.
    pub fn new(row: &Model, is_limited: bool) -> Option<Self> {
        let mut failure = Failure::parse(row.detail.as_deref()?)?;
        if is_limited {
            failure = failure.for_application();
        }
        let header = |(name, value)| ResponseHeaderOut { name, value };
        Some(Self {
            error: AttemptErrorOut {
                phase: failure.phase,
                text: failure.text(row.response_status, &row.response),
            },
            response_headers: (row.response_status != 0 && !failure.headers.is_empty())
                .then(|| failure.headers.into_iter().map(header).collect()),
            response_headers_cut: failure.headers_cut.then_some(true),
            peer: failure.peer.map(|peer| peer.to_string()),
            phases_ms: AttemptPhasesOut {
                resolve: failure.phases.resolve,
                connect: failure.phases.connect,
                tls: failure.phases.tls,
                first_byte: failure.phases.first_byte,
                total: row.duration_ms,
            },
        })
    }
}

/// Returns the headers of the request that an attempt made, as far as they follow from the message and from `custom`, the
/// names of the endpoint's custom headers of today. `None` means that the URL that was called cannot be read.
pub fn request_headers<'a>(
    row: &Model,
    content_type: Option<&str>,
    svix: bool,
    custom: impl IntoIterator<Item = &'a str>,
) -> Option<Vec<RequestHeaderOut>> {
    let url = parse_url(&row.url).ok()?;
    let sent = Sent {
        host: &url[url::Position::BeforeHost..url::Position::AfterPort],
        content_type,
        message_id: &row.message_id,
        at: row.created_at,
        svix,
    };
    let header = |(name, value)| RequestHeaderOut { name, value };
    Some(sent.shown(custom).into_iter().map(header).collect())
}
