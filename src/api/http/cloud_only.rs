//! Recognizes the routes that the SDKs call and only the hosted service has.
//!
//! They are answered with 501 instead of 404, so that a caller learns that the address is right and the feature is
//! missing.
//!
//! Must not name a route that this server has.

use crate::api::paths::fits;

/// The routes of the hosted service.
const ROUTES: [&str; 17] = [
    "/api/v1/app/{}/autoconfig/*",
    "/api/v1/app/{}/destination/*",
    "/api/v1/app/{}/endpoint/{}/attempt-stats",
    "/api/v1/app/{}/endpoint/{}/transformation",
    "/api/v1/app/{}/events/*",
    "/api/v1/app/{}/integration/*",
    "/api/v1/app/{}/msg/bulk-expunge",
    "/api/v1/app/{}/msg/expunge-all-contents",
    "/api/v1/app/{}/msg/precheck/active",
    "/api/v1/auth/stream-logout",
    "/api/v1/auth/stream-portal-access/{}",
    "/api/v1/auth/stream/*",
    "/api/v1/connector/*",
    "/api/v1/environment/*",
    "/api/v1/event-type/import/openapi",
    "/api/v1/stats/usage/*",
    "/api/v1/stream/*",
];
/// The prefix of further routes of the hosted service.
const INGEST: &str = "/ingest/api/v1/";

/// Returns whether a path belongs to a route that only the hosted service has.
pub(crate) fn is_cloud_only(path: &str) -> bool {
    path.starts_with(INGEST) || ROUTES.iter().any(|route| fits(route, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_of_the_hosted_service_is_known_and_no_other() {
        for route in [
            "/api/v1/stream",
            "/api/v1/stream/s/sink/k/events",
            "/api/v1/app/a/endpoint/e/transformation",
            "/ingest/api/v1/source",
        ] {
            assert!(is_cloud_only(route), "{route}");
        }
        for route in [
            "/api/v1/streams",
            "/api/v1/app/a/endpoint/e",
            "/api/v1/app//endpoint/e/transformation",
            "/api/v1/app/a/endpoint/e/transformation/x",
            "/",
        ] {
            assert!(!is_cloud_only(route), "{route}");
        }
    }
}
