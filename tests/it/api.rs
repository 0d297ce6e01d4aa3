//! The API as a caller sees it, for the tests of its resources: the whole poem endpoint with every layer, without a
//! socket unless a test needs one.
//!
//! Must not: test anything itself.

use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderMap, Method, StatusCode};
use poem::{Endpoint, EndpointExt, Request, Response};
use postrider::api::http::listener::{self, Limits};
use postrider::api::routes;
use postrider::api::{AdminToken, ApiState, Probes, Trial};
use postrider::domain::audit::Origin;
use postrider::domain::token;
use postrider::service;
use postrider::service::token::Grant;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

use crate::harness::{Rig, Shape, TestDatabase};

pub const LIMITS: Limits = Limits {
    connections: 100,
    request: Duration::from_secs(60),
    response: Duration::from_secs(60),
    progress: Duration::from_secs(60),
    silence: Duration::from_secs(60),
};

pub const ADMIN: &str = "an admin token of any text, ä too";

/// The origin of writes that a test makes without a request.
pub const BY_HAND: Origin<'static> = Origin::cli("cli.test");

pub struct Api {
    pub rig: Rig,
    pub org_id: String,
    /// A token of the organization.
    pub token: String,
    pub probes: Arc<Probes>,
    endpoint: Arc<BoxEndpoint<'static, Response>>,
}

/// The response to a request for a page or another file beside the API.
pub struct Page {
    pub status: u16,
    headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Page {
    /// Returns the value of a header; an empty text if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// A response of the API. A test fails if a response has a body that is not JSON.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Api {
    pub async fn on(db: &TestDatabase) -> Self {
        Self::with_body_deadline(db, ApiState::BODY_DEADLINE).await
    }

    pub async fn with_body_deadline(db: &TestDatabase, body_deadline: Duration) -> Self {
        Self::shaped(db, Shape::default(), body_deadline).await
    }

    pub async fn shaped(db: &TestDatabase, shape: Shape, body_deadline: Duration) -> Self {
        let (most_endpoints, svix_headers) = (shape.most_endpoints, shape.svix_headers);
        let targets = shape.targets.parse().unwrap();
        let rig = Rig::shaped(db, shape).await;
        let organization = service::organization::get_or_create(&rig.store, &BY_HAND, "tests")
            .await
            .unwrap();
        let (token, _) = service::token::create(&rig.store, &BY_HAND, &organization.id, Grant::default())
            .await
            .unwrap();
        let admin = AdminToken {
            hashes: vec![token::hash(ADMIN)],
            org_id: organization.id.clone(),
        };
        let probes = Probes::new(&rig.store);
        probes.serving();
        let state = ApiState {
            probes: probes.clone(),
            store: rig.store.clone(),
            intake: rig.intake.clone(),
            targets,
            trial: Trial::allowed_by(&"127.0.0.0/8".parse().unwrap()),
            public_url: "https://hooks.example/below".to_owned(),
            portal_ancestors: "https://app.example".to_owned(),
            admin: Some(admin),
            body_deadline,
            most_endpoints,
            svix_headers,
        };
        Self {
            endpoint: Arc::new(routes(state).boxed()),
            rig,
            org_id: organization.id,
            token,
            probes,
        }
    }

    /// Gives up the API and returns its rig.
    pub fn into_rig(self) -> Rig {
        self.rig
    }

    /// Creates another organization and returns a token of it.
    pub async fn stranger(&self) -> String {
        self.organization("strangers").await.1
    }

    /// Makes all later calls as the organization `name`.
    pub async fn acting_for(mut self, name: &str) -> Self {
        (self.org_id, self.token) = self.organization(name).await;
        self
    }

    /// Creates an organization if it does not exist. Returns its id and a new token.
    async fn organization(&self, name: &str) -> (String, String) {
        let store = &self.rig.store;
        let organization = service::organization::get_or_create(store, &BY_HAND, name)
            .await
            .unwrap();
        let (token, _) = service::token::create(store, &BY_HAND, &organization.id, Grant::default())
            .await
            .unwrap();
        (organization.id, token)
    }

    /// Creates a token of one application.
    pub async fn token_of(&self, app: &str) -> String {
        let grant = Grant {
            application: Some(app),
            ..Grant::default()
        };
        self.token(grant).await
    }

    /// Creates a token.
    pub async fn token(&self, grant: Grant<'_>) -> String {
        let made = service::token::create(&self.rig.store, &BY_HAND, &self.org_id, grant).await;
        made.unwrap().0
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(&self.token, "GET", path, &[], "").await
    }

    pub async fn get_text(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(&self.token, "DELETE", path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(&self.token, "POST", path, &[], &body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(&self.token, "PUT", path, &[], &body.to_string()).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(&self.token, "PATCH", path, &[], &body.to_string()).await
    }

    /// Sends a POST with an idempotency key.
    pub async fn post_once(&self, path: &str, key: &str, body: Value) -> Answer {
        let headers = [("idempotency-key", key)];
        self.call(&self.token, "POST", path, &headers, &body.to_string()).await
    }

    /// Sends a request with this token. The path is what follows `/api/v1`.
    pub async fn call(&self, token: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri_str(format!("/api/v1{path}"))
            .header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.to_owned())).await
    }

    /// Begins a request with the organization's token.
    pub fn request(&self, method: &str, path: &str) -> poem::RequestBuilder {
        Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri_str(format!("/api/v1{path}"))
            .header("authorization", format!("Bearer {}", self.token))
    }

    /// Requests a page or another file that is not part of the API.
    pub async fn fetch(&self, path: &str, headers: &[(&str, &str)]) -> Page {
        let request = headers
            .iter()
            .fold(Request::builder().uri_str(path), |request, (name, value)| {
                request.header(*name, *value)
            });
        let (parts, body) = self.endpoint.get_response(request.finish()).await.into_parts();
        Page {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.into_vec().await.unwrap(),
        }
    }

    /// Serves the API on a loopback port.
    pub async fn listen(&self) -> SocketAddr {
        self.listen_within(LIMITS).await
    }

    /// As [`Api::listen`], but for one connection at a time: a client that gets a response knows that the server has
    /// finished all earlier connections.
    pub async fn listen_to_one(&self) -> SocketAddr {
        let connections = 1;
        self.listen_within(Limits { connections, ..LIMITS }).await
    }

    /// As [`Api::listen`], with this deadline for a client to read a response.
    pub async fn listen_to_readers(&self, response: Duration) -> SocketAddr {
        self.listen_within(Limits { response, ..LIMITS }).await
    }

    /// As [`Api::listen`], with this deadline for a request to arrive.
    pub async fn listen_with(&self, request: Duration) -> SocketAddr {
        self.listen_within(Limits { request, ..LIMITS }).await
    }

    /// As [`Api::listen`], with these limits.
    pub async fn listen_within(&self, limits: Limits) -> SocketAddr {
        listen(limits, self.endpoint.clone()).await
    }

    /// Sends a request as it is, without adding a token.
    pub async fn send(&self, request: Request) -> Answer {
        let response = self.endpoint.get_response(request).await;
        let (parts, body) = response.into_parts();
        let text = body.into_string().await.unwrap();
        let is_json = parts
            .headers
            .get("content-type")
            .is_some_and(|value| value == "application/json");
        assert!(text.is_empty() || is_json, "{:?}: {text}", parts.headers);
        let json = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).expect(&text)
        };
        Answer {
            status: parts.status,
            headers: parts.headers,
            json,
            text,
        }
    }

    /// Creates an application and returns its id.
    pub async fn application(&self, name: &str) -> String {
        let made = self.post("/app", serde_json::json!({ "name": name })).await;
        made.expect(201)["id"].as_str().unwrap().to_owned()
    }

    /// Returns all rows of a list, read page by page.
    pub async fn walk(&self, path: &str, limit: usize) -> Vec<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut all = Vec::new();
        let mut iterator = String::new();
        loop {
            let page = self.get(&format!("{path}{separator}limit={limit}{iterator}")).await;
            let page = page.expect(200);
            all.extend(page["data"].as_array().unwrap().iter().cloned());
            if page["done"] == Value::Bool(true) {
                return all;
            }
            iterator = format!("&iterator={}", page["iterator"].as_str().unwrap());
        }
    }
}

