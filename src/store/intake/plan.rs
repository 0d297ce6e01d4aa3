//! Plans a batch: which members it takes, and which endpoints and pollers get each of them.
//!
//! Must not query the database. Must not decide whether the filter of an endpoint accepts a message: the domain does.

use std::sync::Arc;

use super::apps::{App, Endpoint, Named};
use super::member::Member;
use crate::domain::filter::{self, EndpointFilter};
use crate::domain::poller_number::PollerNumber;
use crate::domain::typed_id::AppId;
use crate::store::message_reply::MessageReply;

/// The most deliveries in one batch. If a single message has more, its batch is larger, and each statement inserts at
/// most so many.
pub(super) const BATCH_DELIVERIES: usize = 5_000;

/// A member whose application exists, with the endpoints and pollers that get it.
pub(super) struct Plan<'a> {
    pub member: &'a Member,
    pub app: Arc<App>,
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The pollers that get it.
    pub pollers: Vec<PollerNumber>,
    /// The message's channels as they are stored: a JSON array, or `None` if it has none.
    pub channels: Option<String>,
    /// The message's tags, in the same form.
    pub tags: Option<String>,
}

/// An event id of an application.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub(super) struct EventName<'a> {
    pub app_id: &'a AppId,
    pub event_id: &'a str,
}

impl Plan<'_> {
    /// Returns the member's event id with its application; `None` if it has none.
    pub fn event_id(&self) -> Option<EventName<'_>> {
        Some(EventName {
            app_id: &self.app.id,
            event_id: self.member.message.event_id.as_deref()?,
        })
    }

    /// Returns the instant at which the payload may be removed, in microseconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.member.created_at.plus(self.member.message.retention).0
    }

    /// Returns the reply that the member gets if it is stored, and that its key is to have.
    pub fn reply(&self) -> MessageReply<'_> {
        MessageReply {
            app_id: self.app.id.as_str(),
            message_id: self.member.id.as_str(),
            created_at: self.member.created_at,
        }
    }
}

/// Plans the first members: as many as have at most [`BATCH_DELIVERIES`] together, and at least one. `None` stands for
/// a member whose application does not exist.
pub(super) fn plan<'a>(apps: &Named<'_>, members: &'a [Member]) -> Vec<Option<Plan<'a>>> {
    let mut deliveries = 0;
    let mut plans = Vec::with_capacity(members.len());
    for member in members {
        let plan = apps.get(&member.app_name()).map(|app| Plan {
            member,
            app: app.clone(),
            endpoints: wanting(member, app),
            pollers: wanting_pollers(member, app),
            channels: json_list(&member.message.channels),
            tags: json_list(&member.message.tags),
        });
        deliveries += plan.as_ref().map_or(0, |plan| plan.endpoints.len());
        if deliveries > BATCH_DELIVERIES && !plans.is_empty() {
            break;
        }
        plans.push(plan);
    }
    plans
}

/// Returns the endpoints of `app` that get the member.
fn wanting(member: &Member, app: &App) -> Vec<Arc<Endpoint>> {
    let message = &member.message;
    let wanting = app.endpoints.iter().filter(|endpoint| {
        if let Some(only) = &message.only_to {
            return endpoint.id.as_str() == only;
        }
        let filter = EndpointFilter {
            event_types: endpoint.event_types.as_deref(),
            channels: endpoint.channels.as_deref(),
        };
        filter::accepts(&filter, &message.event_type, &message.channels)
    });
    wanting.cloned().collect()
}

/// Returns the pollers of `app` that get the member. A message for a single endpoint is for none.
fn wanting_pollers(member: &Member, app: &App) -> Vec<PollerNumber> {
    let message = &member.message;
    let wanting = app.pollers.iter().filter(|poller| {
        let filter = EndpointFilter {
            event_types: poller.event_types.as_deref(),
            channels: poller.channels.as_deref(),
        };
        message.only_to.is_none() && filter::accepts(&filter, &message.event_type, &message.channels)
    });
    wanting.map(|poller| poller.number).collect()
}

/// Returns texts as a JSON array; `None` if there are none.
fn json_list(texts: &[String]) -> Option<String> {
    match texts {
        [] => None,
        some => Some(serde_json::to_string(some).expect("text is JSON")),
    }
}
