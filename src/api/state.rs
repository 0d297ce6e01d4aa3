//! The parts and settings that all handlers of the API share.
//!
//! They are put together once, when the process starts, and handed to `http::routes`.

use std::sync::Arc;
use std::time::Duration;

use super::auth::AdminToken;
use super::http::probes::Probes;
use super::trial::Trial;
use crate::domain::target::TargetPolicy;
use crate::store::Store;
use crate::store::intake::Intake;

pub struct ApiState {
    /// The database. `http::routes` limits it to the connections of the API.
    pub store: Store,
    /// Counters of the requests, and whether this process is ready.
    pub probes: Arc<Probes>,
    /// The queue in which accepted messages wait for the transaction that stores them.
    pub intake: Intake,
    /// The rules for URLs of endpoints. A URL that breaks one is refused before it is stored.
    pub targets: TargetPolicy,
    /// The trial receiver; `None` means that there is none.
    pub trial: Option<Arc<Trial>>,
    /// The URL at which browsers reach this server, without a trailing slash.
    pub public_url: String,
    /// The origins whose pages may frame the portal, as a list of sources of the content security policy.
    pub portal_ancestors: String,
    /// A token from the configuration, which needs no row. `None` means only tokens in the database are valid.
    pub admin: Option<AdminToken>,
    /// The time that the body of a request may take to arrive.
    pub body_deadline: Duration,
    /// The largest number of endpoints of one application.
    pub most_endpoints: u32,
    /// Whether deliveries carry the older header names of id, timestamp and signatures too.
    pub svix_headers: bool,
}

impl ApiState {
    /// Returns whether the configured token is one of this organization.
    pub(super) fn has_admin_token(&self, org_id: &str) -> bool {
        self.admin.as_ref().is_some_and(|admin| admin.org_id == org_id)
    }

    /// The deadline of a body if the operator sets no other.
    pub const BODY_DEADLINE: Duration = Duration::from_secs(30);
}
