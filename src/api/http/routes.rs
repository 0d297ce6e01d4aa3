//! Builds the whole HTTP side as one poem endpoint, and applies what holds for every route.
//!
//! Every request has an id, errors and panics become JSON, a 405 has an `Allow` header, superfluous slashes around a path
//! are dropped, pages of other origins may call the API, responses are kept out of caches, and a write runs to its end
//! even if its caller hangs up.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use poem::endpoint::{BoxEndpoint, DynEndpoint, make_sync};
use poem::error::{MethodNotAllowedError, NotFoundError};
use poem::http::uri::PathAndQuery;
use poem::http::{HeaderValue, Method, Uri, header};
use poem::{Endpoint, EndpointExt, IntoEndpoint, Request, Response, Route};
use poem_openapi::OpenApi;
use tokio::time::timeout;
use url::form_urlencoded;

use super::cloud_only::is_cloud_only;
use super::pages::EndedInSlash;
use super::requests::Requests;
use super::{cors, pages, probes, request_id, trial};
use crate::api::auth::Authenticator;
use crate::api::operations::Operations;
use crate::api::paths::fits;
use crate::api::wire::error::{from_panic, from_poem, response};
use crate::api::{ApiState, document, poller};
use crate::error::{Error, Kind};
use crate::store::database::request::serve;
use crate::telemetry::log_fields::LogFields;

/// How long a caller waits for the database before the response is 503 (wire contract).
const DATABASE_DEADLINE: Duration = Duration::from_secs(5);
/// The prefix of the paths of all operations.
const OPERATIONS: &str = "/api/";

/// One endpoint in place of a chain of poem's middleware, each link of which copies the request and the futures inside
/// it.
struct Routes {
    state: Arc<ApiState>,
    authenticator: Arc<Authenticator>,
    operations: Arc<BoxEndpoint<'static>>,
    pages: Arc<BoxEndpoint<'static>>,
    preflights: Arc<BoxEndpoint<'static>>,
    allow: Allow,
}

/// Returns the endpoint that serves the public port.
pub fn routes(mut state: ApiState) -> impl Endpoint<Output = Response> {
    state.store = state.store.for_api();
    let counted = || {
        Requests::new(
            Operations::meta(),
            pages::paths().chain(probes::PATHS).chain([trial::PATH]),
        )
    };
    state.probes.requests.get_or_init(counted);
    let pages = pages::add(Route::new(), &state.portal_ancestors);
    let pages = trial::add(pages, state.trial.as_ref(), state.store.clock());
    Routes {
        authenticator: Arc::new(Authenticator::new(state.store.clone(), state.admin.clone())),
        operations: Arc::new(document::service().into_endpoint()),
        pages: Arc::new(probes::add(pages, &state.probes).boxed()),
        preflights: Arc::new(make_sync(|_| cors::permission()).boxed()),
        allow: Allow::of::<Operations>(),
        state: Arc::new(state),
    }
}

impl Endpoint for Routes {
    type Output = Response;

    fn call(&self, mut request: Request) -> impl Future<Output = poem::Result<Response>> + Send {
        let began = Instant::now();
        let id = request_id::of(request.headers(), self.state.store.clock());
        let header = HeaderValue::from_str(&id);
        let fields = LogFields::of_request(id);
        rewrite_path(&mut request);
        request.set_data(self.state.clone());
        request.set_data(self.authenticator.clone());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let is_below_api = uri.path().starts_with(OPERATIONS);
        let is_of_a_page = is_below_api && cors::is_of_a_page(&request);
        let endpoint = match is_below_api {
            true if cors::is_preflight(&request) => &self.preflights,
            true if uri.path() != pages::DOCUMENT => &self.operations,
            _ => &self.pages,
        };
        let deadline = self.state.body_deadline + DATABASE_DEADLINE;
        let answer = in_time(endpoint, request, deadline, &fields);
        fields.scope(async move {
            let mut response = always_respond(answer, uri.path(), &self.allow).await;
            forbid_caching(&mut response, uri.path());
            if is_of_a_page {
                cors::show(&mut response);
            }
            if let Ok(id) = header {
                response.headers_mut().insert(request_id::REQUEST_ID, id);
            }
            if let Some(requests) = self.state.probes.requests.get() {
                requests.answered(&method, uri.path(), response.status(), began.elapsed());
            }
            Ok(response)
        })
    }
}

