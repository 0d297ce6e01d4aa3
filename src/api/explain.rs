//! Explains over REST why a message was or was not sent to each endpoint of its application. Reads only.
//!
//! Must not judge: the domain does.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::explain_poller::{PollerVerdictOut, count_in_words, explain_pollers};
use super::rights::{AnyToken, View};
use super::wire::error::{ApiError, Read};
use super::wire::paging::{Iterates, Limit, ListQuery};
use super::wire::response::Answer;
use super::wire::values::Instant;
use super::{ApiState, Tag};
use crate::domain::filter::EndpointFilter;
use crate::domain::id::Prefix;
use crate::domain::verdict::{self, Judgement, Reason, Tries, Verdict, judge};
use crate::error::{Error, Kind, Result};
use crate::store::entity::application::Model as Application;
use crate::store::entity::endpoint::Model as Endpoint;
use crate::store::progress::{Pair, Progress, find_progress, find_tries};
use crate::store::{Page, PageRequest, Store, endpoint, event_type, message};

/// The newest attempts of the message that are counted, at all endpoints together.
const MOST_ATTEMPTS: u64 = 50_000;
/// The deliveries of the message that are looked at: more than an application may have endpoints.
const MOST_DELIVERIES: u64 = 100_000;

/// What became of a message at one endpoint.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EndpointVerdictOut {
    pub endpoint_id: String,
    #[oai(nullable)]
    pub endpoint_uid: Option<String>,
    pub url: String,
    pub verdict: Verdict,
    /// Why the message was not sent. Null if it was, or if the settings of today do not explain it.
    #[oai(nullable)]
    pub reason: Option<Reason>,
    /// The verdict in a sentence or two.
    pub text: String,
    /// The number of attempts that were made.
    pub attempts: i64,
    /// The status of the last answer; 0 if there was none, null if there was no attempt.
    #[oai(nullable)]
    pub last_status_code: Option<i32>,
    /// Why the last attempt got no answer; null if it got one.
    #[oai(nullable)]
    pub last_error: Option<String>,
    /// When the next attempt is due; null if there is none, or if it waits until the endpoint may get more requests.
    #[oai(nullable)]
    pub next_attempt_at: Option<Instant>,
}

/// What became of a message at the endpoints and pollers of its application.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct ExplanationOut {
    pub msg_id: String,
    #[oai(nullable)]
    pub event_id: Option<String>,
    pub event_type: String,
    pub created_at: Instant,
    /// How many endpoints of this page have which verdict, and how many pollers have the message, in words.
    pub text: String,
    /// The endpoints, newest first.
    pub data: Vec<EndpointVerdictOut>,
    /// All pollers of the application, on each page.
    #[serde(default)]
    pub pollers: Vec<PollerVerdictOut>,
    /// Goes on after this page; null if it is empty and the last one.
    #[oai(nullable)]
    pub iterator: Option<String>,
    /// Goes back before this page.
    #[oai(nullable)]
    pub prev_iterator: Option<String>,
    pub done: bool,
}

pub(crate) struct Explanations;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Message")]
impl Explanations {
    /// Explain where a message went
    ///
    /// Every endpoint of the application with a verdict: why it got the message, or why not. Endpoints that were deleted
    /// after the message are among them, and those that were deleted before it. Settings are judged as they are today;
    /// if an endpoint was changed since, its text says so. Pollers are told too: whether they have the message, and which
    /// consumers have confirmed it. A page has at most 250 endpoints, which is also the default, and may have fewer;
    /// `done` says whether it is the last.
    #[oai(
        path = "/app/:app_id/msg/:msg_id/explain",
        method = "get",
        operation_id = "v1.message.explain"
    )]
    async fn get(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        msg_id: Path<String>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
    ) -> Result<Answer<ExplanationOut>, ApiError<Read>> {
        let limit = Query(limit.0.or(Some(Limit::MOST)));
        let request = ListQuery { limit, iterator }.request(&Iterates::Over(Prefix::Endpoint), false)?;
        let app = caller.application(&state.store, &app_id.0).await?;
        Ok(Answer::ok(&explain(&state.store, &app, &msg_id.0, &request).await?)?)
    }
}

