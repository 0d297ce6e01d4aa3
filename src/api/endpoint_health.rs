//! The endpoints of an organization that are in trouble, over REST. Reads only.
//!
//! Must not decide which endpoint is in trouble: the store finds them.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::{Enum, Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::rights::{Organization, View};
use super::wire::error::{ApiError, Read};
use super::wire::paging::{Iterates, Limit, ListOut, ListQuery};
use super::wire::response::Answer;
use super::wire::values::{Instant, Nullable};
use super::{ApiState, Tag};
use crate::domain::delivery::answered;
use crate::domain::health::DisabledReason;
use crate::store::endpoint_health::{self, Trouble, Troubled};

/// The trouble that an endpoint is in.
#[derive(Clone, Copy, Debug, Deserialize, Enum, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase")]
pub enum EndpointTrouble {
    Failing,
    Disabled,
    Slow,
}

impl From<EndpointTrouble> for Trouble {
    fn from(trouble: EndpointTrouble) -> Self {
        match trouble {
            EndpointTrouble::Failing => Self::Failing,
            EndpointTrouble::Disabled => Self::Disabled,
            EndpointTrouble::Slow => Self::Slow,
        }
    }
}

/// An endpoint that is in trouble.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EndpointHealthOut {
    app_id: String,
    app_uid: Nullable<String>,
    app_name: String,
    endpoint_id: String,
    endpoint_uid: Nullable<String>,
    url: String,
    state: EndpointTrouble,
    /// The instant since which no attempt has succeeded; null if the endpoint works.
    failing_since: Nullable<Instant>,
    /// When the endpoint was disabled; null if it is enabled, or was disabled before this was kept.
    disabled_at: Nullable<Instant>,
    /// Why the endpoint is disabled: `manual`, `gone` (its receiver answered 410) or `failing`; null as above.
    disabled_reason: Nullable<DisabledReason>,
    /// Why the last attempt failed; null if it succeeded, or there was none.
    last_error: Nullable<String>,
    /// The status of the answer to the last attempt; null if there was no answer.
    last_status_code: Nullable<i32>,
    /// When the last attempt began that delivered its message, up to 10 s late; null if there was none in the last 400
    /// days, or none since this is kept.
    last_success_at: Nullable<Instant>,
    /// How many messages wait for their next attempt; 1000 stands for any larger number too.
    waiting: i64,
}

impl EndpointHealthOut {
    fn new(row: Troubled, state: EndpointTrouble) -> Self {
        let status = row.last_status.filter(|status| *status != 0);
        let refused = status.filter(|status| !(200..300).contains(status));
        let disabling = row.disabling.unwrap_or_default();
        Self {
            app_id: row.app_id,
            app_uid: Nullable(row.app_uid),
            app_name: row.app_name,
            endpoint_id: row.endpoint_id,
            endpoint_uid: Nullable(row.endpoint_uid),
            url: row.url,
            state,
            failing_since: Nullable(row.failing_since.map(Instant)),
            disabled_at: Nullable(disabling.at.map(Instant)),
            disabled_reason: Nullable(disabling.reason),
            last_error: Nullable(row.last_error.or(refused.map(answered))),
            last_status_code: Nullable(status),
            last_success_at: Nullable(row.last_success.map(Instant)),
            waiting: row.waiting,
        }
    }
}

pub(super) struct EndpointHealth;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Statistics")]
impl EndpointHealth {
    /// List endpoints in trouble
    ///
    /// Failing endpoints begin with the one that began to fail last, disabled ones with the one that was changed last,
    /// slow ones with the one that was created last. An endpoint is slow if, in this hour and the one before, more than
    /// 5 % of its answers took 5 s or longer.
    #[oai(path = "/endpoint-health", method = "get", operation_id = "v1.endpoint-health.list")]
    async fn list(
        &self,
        caller: Organization<View>,
        state: Data<&Arc<ApiState>>,
        /// The kind of trouble. Default: failing. A disabled endpoint is not listed as failing.
        #[oai(name = "state")]
        trouble: Query<Option<EndpointTrouble>>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
    ) -> Result<Answer<ListOut<EndpointHealthOut>>, ApiError<Read>> {
        let request = ListQuery { limit, iterator }.request(&Iterates::Places, false)?;
        let trouble = trouble.0.unwrap_or(EndpointTrouble::Failing);
        let now = state.store.clock().now();
        let org_id = &caller.0.org_id;
        let page = endpoint_health::list(&state.store, org_id, trouble.into(), now, &request).await?;
        let out = |row| Ok(EndpointHealthOut::new(row, trouble));
        Ok(ListOut::answer(page, &request, |row| &row.key, out)?)
    }
}
