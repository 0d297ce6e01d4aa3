//! The error type of the whole crate: a kind in business words, a message for the caller, a source for the log.
//!
//! Must not know HTTP statuses or SQL: `api` maps each kind to a status, `store` maps each database error to a kind.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of failure, in the words of the API's error table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A value breaks a rule of the request; `Error::loc` says where the value stands.
    Invalid,
    /// The request creates its application on the way, but gives it no uid.
    ApplicationUidMissing,
    /// The request creates its application on the way, but with another uid than the path names.
    ApplicationUidMismatch,
    /// The body is not JSON, or not an object.
    Malformed,
    /// A query parameter is not of its type.
    BadQuery,
    /// The token is missing, unknown, revoked or expired.
    Unauthenticated,
    /// The token is valid, but it belongs to an application where an organization's is needed, or lacks a capability.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// A uid, an event id or a name is taken, or an idempotency key came with another body before.
    Conflict,
    EventTypeExists,
    /// The application, endpoint or organization has as many of something as it may have.
    LimitReached,
    /// An event type's schema has no example to send.
    InvalidScheme,
    /// Only the hosted service whose API this program speaks has the operation.
    NotImplemented,
    /// The payload of a message has expired or was expunged.
    MissingPayload,
    /// A range of time is too long, ends before it begins, or lies in the future.
    InvalidRange,
    /// The body of a request is too large.
    TooLarge,
    /// The body of a request did not arrive in time.
    TooSlow,
    /// The process is overloaded, or cannot do this at the moment: the caller may try again.
    Unavailable,
    /// A setting or a command of the operator is wrong.
    Config,
    /// The database did not answer, or its answer was lost: the statement may have taken effect.
    Database,
    /// A fault of this program.
    Internal,
}

/// A failure of any part of the program.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    /// What went wrong. Error responses of the API show it, except for `Internal`, `Config` and `Database`.
    pub message: String,
    /// The path of the offending value, such as `["body", "uid"]`. Empty if no value is to blame.
    pub loc: Vec<String>,
    /// The underlying error, for the log. Error responses of the API leave it out.
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Returns an error without location and source.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            loc: Vec::new(),
            source: None,
        }
    }

    /// Returns an error of kind `Invalid` for the value at `field` of the request body. `field` is a name, or a path
    /// such as `headers.x-a`.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message).at(["body".to_owned(), field.into()])
    }

    /// Returns an error of kind `NotFound`. `what` is the kind of thing, such as `endpoint`.
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("{what} not found"))
    }

    /// Returns an error of kind `Config`.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// Returns an error of kind `Unavailable`.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// Returns an error of kind `Internal`.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Sets the path of the offending value.
    pub fn at<S: Into<String>>(mut self, loc: impl IntoIterator<Item = S>) -> Self {
        self.loc = loc.into_iter().map(Into::into).collect();
        self
    }

    /// Moves the path of the offending value below `field` of the body. An error without a path keeps none.
    pub fn within(mut self, field: &str) -> Self {
        if !self.loc.is_empty() {
            self.loc.insert(1, field.to_owned());
        }
        self
    }

    /// Sets the underlying error.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