/// Keeps responses out of caches: a list, a secret or a refusal is meant for one caller at one instant. Only pages
/// outside of /api/ set `Cache-Control` themselves. Also keeps browsers from guessing another media type than the
/// response's own.
fn forbid_caching(response: &mut Response, path: &str) {
    let headers = response.headers_mut();
    if path.starts_with(OPERATIONS) || !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Rewrites other spellings of a known path to that path.
fn rewrite_path(request: &mut Request) {
    trim_slashes(request);
    if request.method() == Method::GET {
        lead_to_attempts(request);
    }
}

/// Calls the endpoint under a deadline: 5 s for reads, and in addition the time for which a poll asks to wait;
/// `for_writes` for all others. The response after the deadline is
/// 503. Writes run in a task of their own, so that one that has begun ends even if its caller hangs up or the deadline
/// passes; `fields` are those of its log lines.
fn in_time<'a>(
    endpoint: &'a Arc<BoxEndpoint<'static>>,
    request: Request,
    for_writes: Duration,
    fields: &LogFields,
) -> impl Future<Output = poem::Result<Response>> + Send + use<'a> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let waits = poller::wait_of(request.method(), request.uri());
    // Messages need no task here: the intake has its own, and drops a message whose caller hung up before its batch
    // began.
    let sends = request.method() == Method::POST && request.uri().path().ends_with("/msg");
    let answer = if reads || sends {
        DynEndpoint::call(&***endpoint, request)
    } else {
        let endpoint = endpoint.clone();
        let write = serve(false, async move { endpoint.call(request).await });
        let write = tokio::spawn(fields.clone().scope(write));
        write.map(|ended| ended.unwrap_or_else(|_| Ok(from_panic()))).boxed()
    };
    let late = || Ok(response(&Error::unavailable("the database does not answer")));
    let deadline = if reads { DATABASE_DEADLINE + waits } else { for_writes };
    timeout(deadline, serve(reads, answer)).map(move |answer| answer.unwrap_or_else(|_| late()))
}

/// Turns errors and panics into responses.
fn always_respond(
    answer: impl Future<Output = poem::Result<Response>> + Send,
    path: &str,
    allow: &Allow,
) -> impl Future<Output = Response> + Send {
    AssertUnwindSafe(answer).catch_unwind().map(move |answer| match answer {
        Ok(answer) => answer.unwrap_or_else(|error| refusal(error, path, allow)),
        Err(_) => from_panic(),
    })
}

