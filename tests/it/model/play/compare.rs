//! Compares what has arrived, and what the API and the queue's table show, with the model.

use postrider::domain::timestamp::Timestamp;
use serde_json::Value;
use standardwebhooks::Webhook;

use super::Play;
use crate::harness::{Arrival, rows};
use crate::model::expected::Request;

/// A row of the queue.
pub(super) struct Queued {
    pub message: String,
    pub endpoint: String,
    pub is_manual: bool,
    attempts_made: usize,
    pub due_at: Option<Timestamp>,
}

impl From<&sea_orm::QueryResult> for Queued {
    fn from(row: &sea_orm::QueryResult) -> Self {
        let text = |name| row.try_get("", name).expect("a text");
        Self {
            message: text("message_id"),
            endpoint: text("endpoint_id"),
            is_manual: row.try_get::<i16>("", "trigger").expect("a number") == 1,
            attempts_made: row
                .try_get::<i32>("", "attempts_made")
                .expect("a number")
                .unsigned_abs() as usize,
            due_at: row
                .try_get::<Option<i64>>("", "due_at")
                .expect("a number")
                .map(Timestamp),
        }
    }
}

impl Queued {
    fn shown(self) -> (String, String, bool, usize) {
        (self.message, self.endpoint, self.is_manual, self.attempts_made)
    }
}

pub(super) fn text(row: &Value, field: &str) -> String {
    row[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field}: {row}"))
        .to_owned()
}

fn number(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or_else(|| panic!("{field}: {row}"))
}

/// Returns whether an arrival is this request, made at this instant and signed with exactly its secrets.
fn is_arrival(request: &Request, arrival: &Arrival, now: Timestamp) -> bool {
    let seconds = now.unix_seconds();
    let sign = |secret: &String| {
        let webhook = Webhook::new(secret).expect("a secret");
        webhook
            .sign(&request.message_id, seconds, &arrival.body)
            .expect("a body of text")
    };
    let header = request.header.map(|value| value.to_string());
    request.path == arrival.path
        && request.message_id == arrival.message_id()
        && serde_json::from_slice::<Value>(&arrival.body).is_ok_and(|payload| payload == request.payload)
        && arrival.header("x-model") == header.as_deref()
        && arrival.header("webhook-timestamp") == Some(&seconds.to_string())
        && arrival.header("webhook-signature") == Some(&request.secrets.iter().map(sign).collect::<Vec<_>>().join(" "))
}

impl Play<'_, '_> {
    /// Compares the arrivals since the last call with the requests that must have arrived.
    pub(super) fn compare_arrivals(&mut self, mut requests: Vec<Request>) {
        let arrivals = self.receiver.arrivals();
        for arrival in &arrivals[self.seen..] {
            let is_it = |request: &Request| is_arrival(request, arrival, self.expected.now);
            match requests.iter().position(is_it) {
                Some(at) => drop(requests.swap_remove(at)),
                None => panic!("a request that the model does not have: {arrival:?}; it has {requests:?}"),
            }
        }
        self.seen = arrivals.len();
        assert_eq!(requests, [], "requests that have not arrived");
    }

    pub(super) async fn queued(&self) -> Vec<Queued> {
        let id = self.app.trim_start_matches("/app/");
        let sql = format!(
            "select message_id, endpoint_id, trigger, attempts_made, due_at from delivery where app_id = '{id}'"
        );
        rows(&self.api().rig.db, &sql).await.iter().map(Queued::from).collect()
    }

    /// Compares all that the API and the queue's table show with the model.
    pub(super) async fn compare(&mut self) {
        self.compare_deliveries().await;
        self.compare_endpoints().await;
        self.compare_attempts().await;
        self.compare_queue(self.queued().await);
    }

    pub(super) fn compare_queue(&self, queued: Vec<Queued>) {
        let mut queued: Vec<_> = queued.into_iter().map(Queued::shown).collect();
        queued.sort();
        assert_eq!(queued, self.expected.rows(), "the rows of the queue");
    }

    async fn compare_deliveries(&self) {
        let listed = self.api().walk(&format!("{}/delivery", self.app), 250).await;
        let listed = listed.iter().map(|row| {
            let [message, endpoint, state] = ["msgId", "endpointId", "state"].map(|field| text(row, field));
            (message, endpoint, state, number(row, "attempts") as usize)
        });
        let mut listed: Vec<_> = listed.collect();
        listed.sort();
        let wanted = self.expected.deliveries().into_iter();
        let wanted: Vec<_> = wanted
            .map(|(message, endpoint, state, attempts)| (message, endpoint, state.to_owned(), attempts))
            .collect();
        assert_eq!(listed, wanted, "the deliveries");
    }

    async fn compare_endpoints(&self) {
        let listed = self.api().walk(&format!("{}/endpoint", self.app), 250).await;
        let listed = listed.iter().map(|row| {
            let reason = row["disabledReason"].as_str().map(str::to_owned);
            assert_eq!(row["disabled"], reason.is_some(), "{row}");
            (text(row, "id"), reason, row["failingSince"].as_str().map(str::to_owned))
        });
        let mut listed: Vec<_> = listed.collect();
        listed.sort();
        let present = self.expected.endpoints.iter().filter(|endpoint| !endpoint.deleted);
        let wanted = present.map(|endpoint| {
            let since = endpoint.failing_since.map(Timestamp::to_rfc3339);
            (endpoint.id.clone(), endpoint.disabled.map(str::to_owned), since)
        });
        let mut wanted: Vec<_> = wanted.collect();
        wanted.sort();
        assert_eq!(listed, wanted, "the endpoints");
    }

    /// Compares the stored results. The API shows a waiting row before its result.
    pub(super) async fn compare_results(&self) {
        let id = self.app.trim_start_matches("/app/");
        let sql = format!("select message_id, endpoint_id, state from delivery_result where app_id = '{id}'");
        let stored = rows(&self.api().rig.db, &sql).await;
        let stored = stored.iter().map(|row| {
            let [message, endpoint] = ["message_id", "endpoint_id"].map(|name| row.try_get("", name).expect("a text"));
            (message, endpoint, row.try_get("", "state").expect("a number"))
        });
        let mut stored: Vec<(String, String, i16)> = stored.collect();
        stored.sort();
        assert_eq!(stored, self.expected.results(), "the results");
    }

    async fn compare_attempts(&self) {
        for (index, endpoint) in self.expected.endpoints.iter().enumerate() {
            if endpoint.deleted {
                continue;
            }
            let path = format!("{}/attempt/endpoint/{}", self.app, endpoint.id);
            let listed = self.api().walk(&path, 250).await;
            let listed = listed.iter().map(|row| {
                let numbers = ["status", "triggerType", "responseStatusCode"].map(|field| number(row, field));
                (text(row, "msgId"), numbers)
            });
            let mut listed: Vec<_> = listed.collect();
            listed.sort();
            let made = self
                .expected
                .attempts
                .iter()
                .filter(|attempt| attempt.endpoint == index);
            let wanted = made.map(|attempt| {
                let status = if (200..300).contains(&attempt.status) { 0 } else { 2 };
                let id = self.expected.messages[attempt.message].id.clone();
                (id, [status, attempt.is_manual.into(), attempt.status.into()])
            });
            let mut wanted: Vec<_> = wanted.collect();
            wanted.sort();
            assert_eq!(listed, wanted, "the attempts at {}", endpoint.id);
        }
    }
}