/// Explains what became of a message of `app`, by its id or its event id, at a page of the application's endpoints.
///
/// # Errors
/// `NotFound` if there is no such message.
pub(crate) async fn explain(
    store: &Store,
    app: &Application,
    id: &str,
    request: &PageRequest,
) -> Result<ExplanationOut> {
    let message = message::get(store, &app.id, id).await?;
    let page = endpoint::list_with_deleted(store, &app.id, request).await?;
    let [first, last] = [page.rows.first(), page.rows.last()].map(|row| row.map(|row| row.id.clone()));
    let done = page.done;
    let facts = verdict::Message {
        event_type: &message.event_type,
        is_registered: event_type::find(store, &app.org_id, &message.event_type)
            .await?
            .is_some(),
        channels: message.channels.as_ref().map_or(&[][..], |list| list.0.as_slice()),
        created_at: message.created_at,
        has_payload: message::has_content(store, &app.id, &message.id).await?,
    };
    let pollers = explain_pollers(store, app, &message.id, &facts).await?;
    let data = verdicts(store, app, &message.id, &facts, page).await?;
    let text = summary(&data, done && request.after.is_none()) + &count_in_words(&pollers);
    Ok(ExplanationOut {
        msg_id: message.id,
        event_id: message.event_id,
        event_type: message.event_type,
        created_at: Instant(message.created_at),
        text,
        data,
        pollers,
        iterator: last,
        prev_iterator: first.map(|id| format!("-{id}")),
        done,
    })
}

/// Judges what became of the message at each endpoint of the page. Leaves out endpoints that were created after the
/// message and deleted since.
async fn verdicts(
    store: &Store,
    app: &Application,
    message_id: &str,
    facts: &verdict::Message<'_>,
    page: Page<Endpoint>,
) -> Result<Vec<EndpointVerdictOut>> {
    let pair = |endpoint: &Endpoint| Pair {
        message_id: message_id.to_owned(),
        endpoint_id: endpoint.id.clone(),
    };
    let progress = find_progress(store, &app.id, &[message_id], MOST_DELIVERIES, store.clock().now()).await?;
    let progress = progress.ok_or_else(|| Error::new(Kind::Unavailable, "the message has too many deliveries"))?;
    let pairs: Vec<Pair> = page
        .rows
        .iter()
        .map(pair)
        .filter(|pair| progress.contains_key(pair))
        .collect();
    let mut tries = match pairs.is_empty() {
        true => Default::default(),
        false => find_tries(store, &app.id, &pairs.iter().collect::<Vec<_>>(), MOST_ATTEMPTS).await?,
    };
    let mut data = Vec::with_capacity(page.rows.len());
    for endpoint in page.rows {
        let pair = pair(&endpoint);
        let known = progress.get(&pair).copied();
        if known.is_none() && endpoint.deleted_at.is_some() && endpoint.created_at > facts.created_at {
            continue;
        }
        let tries = tries.remove(&pair).unwrap_or_default();
        data.push(out(facts, endpoint, known.unwrap_or_default(), tries));
    }
    Ok(data)
}

fn out(message: &verdict::Message<'_>, endpoint: Endpoint, progress: Progress, tries: Tries) -> EndpointVerdictOut {
    let facts = verdict::Endpoint {
        filter: EndpointFilter {
            event_types: endpoint.event_types.as_ref().map(|list| list.0.as_slice()),
            channels: endpoint.channels.as_ref().map(|list| list.0.as_slice()),
        },
        disabled: endpoint.disabling().map(|disabling| (disabling.at, disabling.reason)),
        created_at: endpoint.created_at,
        updated_at: endpoint.updated_at,
        deleted_at: endpoint.deleted_at,
    };
    let Judgement { verdict, reason, text } = judge(message, &facts, progress.state(), progress.queued, &tries);
    EndpointVerdictOut {
        endpoint_id: endpoint.id,
        endpoint_uid: endpoint.uid,
        url: endpoint.url,
        verdict,
        reason,
        text,
        attempts: tries.attempts,
        last_status_code: tries.last_status,
        last_error: tries.last_error,
        next_attempt_at: progress.next_at().map(Instant),
    }
}

/// Counts the verdicts in words. `is_all` means that there are no other endpoints.
fn summary(data: &[EndpointVerdictOut], is_all: bool) -> String {
    let words = [
        (Verdict::Delivered, "delivered"),
        (Verdict::Sending, "being sent"),
        (Verdict::Waiting, "waiting"),
        (Verdict::Failed, "failed"),
        (Verdict::NotSent, "not sent"),
    ];
    let counts = words.iter().filter_map(|(verdict, word)| {
        let count = data.iter().filter(|row| row.verdict == *verdict).count();
        (count > 0).then(|| format!("{count} {word}"))
    });
    match data.len() {
        0 if is_all => "The application has no endpoints.".to_owned(),
        0 => "No endpoint of this page existed when the message was accepted.".to_owned(),
        1 => format!("At 1 endpoint: {}.", counts.collect::<Vec<_>>().join(", ")),
        endpoints => format!("At {endpoints} endpoints: {}.", counts.collect::<Vec<_>>().join(", ")),
    }
}