/// Returns the response to an error: 501 for routes of the hosted service, and an `Allow` header with a 405.
fn refusal(error: poem::Error, path: &str, allow: &Allow) -> Response {
    let unknown_method = error.is::<MethodNotAllowedError>();
    if (unknown_method || error.is::<NotFoundError>()) && is_cloud_only(path) {
        let message = "only the hosted service has this; Postrider does not";
        return response(&Error::new(Kind::NotImplemented, message));
    }
    let methods = unknown_method.then(|| allow.methods(path));
    let mut response = from_poem(error);
    if let Some(methods) = methods.and_then(|list| HeaderValue::from_str(&list).ok()) {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    response
}

/// Removes slashes at the end of a path, and all but one at its beginning: older SDKs request `//api/…` if their
/// server's address ends in a slash. Slashes inside stay: without an empty step the path would belong to another route.
fn trim_slashes(request: &mut Request) {
    let path = request.uri().path().to_owned();
    let inner = path.trim_matches('/');
    if !path.starts_with('/') || path.len() == inner.len() + 1 {
        return;
    }
    if path.ends_with('/') {
        request.set_data(EndedInSlash);
    }
    let trimmed = with_query(&format!("/{inner}"), request.uri().query());
    set_path(request, trimmed);
}

/// Rewrites the paths under which the oldest clients ask for lists of attempts to the present ones.
fn lead_to_attempts(request: &mut Request) {
    let Some(rest) = request.uri().path().strip_prefix("/api/v1/app/") else {
        return;
    };
    let steps: Vec<&str> = rest.split('/').collect();
    let query = request.uri().query();
    let path = match steps[..] {
        [app, of @ ("msg" | "endpoint"), id, "attempt"] => {
            with_query(&format!("/api/v1/app/{app}/attempt/{of}/{id}"), query)
        }
        [app, "msg", id, "endpoint", endpoint, "attempt"] => {
            let endpoint: String = form_urlencoded::byte_serialize(endpoint.as_bytes()).collect();
            let at = format!("/api/v1/app/{app}/attempt/msg/{id}?endpoint_id={endpoint}");
            query.map_or_else(|| at.clone(), |query| format!("{at}&{query}"))
        }
        _ => return,
    };
    set_path(request, path);
}

fn with_query(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

fn set_path(request: &mut Request, path_and_query: String) {
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(path_and_query).ok().or(parts.path_and_query);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// The methods of each path, as `Allow` lists them: pairs of a path's template and its methods.
struct Allow(Vec<(String, String)>);

impl Allow {
    fn of<T: OpenApi>() -> Self {
        let paths = T::meta().into_iter().flat_map(|api| api.paths);
        Self(
            paths
                .map(|path| {
                    let methods = path.operations.iter().map(|operation| operation.method.as_str());
                    (path.path.clone(), with_head(methods.collect()))
                })
                .collect(),
        )
    }

    /// Returns the methods of a path. A path that is no operation belongs to the pages and probes, which know GET and
    /// HEAD.
    fn methods(&self, path: &str) -> String {
        let known = self.0.iter().find(|(template, _)| fits(template, path));
        known.map_or_else(|| with_head(vec!["GET"]), |(_, methods)| methods.clone())
    }
}

/// Returns the list as text, with HEAD if it has GET.
fn with_head(mut methods: Vec<&str>) -> String {
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.sort_unstable();
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_json_500_in_reads_and_in_writes() {
        let panics = poem::endpoint::make_sync(|request| -> Response { panic!("as a test wants it: {request:?}") });
        let panics = Arc::new(panics.boxed());
        for method in [Method::GET, Method::POST] {
            let request = Request::builder().method(method).uri_str("/x").finish();
            let answer = in_time(
                &panics,
                request,
                DATABASE_DEADLINE,
                &LogFields::of_request(String::new()),
            );
            let answer = always_respond(answer, "/x", &Allow(Vec::new())).await;
            assert_eq!(answer.status(), 500);
            assert_eq!(answer.content_type(), Some("application/json"));
            let text = answer.into_body().into_string().await.unwrap();
            assert!(text.contains(r#""code":"server_error""#), "{text}");
        }
    }

    #[test]
    fn slashes_at_both_ends_are_cut_and_the_query_kept() {
        for (given, kept) in [
            ("/a/b/?x=1/", "/a/b?x=1/"),
            ("/a//", "/a"),
            ("/", "/"),
            ("/a", "/a"),
            ("//a/b?x=//1", "/a/b?x=//1"),
            ("///a//b//", "/a//b"),
            ("//", "/"),
            ("*", "*"),
        ] {
            let mut request = Request::builder().uri_str(given).finish();
            trim_slashes(&mut request);
            assert_eq!(request.uri().to_string(), kept, "{given}");
        }
    }
}
