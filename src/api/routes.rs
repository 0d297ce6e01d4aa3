//! The whole HTTP side as one poem endpoint, and what holds for every route: errors as JSON, `Allow` on 405, a trailing
//! slash or none, writes that outlive their caller. Called by app and by the tests.

use std::sync::Arc;

use poem::error::MethodNotAllowedError;
use poem::http::uri::PathAndQuery;
use poem::http::{HeaderValue, Method, Uri, header};
use poem::middleware::CatchPanic;
use poem::{Endpoint, EndpointExt, IntoEndpoint, Request, Response, Route};
use poem_openapi::OpenApi;

use super::auth::Authenticator;
use super::body::BodyDeadline;
use super::error::{from_panic, from_poem};
use super::{ApiState, Operations, docs, openapi};

/// Everything that is served on the public port.
pub fn routes(state: ApiState) -> impl Endpoint<Output = Response> {
    let state = Arc::new(state);
    let authenticator = Arc::new(Authenticator::new(state.store.clone(), state.admin.clone()));
    let deadline = BodyDeadline(state.body_deadline);
    let operations = openapi::service().into_endpoint().around(in_own_task);
    let allow = Arc::new(Allow::of::<Operations>());
    docs::add(Route::new())
        .nest_no_strip("/", operations)
        .data(state)
        .data(authenticator)
        .data(deadline)
        .with(CatchPanic::new().with_handler(|_| from_panic()))
        .around(move |inner, request| answer(inner, request, allow.clone()))
}

/// A write that has begun runs to its end, though its caller hangs up: hyper drops the caller's future, not this task.
async fn in_own_task<E>(inner: Arc<E>, request: Request) -> poem::Result<Response>
where
    E: Endpoint<Output = Response> + 'static,
{
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    // The intake has tasks of its own, and drops a message whose caller left before its batch began.
    let sends = request.method() == Method::POST && request.uri().path().ends_with("/msg");
    if reads || sends {
        return inner.call(request).await;
    }
    let write = tokio::spawn(async move { inner.call(request).await });
    match write.await {
        Ok(answered) => answered,
        Err(_) => Ok(from_panic()),
    }
}

async fn answer<E: Endpoint<Output = Response>>(
    inner: Arc<E>,
    mut request: Request,
    allow: Arc<Allow>,
) -> poem::Result<Response> {
    trim_slash(&mut request);
    let uri = request.uri().clone();
    match inner.call(request).await {
        Ok(response) => Ok(response),
        Err(error) => {
            let methods = error.is::<MethodNotAllowedError>().then(|| allow.methods(uri.path()));
            let mut response = from_poem(error);
            if let Some(methods) = methods.and_then(|list| HeaderValue::from_str(&list).ok()) {
                response.headers_mut().insert(header::ALLOW, methods);
            }
            Ok(response)
        }
    }
}

fn trim_slash(request: &mut Request) {
    let path = request.uri().path();
    if path.len() < 2 || !path.ends_with('/') {
        return;
    }
    let path = match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    let trimmed = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(trimmed).ok().or(parts.path_and_query);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// Which methods each path knows.
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

    fn methods(&self, path: &str) -> String {
        let known = self.0.iter().find(|(template, _)| fits(template, path));
        known.map_or_else(|| with_head(vec!["GET"]), |(_, methods)| methods.clone())
    }
}

fn with_head(mut methods: Vec<&str>) -> String {
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.sort_unstable();
    methods.join(", ")
}

fn fits(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(step), Some(text)) if step.starts_with('{') || step == text => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fits_its_template_alone() {
        assert!(fits("/api/v1/app/{app_id}", "/api/v1/app/x"));
        for other in ["/api/v1/app", "/api/v1/app/x/y", "/api/v1/apple/x"] {
            assert!(!fits("/api/v1/app/{app_id}", other), "{other}");
        }
    }

    #[test]
    fn a_trailing_slash_is_cut_and_the_query_kept() {
        for (given, kept) in [("/a/b/?x=1/", "/a/b?x=1/"), ("/a//", "/a"), ("/", "/"), ("/a", "/a")] {
            let mut request = Request::builder().uri_str(given).finish();
            trim_slash(&mut request);
            assert_eq!(request.uri().to_string(), kept, "{given}");
        }
    }
}
