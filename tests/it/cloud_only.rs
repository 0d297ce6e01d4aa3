//! Routes that the published SDKs call and that only the hosted service has: each responds 501 in JSON. Unknown routes
//! and methods respond 404 and 405.

use poem::Request;
use poem::http::Method;

use crate::api::Api;

/// The cloud-only routes of the SDKs 1.99.1 and 2.9.1; `x` stands for any id.
const ROUTES: &str = "\
POST /api/v1/app/x/autoconfig
DELETE /api/v1/app/x/autoconfig/x
POST /api/v1/app/x/autoconfig/x/rotate
GET /api/v1/app/x/destination
POST /api/v1/app/x/destination
DELETE /api/v1/app/x/destination/x
GET /api/v1/app/x/destination/x
PATCH /api/v1/app/x/destination/x
PUT /api/v1/app/x/destination/x
POST /api/v1/app/x/destination/x/secret/rotate
GET /api/v1/app/x/destination/x/transformation
PATCH /api/v1/app/x/destination/x/transformation
GET /api/v1/app/x/endpoint/x/attempt-stats
GET /api/v1/app/x/endpoint/x/transformation
PATCH /api/v1/app/x/endpoint/x/transformation
GET /api/v1/app/x/events
GET /api/v1/app/x/events/subscription/x
GET /api/v1/app/x/integration
POST /api/v1/app/x/integration
DELETE /api/v1/app/x/integration/x
GET /api/v1/app/x/integration/x
PUT /api/v1/app/x/integration/x
GET /api/v1/app/x/integration/x/key
POST /api/v1/app/x/integration/x/key/rotate
POST /api/v1/app/x/msg/bulk-expunge
POST /api/v1/app/x/msg/expunge-all-contents
POST /api/v1/app/x/msg/precheck/active
POST /api/v1/auth/stream-logout
POST /api/v1/auth/stream-portal-access/x
POST /api/v1/auth/stream/x/expire-all
GET /api/v1/auth/stream/x/sink/x/poller/token
POST /api/v1/auth/stream/x/sink/x/poller/token/rotate
GET /api/v1/connector
POST /api/v1/connector
DELETE /api/v1/connector/x
GET /api/v1/connector/x
PATCH /api/v1/connector/x
PUT /api/v1/connector/x
POST /api/v1/environment/export
POST /api/v1/environment/import
POST /api/v1/event-type/import/openapi
POST /api/v1/stats/usage/app
PUT /api/v1/stats/usage/event-types
GET /api/v1/stream
POST /api/v1/stream
GET /api/v1/stream/event-type
POST /api/v1/stream/event-type
DELETE /api/v1/stream/event-type/x
GET /api/v1/stream/event-type/x
PATCH /api/v1/stream/event-type/x
PUT /api/v1/stream/event-type/x
DELETE /api/v1/stream/x
GET /api/v1/stream/x
PATCH /api/v1/stream/x
PUT /api/v1/stream/x
POST /api/v1/stream/x/events
GET /api/v1/stream/x/sink
POST /api/v1/stream/x/sink
DELETE /api/v1/stream/x/sink/x
GET /api/v1/stream/x/sink/x
PATCH /api/v1/stream/x/sink/x
PUT /api/v1/stream/x/sink/x
GET /api/v1/stream/x/sink/x/events
GET /api/v1/stream/x/sink/x/headers
PATCH /api/v1/stream/x/sink/x/headers
GET /api/v1/stream/x/sink/x/secret
POST /api/v1/stream/x/sink/x/secret/rotate
GET /api/v1/stream/x/sink/x/transformation
PATCH /api/v1/stream/x/sink/x/transformation
GET /ingest/api/v1/source
POST /ingest/api/v1/source
DELETE /ingest/api/v1/source/x
GET /ingest/api/v1/source/x
PUT /ingest/api/v1/source/x
POST /ingest/api/v1/source/x/dashboard
GET /ingest/api/v1/source/x/endpoint
POST /ingest/api/v1/source/x/endpoint
DELETE /ingest/api/v1/source/x/endpoint/x
GET /ingest/api/v1/source/x/endpoint/x
PUT /ingest/api/v1/source/x/endpoint/x
GET /ingest/api/v1/source/x/endpoint/x/headers
PUT /ingest/api/v1/source/x/endpoint/x/headers
GET /ingest/api/v1/source/x/endpoint/x/secret
POST /ingest/api/v1/source/x/endpoint/x/secret/rotate
GET /ingest/api/v1/source/x/endpoint/x/transformation
PATCH /ingest/api/v1/source/x/endpoint/x/transformation
POST /ingest/api/v1/source/x/token/rotate";

both!(
    every_cloud_only_route_of_the_sdks_answers_501_not_implemented,
    async |db| {
        let api = Api::on(db).await;
        let mut walked = 0;
        for line in ROUTES.lines() {
            let (method, path) = line.split_once(' ').expect("a method and a path");
            for path in [path.to_owned(), format!("{path}/?with_content=false")] {
                let request = Request::builder()
                    .method(Method::from_bytes(method.as_bytes()).unwrap())
                    .uri_str(path)
                    .header("authorization", format!("Bearer {}", api.token))
                    .body("{}");
                api.send(request).await.refused(501, "not_implemented");
            }
            walked += 1;
        }
        assert_eq!(walked, 87);
    }
);

both!(
    an_unknown_route_answers_404_and_an_unknown_method_405_as_json,
    async |db| {
        let api = Api::on(db).await;
        for path in ["/streams", "/app/x/nothing", "/auth", "/statistics"] {
            api.post(path, serde_json::json!({})).await.refused(404, "not_found");
        }
        let refused = api.delete("/app/x/msg").await;
        refused.refused(405, "method_not_allowed");
        assert_eq!(refused.headers["allow"], "GET, HEAD, POST");
    }
);
