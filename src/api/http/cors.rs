//! Lets pages of any origin call the API from a browser (CORS).
//!
//! Any origin may, but without credentials: a token travels in `Authorization`, which a browser never adds by itself, so
//! a page can do no more than any other program with the same token. The pages and probes beside the API have no such
//! headers.
//!
//! Must not look at the token: a browser asks for permission without one.

use poem::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Request, Response};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// The headers that pages may send, by name: `*` would not cover `authorization`. The SDK for JavaScript sends all of
/// them but the last. Chromium never sends its `user-agent`; Firefox does, and asks for permission.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, svix-req-id, svix-retry-count, user-agent, x-request-id",
);
/// The headers that pages may read.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, x-request-id");
/// For how many seconds a browser may reuse a permission for one URL: the longest time that Chromium keeps it, which
/// saves most requests a round trip. A permission depends on nothing but the version of the program.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// Returns whether a page of another origin makes this request. A page of the same origin may look like one; the headers
/// do no harm then.
pub(super) fn is_of_a_page(request: &Request) -> bool {
    request.headers().contains_key(header::ORIGIN)
}

/// Returns whether a browser asks if a page may make a request, before it makes the request itself.
pub(super) fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::OPTIONS
        && is_of_a_page(request)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Returns the response to such a question. It is the same for every path: what the request itself may do is decided when
/// it comes, and the page can read that response.
pub(super) fn permission() -> Response {
    Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS)
        .header(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS)
        .header(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE)
        .finish()
}

/// Lets a page of any origin read a response. Needs no `Vary`, though only requests of pages get these headers: no cache
/// keeps a response of the API.
pub(super) fn show(response: &mut Response) {
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED),
    ];
    response.headers_mut().extend(headers);
}
