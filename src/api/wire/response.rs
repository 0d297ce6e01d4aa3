//! Makes responses of requests that succeed: their status, and their body as JSON directly from serde.
//!
//! Must not make the response to a failure: error.rs does.

use std::marker::PhantomData;

use poem::http::StatusCode;
use poem::{IntoResponse, Response};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, Object};
use serde::{Deserialize, Serialize};

use super::error;
use super::values::JSON;
use crate::error::{Error, Result};
use crate::store::database::request;
use crate::store::idempotency::Reply;

/// The statuses that an operation may succeed with, each with its description in the API document.
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

/// A response with a body of the shape `T`, whose possible statuses are those of `S`.
pub struct Answer<T, S = Done> {
    status: StatusCode,
    /// JSON; empty with a 204.
    body: Vec<u8>,
    shape: PhantomData<fn() -> (T, S)>,
}

impl<T: Serialize, S> Answer<T, S> {
    /// Makes a response with this body.
    ///
    /// # Errors
    /// `Internal` if the value cannot be written as JSON; all of our values can.
    pub fn new(status: StatusCode, body: &T) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(not_json)?;
        Ok(Self::of_json(status, body))
    }

    /// Makes a 200 with this body.
    ///
    /// # Errors
    /// As [`Answer::new`].
    pub fn ok(body: &T) -> Result<Self> {
        Self::new(StatusCode::OK, body)
    }
}

impl<T, S> Answer<T, S> {
    /// Makes a response with this body, which is JSON of the shape `T`.
    pub fn of_json(status: StatusCode, body: Vec<u8>) -> Self {
        Self {
            status,
            body,
            shape: PhantomData,
        }
    }

    /// Makes a 204, for a caller that asked for no body.
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

/// Makes a reply that can be stored under an idempotency key.
///
/// # Errors
/// As [`Answer::new`].
pub(crate) fn reply(status: u16, body: &impl Serialize) -> Result<Reply> {
    let body = serde_json::to_string(body).map_err(not_json)?;
    Ok(Reply { status, body })
}

/// Returns the error for a value that cannot be written as JSON.
pub(crate) fn not_json(err: serde_json::Error) -> Error {
    Error::internal("a response cannot be written as JSON").because(err)
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

/// A 204.
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
