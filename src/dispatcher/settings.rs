//! The part of the configuration that concerns deliveries.

use std::net::SocketAddr;
use std::time::Duration;

use crate::domain::retry::RetrySchedule;
use crate::domain::target::TargetPolicy;

/// How much longer than an attempt a lease lasts: for the wait before the attempt begins, and for the time to settle
/// that must be left when it does.
pub const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// The part of the configuration that concerns deliveries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an attempt may take, from the start of its connect to the last byte of the answer.
    pub attempt_timeout: Duration,
    /// The delays between the attempts of a delivery.
    pub schedule: RetrySchedule,
    /// The addresses that may be called.
    pub targets: TargetPolicy,
    /// How long messages, their attempts and results are kept.
    pub history: Duration,
    /// How long entries of the audit log are kept.
    pub audit: Duration,
    /// Whether `svix-id`, `svix-timestamp` and `svix-signature` are sent beside the names of Standard Webhooks.
    pub svix_headers: bool,
    /// How long an endpoint may fail before it is disabled; `None` means that it never is.
    pub disable_after: Option<Duration>,
    /// The name server that resolves the names of receivers; `None` means those of the system's configuration.
    pub name_server: Option<SocketAddr>,
}
