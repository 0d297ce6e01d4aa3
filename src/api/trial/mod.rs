//! The trial receiver over REST: the requests that came to `/trial/{random}`, so that a first webhook can be watched
//! arriving. `http/trial.rs` receives them.
//!
//! Must not store anything outside the memory of this process.

mod received;

use std::collections::BTreeMap;
use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

pub use self::received::Trial;
pub(crate) use self::received::{MOST_BODY, Received, is_random};
use super::rights::{Organization, View};
use super::wire::error::{ApiError, Read};
use super::wire::response::Answer;
use super::wire::values::Instant;
use super::{ApiState, Tag};
use crate::error::Error;

/// A request that the trial receiver got.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct TrialRequestOut {
    id: String,
    timestamp: Instant,
    method: String,
    /// The headers, with names in lower case. Several of one name are joined by commas.
    headers: BTreeMap<String, String>,
    /// The body as text; bytes that are not UTF-8 are replaced.
    body: String,
}

impl From<Received> for TrialRequestOut {
    fn from(received: Received) -> Self {
        Self {
            id: received.number.to_string(),
            timestamp: Instant(received.at),
            method: received.method,
            headers: received.headers,
            body: String::from_utf8_lossy(&received.body).into_owned(),
        }
    }
}

/// The requests that the trial receiver got.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct TrialOut {
    data: Vec<TrialRequestOut>,
}

pub(super) struct TrialReceiver;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Endpoint")]
impl TrialReceiver {
    /// List the requests that came to the trial receiver
    ///
    /// A server that may send to its own machine receives webhooks itself, at `/trial/` and a text of 16 to 64 letters,
    /// digits, `-` and `_` that you choose at random: who knows the text can read what came. It responds with 204 and
    /// keeps the newest 100 requests, of 1 MB in all and 64 KiB each, for an hour, in the memory of the process that got
    /// them. Newest first. Other servers respond to this with 404.
    #[oai(path = "/trial/:random", method = "get", operation_id = "v1.trial.list")]
    async fn list(
        &self,
        _caller: Organization<View>,
        state: Data<&Arc<ApiState>>,
        random: Path<String>,
    ) -> Result<Answer<TrialOut>, ApiError<Read>> {
        let trial = state.trial.as_ref().filter(|_| is_random(&random.0));
        let trial = trial.ok_or_else(|| Error::not_found("trial receiver"))?;
        let found = trial.list(&random.0, state.store.clock().now());
        let data = found.into_iter().map(TrialRequestOut::from).collect();
        Ok(Answer::ok(&TrialOut { data })?)
    }
}
