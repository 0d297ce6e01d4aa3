//! Health over REST: whether the server responds, and whether its database does.
//!
//! Takes no token, so that probes and load balancers can ask. `http/probes.rs` has the probes that are not in the API
//! document.
//!
//! Must not decide whether this process may be sent requests: the probes do.

use std::sync::Arc;
use std::time::Duration;

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::wire::error::{ApiError, Read};
use super::wire::response::{Answer, Empty};
use super::{ApiState, Tag};
use crate::error::{Error, Result};
use crate::store::ping;

/// How long the database may take to respond to a statement that does nothing.
const DEADLINE: Duration = Duration::from_secs(2);

/// The state of one part of the server.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct HealthStatus {
    /// Always `ok`: if a part is not healthy, the status of the response is 503.
    status: String,
}

/// The state of the server.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct HealthOut {
    database: HealthStatus,
}

pub(super) struct Health;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Health")]
impl Health {
    /// Check that the server and its database respond
    #[oai(path = "/health", method = "get", operation_id = "v1.health.get")]
    async fn get(&self, state: Data<&Arc<ApiState>>) -> Result<Answer<HealthOut>, ApiError<Read>> {
        match tokio::time::timeout(DEADLINE, ping(&state.store)).await {
            Ok(answered) => answered?,
            Err(_) => return Err(Error::unavailable("the database does not answer").into()),
        }
        let status = "ok".to_owned();
        let database = HealthStatus { status };
        Ok(Answer::new(StatusCode::OK, &HealthOut { database })?)
    }

    /// Check that the server responds
    #[oai(path = "/health/ping", method = "get", operation_id = "v1.health.ping")]
    async fn ping(&self) -> Empty {
        Empty
    }
}
