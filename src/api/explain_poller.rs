//! Explains over REST which pollers of its application have a message, and which of their consumers have read it.
//!
//! Must not judge: the domain does.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use crate::domain::cursor::Cursor;
use crate::domain::filter::EndpointFilter;
use crate::domain::verdict::{self, Reason, left_out};
use crate::error::Result;
use crate::service::poller::MOST_POLLERS;
use crate::service::poller_consumer::MOST_CONSUMERS;
use crate::store::entity::application::Model as Application;
use crate::store::entity::poller::Model as Poller;
use crate::store::entity::poller_consumer::Model as Consumer;
use crate::store::poll::list_keeps;
use crate::store::{PageRequest, Store, poller, poller_consumer};

/// A consumer of a poller that has a message.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct PollerVerdictConsumerOut {
    pub name: String,
    /// Whether the consumer has confirmed the message, or was moved past it.
    pub confirmed: bool,
}

/// What became of a message at a poller.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct PollerVerdictOut {
    pub poller_id: String,
    #[oai(nullable)]
    pub poller_uid: Option<String>,
    /// Whether the poller has the message.
    pub readable: bool,
    /// Why it does not. Null if it does, or if the settings of today do not explain it.
    #[oai(nullable)]
    pub reason: Option<Reason>,
    /// The verdict in a sentence or two.
    pub text: String,
    /// The consumers of a poller that has the message. A reader that keeps its place itself is none.
    pub consumers: Vec<PollerVerdictConsumerOut>,
}

/// Judges a message at each poller of its application.
pub(super) async fn explain_pollers(
    store: &Store,
    app: &Application,
    message_id: &str,
    message: &verdict::Message<'_>,
) -> Result<Vec<PollerVerdictOut>> {
    let request = PageRequest {
        limit: MOST_POLLERS,
        after: None,
        backwards: false,
        ascending: true,
    };
    let pollers = poller::list(store, &app.id, &request).await?.rows;
    if pollers.is_empty() {
        return Ok(Vec::new());
    }
    let kept = list_keeps(store, message_id).await?;
    let tx_of = |poller: &Poller| {
        kept.iter()
            .find(|row| row.poller_number == poller.number)
            .map(|row| row.tx)
    };
    let keeping = pollers.iter().filter(|poller| tx_of(poller).is_some());
    let ids: Vec<&str> = keeping.map(|poller| poller.id.as_str()).collect();
    let consumers = poller_consumer::list_of(store, &ids, MOST_POLLERS * MOST_CONSUMERS).await?;
    let verdict = |poller: Poller| match tx_of(&poller) {
        Some(tx) => readable(poller, tx, message_id, &consumers),
        None => not_readable(poller, message),
    };
    Ok(pollers.into_iter().map(verdict).collect())
}

fn readable(poller: Poller, tx: i64, message_id: &str, consumers: &[Consumer]) -> PollerVerdictOut {
    let of_poller = consumers.iter().filter(|row| row.poller_id == poller.id);
    let has_passed = |row: &Consumer| Cursor::parse(&row.place).is_some_and(|place| place.has_passed(tx, message_id));
    let consumers: Vec<_> = of_poller
        .map(|row| PollerVerdictConsumerOut {
            name: row.name.clone(),
            confirmed: has_passed(row),
        })
        .collect();
    let confirmed: Vec<bool> = consumers.iter().map(|row| row.confirmed).collect();
    PollerVerdictOut {
        poller_id: poller.id,
        poller_uid: poller.uid,
        readable: true,
        reason: None,
        text: verdict::readable(&confirmed),
        consumers,
    }
}

fn not_readable(poller: Poller, message: &verdict::Message<'_>) -> PollerVerdictOut {
    let facts = verdict::Poller {
        filter: EndpointFilter {
            event_types: poller.event_types.as_ref().map(|list| list.0.as_slice()),
            channels: poller.channels.as_ref().map(|list| list.0.as_slice()),
        },
        disabled: poller.disabled,
        created_at: poller.created_at,
        updated_at: poller.updated_at,
    };
    let (reason, text) = left_out(message, &facts);
    PollerVerdictOut {
        poller_id: poller.id,
        poller_uid: poller.uid,
        readable: false,
        reason,
        text,
        consumers: Vec::new(),
    }
}

/// Counts the pollers that have the message, and their consumers that have confirmed it; nothing if there is no poller.
pub(super) fn count_in_words(pollers: &[PollerVerdictOut]) -> String {
    if pollers.is_empty() {
        return String::new();
    }
    let readable = pollers.iter().filter(|row| row.readable).count();
    let mut text = format!(" Pollers that have it: {readable} of {}", pollers.len());
    let consumers: Vec<_> = pollers.iter().flat_map(|row| &row.consumers).collect();
    if !consumers.is_empty() {
        let confirmed = consumers.iter().filter(|row| row.confirmed).count();
        text.push_str(&format!(
            "; consumers that have confirmed it: {confirmed} of {}",
            consumers.len()
        ));
    }
    text + "."
}
