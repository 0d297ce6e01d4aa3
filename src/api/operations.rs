//! All operations of the API, in the order of the document. Must not serve them: http/routes.rs does.

use super::{
    application, attempt, audit, background_task, console, delivery, endpoint, endpoint_health, event_type, explain,
    find, health, message, operational, poller, portal, queue, statistics, token, trial,
};

/// The resources of the API, in the order in which the document lists their operations.
pub(crate) type Operations = (
    application::Applications,
    event_type::EventTypes,
    endpoint::Endpoints,
    (endpoint::secret::EndpointSecrets, endpoint::example::SendExample),
    (endpoint::stats::EndpointStatistics, trial::TrialReceiver),
    (
        poller::Pollers,
        poller::secret::PollerSecrets,
        poller::consumer::PollerConsumers,
    ),
    (message::Messages, explain::Explanations),
    attempt::Attempts,
    operational::OperationalWebhooks,
    (attempt::results::Deliveries, delivery::AllDeliveries, queue::Queue),
    endpoint::replay::Replays,
    background_task::BackgroundTasks,
    (find::Search, statistics::Statistics, endpoint_health::EndpointHealth),
    (portal::Authentication, console::Console),
    (token::Tokens, audit::AuditLog),
    health::Health,
);