/// Serves a poem endpoint on a loopback port with these limits.
pub async fn listen(limits: Limits, endpoint: impl Endpoint<Output = Response> + 'static) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(listener::serve(
        socket,
        limits,
        endpoint,
        std::future::pending(),
        Duration::ZERO,
    ));
    address
}

impl Answer {
    /// Asserts the status and returns the body.
    #[track_caller]
    pub fn expect(&self, status: u16) -> &Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        &self.json
    }

    /// Returns a text field of the body.
    #[track_caller]
    pub fn field(&self, name: &str) -> String {
        self.json[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: {}", self.text))
            .to_owned()
    }

    /// Asserts that the response is an error with this status and code.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        assert!(
            body["detail"].as_str().is_some_and(|detail| !detail.is_empty()),
            "{body}"
        );
    }

    /// Asserts that the response refuses one more thing than the limit allows, with this sentence.
    #[track_caller]
    pub fn is_over_limit(&self, sentence: &str) {
        self.refused(400, "limit_reached");
        assert_eq!(self.expect(400)["detail"], sentence);
    }

    /// Asserts that the response is a 422 whose first rule names this place, such as `body.name`.
    #[track_caller]
    pub fn breaks_rule_at(&self, place: &str) {
        let body = self.expect(422);
        assert_eq!(body["code"], "validation_error", "{body}");
        let rule = &body["detail"][0];
        let loc: Vec<_> = rule["loc"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part.as_str().unwrap())
            .collect();
        assert_eq!(loc.join("."), place, "{body}");
        assert!(rule["msg"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
        assert!(
            rule["type"]
                .as_str()
                .is_some_and(|kind| kind.starts_with("value_error")),
            "{body}"
        );
    }
}
