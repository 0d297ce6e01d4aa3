//! What a search returns: the things that were found, and whether there may be more.
//!
//! Must not query the database.

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Application,
    Endpoint,
    Poller,
    Message,
    Attempt,
    EventType,
    Task,
}

/// What of a thing equals the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Matched {
    Id,
    Uid,
    EventId,
    Tag,
}

/// A thing that was found, with what its path needs.
#[derive(Clone, Debug)]
pub struct Found {
    pub kind: Kind,
    /// The id; of an event type its name.
    pub id: String,
    /// The application; `None` if the thing belongs to the organization itself, as operational endpoints do.
    pub app_id: Option<String>,
    pub app_uid: Option<String>,
    /// The uid of an application, endpoint or poller.
    pub uid: Option<String>,
    /// The message of an attempt.
    pub message_id: Option<String>,
    /// The endpoint of an attempt or a background task.
    pub endpoint_id: Option<String>,
    pub matched: Matched,
}

/// The result of a search.
#[derive(Debug, Default)]
pub struct Findings {
    pub found: Vec<Found>,
    /// Whether there may be more.
    pub is_truncated: bool,
}

impl Found {
    pub fn new(kind: Kind, id: String, matched: Matched) -> Self {
        Self {
            kind,
            id,
            app_id: None,
            app_uid: None,
            uid: None,
            message_id: None,
            endpoint_id: None,
            matched,
        }
    }
}

impl Findings {
    /// Returns a result that has everything there is.
    pub fn whole(found: impl IntoIterator<Item = Found>) -> Self {
        Self {
            found: found.into_iter().collect(),
            is_truncated: false,
        }
    }

    pub fn add(&mut self, other: Self) {
        self.found.extend(other.found);
        self.is_truncated |= other.is_truncated;
    }
}
