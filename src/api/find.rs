//! Search over REST: finds things of an organization by a text.
//!
//! Must not search itself: the store does.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::{Enum, Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::rights::{Organization, View};
use super::wire::error::{ApiError, Read};
use super::wire::paging::bad_query;
use super::wire::response::Answer;
use super::{ApiState, Tag};
use crate::domain::identifier::check_tag;
use crate::store::find::{self, Found, Kind, Matched};

/// The kind of a thing that was found.
#[derive(Clone, Copy, Debug, Deserialize, Enum, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub enum FoundKind {
    Application,
    Endpoint,
    Poller,
    Message,
    Attempt,
    EventType,
    Task,
}

/// What of a thing is the text: its id (of an event type its name), its uid, its event id, or one of its tags.
#[derive(Clone, Copy, Debug, Deserialize, Enum, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub enum FoundBy {
    Id,
    Uid,
    EventId,
    Tag,
}

/// A thing that was found, with what its path needs.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct FoundOut {
    kind: FoundKind,
    id: String,
    /// The application; absent for event types and operational endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<String>,
    /// The application's uid, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_uid: Option<String>,
    /// The uid of an application, endpoint or poller, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    /// The message of an attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_id: Option<String>,
    /// The endpoint of an attempt or background task.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<String>,
    matched: FoundBy,
}

/// The result of a search.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct FindOut {
    data: Vec<FoundOut>,
    /// Whether there may be more than `data` holds.
    truncated: bool,
}

impl From<Found> for FoundOut {
    fn from(found: Found) -> Self {
        Self {
            kind: match found.kind {
                Kind::Application => FoundKind::Application,
                Kind::Endpoint => FoundKind::Endpoint,
                Kind::Poller => FoundKind::Poller,
                Kind::Message => FoundKind::Message,
                Kind::Attempt => FoundKind::Attempt,
                Kind::EventType => FoundKind::EventType,
                Kind::Task => FoundKind::Task,
            },
            id: found.id,
            app_id: found.app_id,
            app_uid: found.app_uid,
            uid: found.uid,
            msg_id: found.message_id,
            endpoint_id: found.endpoint_id,
            matched: match found.matched {
                Matched::Id => FoundBy::Id,
                Matched::Uid => FoundBy::Uid,
                Matched::EventId => FoundBy::EventId,
                Matched::Tag => FoundBy::Tag,
            },
        }
    }
}

pub(crate) struct Search;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Search")]
impl Search {
    /// Find things
    ///
    /// Finds what has the text as its id, uid, event id, name or tag, in all applications that are not deleted. Only the
    /// newest 1,000 applications are searched, of an attempt only 1,000 endpoints, and of event ids the newest that
    /// 1,000 look-ups reach; each way of searching returns at most 50 things. `truncated` says whether there may be more.
    /// An id that exists ends the search.
    #[oai(path = "/find", method = "get", operation_id = "v1.find")]
    async fn find(
        &self,
        caller: Organization<View>,
        state: Data<&Arc<ApiState>>,
        /// The text to find, of 1 to 256 characters. White space around it does not count.
        q: Query<String>,
    ) -> Result<Answer<FindOut>, ApiError<Read>> {
        let text = q.0.trim();
        check_tag(text).map_err(|rule| bad_query("q", rule))?;
        let findings = find::find(&state.store, &caller.0.org_id, text).await?;
        Ok(Answer::ok(&FindOut {
            data: findings.found.into_iter().map(FoundOut::from).collect(),
            truncated: findings.is_truncated,
        })?)
    }
}
