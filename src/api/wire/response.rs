//! Answers that succeed: their status, and their body as JSON straight from serde. Called by the resources of api.

use std::marker::PhantomData;

use poem::http::StatusCode;
use poem::{IntoResponse, Response};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, Object};
use serde::{Deserialize, Serialize};

use super::error;
use crate::error::{Error, Result};
use crate::store::database::request;
use crate::store::idempotency::Reply;

pub(crate) const JSON: &str = "application/json";

/// The statuses that an operation may succeed with.
pub trait Successes: Send + Sync + 'static {
    const LIST: &'static [(u16, &'static str)];
}

macro_rules! successes {
    ($($name:ident: $($status:literal $text:literal),+;)+) => {$(
        pub struct $name;
        impl Successes for $name {
            const LIST: &'static [(u16, &'static str)] = &[$(($status, $text)),+];
        }
    )+};
}

successes! {
    Done: 200 "Done.";
    Created: 201 "Created.";
    CreatedOrFound: 200 "It existed already.", 201 "Created.";
    CreatedOrReplaced: 200 "Replaced.", 201 "Created.";
    Accepted: 202 "Accepted.";
}

/// A body of the shape `T`, with a status of `S`.
pub struct Answer<T, S = Done> {
    status: StatusCode,
    body: Vec<u8>,
    shape: PhantomData<fn() -> (T, S)>,
}

impl<T: Serialize, S> Answer<T, S> {
    /// # Errors
    /// `Internal` when the value is no JSON, which no value of ours is.
    pub fn new(status: StatusCode, body: &T) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(not_json)?;
        Ok(Self {
            status,
            body,
            shape: PhantomData,
        })
    }

    /// # Errors
    /// As [`Answer::new`].
    pub fn ok(body: &T) -> Result<Self> {
        Self::new(StatusCode::OK, body)
    }
}

impl<T, S> Answer<T, S> {
    /// 204, for a caller who takes no body.
    pub fn empty() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            body: Vec::new(),
            shape: PhantomData,
        }
    }
}

impl<T, S> From<Reply> for Answer<T, S> {
    fn from(reply: Reply) -> Self {
        Self {
            status: StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK),
            body: reply.body.into_bytes(),
            shape: PhantomData,
        }
    }
}

/// A reply that can be kept for a repeated request.
///
/// # Errors
/// As [`Answer::new`].
pub(crate) fn reply(status: u16, body: &impl Serialize) -> Result<Reply> {
    let body = serde_json::to_string(body).map_err(not_json)?;
    Ok(Reply { status, body })
}

pub(crate) fn not_json(err: serde_json::Error) -> Error {
    Error::internal("an answer cannot be written as JSON").because(err)
}

impl<T: Send, S: Send> IntoResponse for Answer<T, S> {
    fn into_response(self) -> Response {
        if self.status == StatusCode::NO_CONTENT {
            return self.status.into_response();
        }
        match request::keep(self.body) {
            Ok(body) => Response::builder().status(self.status).content_type(JSON).body(body),
            Err(err) => error::response(&err),
        }
    }
}

impl<T: Type, S: Successes> ApiResponse for Answer<T, S> {
    fn meta() -> MetaResponses {
        let responses = S::LIST.iter().map(|(status, description)| MetaResponse {
            description,
            status: Some(*status),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: JSON,
                schema: T::schema_ref(),
            }],
            headers: vec![],
        });
        MetaResponses {
            responses: responses.collect(),
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// A body without fields.
#[derive(Debug, Deserialize, Object, Serialize)]
#[oai(rename = "EmptyOut")]
pub struct Nothing {}

/// 204: there is nothing to say.
pub struct Empty;

impl IntoResponse for Empty {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl ApiResponse for Empty {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Done; the answer has no body.",
                status: Some(204),
                status_range: None,
                content: vec![],
                headers: vec![],
            }],
        }
    }

    fn register(_: &mut Registry) {}
}
