//! Whether this process serves and has its database. No token, for probes and load balancers.

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

/// A database that takes longer than this for nothing is not healthy.
const DEADLINE: Duration = Duration::from_secs(2);

/// The state of a part.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct HealthStatus {
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
    /// Say whether the server has its database
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

    /// Say that the server answers
    #[oai(path = "/health/ping", method = "get", operation_id = "v1.health.ping")]
    async fn ping(&self) -> Empty {
        Empty
    }
}
