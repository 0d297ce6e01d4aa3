//! The one error of the crate: a kind in business words, a message for the caller, a source for the log.
//! It knows no HTTP status (api maps kinds) and no SQL (store maps database errors to kinds). Used by all.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the words of the contract's error table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A value breaks a rule of the request; `Error::loc` names it.
    Invalid,
    /// An application is to be made on the way, and has no uid.
    ApplicationUidMissing,
    /// An application is to be made on the way, and its uid is not the one that the path names.
    ApplicationUidMismatch,
    /// The body is not JSON, or not an object.
    Malformed,
    /// A query parameter is not of its type.
    BadQuery,
    /// No token, or none that is known.
    Unauthenticated,
    /// An application's token where an organization's is needed.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// A uid or an eventId is taken.
    Conflict,
    EventTypeExists,
    LimitReached,
    /// An event type's schema has no example to send.
    InvalidScheme,
    /// Only the hosted service has this.
    NotImplemented,
    /// The content of a message is gone.
    MissingPayload,
    /// A time from one instant to another is too long, upside down or in the future.
    InvalidRange,
    TooLarge,
    /// The body of a request did not arrive in time.
    TooSlow,
    /// Overload, or the database is away: try again later.
    Unavailable,
    /// A setting or an operator's command is wrong: nothing was started.
    Config,
    /// The database did not answer, or its answer was lost: what was asked may have happened.
    Database,
    /// A fault of ours.
    Internal,
}

#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    /// Where the offending value stands, as in `["body", "uid"]`; empty where no value is to blame.
    pub loc: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            loc: Vec::new(),
            source: None,
        }
    }

    /// A rule of the request body is broken by the value at `field` (a name, or a path such as `headers.x-a`).
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message).at(["body".to_owned(), field.into()])
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("{what} not found"))
    }

    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    pub fn at<S: Into<String>>(mut self, loc: impl IntoIterator<Item = S>) -> Self {
        self.loc = loc.into_iter().map(Into::into).collect();
        self
    }

    /// The same, of a value that stands inside `field` of the body.
    pub fn within(mut self, field: &str) -> Self {
        if !self.loc.is_empty() {
            self.loc.insert(1, field.to_owned());
        }
        self
    }

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
