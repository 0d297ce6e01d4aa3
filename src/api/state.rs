//! What the API works with; app puts it together.

use std::sync::Arc;
use std::time::Duration;

use super::auth::AdminToken;
use super::http::probes::Probes;
use crate::domain::target::TargetPolicy;
use crate::store::Store;
use crate::store::intake::Intake;

pub struct ApiState {
    pub store: Store,
    /// Counts the requests, and tells whether this process is ready.
    pub probes: Arc<Probes>,
    /// Where accepted messages go.
    pub intake: Intake,
    /// Which endpoint URLs are refused at once.
    pub targets: TargetPolicy,
    /// Where browsers reach this server, without a slash at its end.
    pub public_url: String,
    /// A token that works without a row.
    pub admin: Option<AdminToken>,
    /// How long a request's body may take to arrive.
    pub body_deadline: Duration,
    /// Endpoints of one application.
    pub most_endpoints: u32,
}

impl ApiState {
    /// The deadline of a body, where the operator names no other.
    pub const BODY_DEADLINE: Duration = Duration::from_secs(30);
}
