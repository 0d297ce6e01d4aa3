//! Counts and times HTTP requests by route, method and status.
//!
//! Everything outside the closed sets of labels counts as `other`, so nothing that a caller sends makes a new series.
//!
//! Must not use a part of a request as a label unless it is one of a closed set.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use poem::http::{Method, StatusCode};
use poem_openapi::registry::MetaApi;

use crate::api::paths::fits;
use crate::telemetry::series::{Histogram, Page, SECONDS};

const OTHER: &str = "other";
/// The statuses with a series of their own: those that the API responds with.
const STATUSES: [u16; 20] = [
    200, 201, 202, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 431, 500, 501, 503,
];

/// Counts of the requests that one API has responded to. Written by each request, read by /metrics, without a lock.
pub struct Requests {
    /// The routes by the number of slashes in their paths, so that a path is compared with few of them.
    by_length: Vec<Vec<Route>>,
    /// Requests to no known route.
    other: Series,
}

struct Route {
    template: String,
    methods: Vec<Series>,
    /// Requests with a method that the route does not have.
    other: Series,
}

struct Series {
    method: String,
    /// Counts by status, in the order of [`STATUSES`]; the last counts all other statuses.
    statuses: [AtomicU64; STATUSES.len() + 1],
    seconds: Histogram,
}

impl Requests {
    /// Counts requests to the operations of `apis`, and to `pages`, whose only method is GET, each in a series of its own.
    pub fn new(apis: Vec<MetaApi>, pages: impl Iterator<Item = &'static str>) -> Self {
        let operations = apis.into_iter().flat_map(|api| api.paths).map(|path| {
            let methods = path.operations.iter().map(|operation| operation.method.to_string());
            Route::new(path.path, methods)
        });
        let pages = pages.map(|path| Route::new(path.to_owned(), [Method::GET.to_string()].into_iter()));
        let mut by_length: Vec<Vec<Route>> = Vec::new();
        for route in operations.chain(pages) {
            let length = length(&route.template);
            if by_length.len() <= length {
                by_length.resize_with(length + 1, Vec::new);
            }
            by_length[length].push(route);
        }
        Self {
            by_length,
            other: Series::new(OTHER),
        }
    }

    /// Counts a request and the time that it took.
    pub fn answered(&self, method: &Method, path: &str, status: StatusCode, took: Duration) {
        let series = self.find(path).map_or(&self.other, |route| route.series(method));
        let known = STATUSES.iter().position(|code| *code == status.as_u16());
        series.statuses[known.unwrap_or(STATUSES.len())].fetch_add(1, Ordering::Relaxed);
        series.seconds.observe_time(took);
    }

    fn find(&self, path: &str) -> Option<&Route> {
        let routes = self.by_length.get(length(path))?;
        routes.iter().find(|route| fits(&route.template, path))
    }

    /// Writes every series that has counted something to the page.
    pub fn write(&self, page: &mut Page) {
        let used: Vec<(&str, &Series)> = self.used().collect();
        let name = "postrider_http_requests_total";
        page.head(name, "counter", "Answered requests by route, method and status.");
        for (route, series) in &used {
            let codes = STATUSES.iter().map(u16::to_string).chain([OTHER.to_owned()]);
            for (code, count) in codes.zip(&series.statuses) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let labels = [("route", *route), ("method", &series.method), ("status", &code)];
                    page.sample(name, &labels, count as f64);
                }
            }
        }
        let name = "postrider_http_request_seconds";
        page.head(name, "histogram", "From a request's head to its response's head.");
        for (route, series) in used {
            page.buckets(name, &[("route", route), ("method", &series.method)], &series.seconds);
        }
    }

    fn used(&self) -> impl Iterator<Item = (&str, &Series)> {
        let routes = self.by_length.iter().flatten().flat_map(|route| {
            let series = route.methods.iter().chain([&route.other]);
            series.map(|series| (route.template.as_str(), series))
        });
        let all = routes.chain([(OTHER, &self.other)]);
        all.filter(|(_, series)| series.seconds.count() > 0)
    }
}

impl Route {
    fn new(template: String, methods: impl Iterator<Item = String>) -> Self {
        Self {
            template,
            methods: methods.map(|method| Series::new(&method)).collect(),
            other: Series::new(OTHER),
        }
    }

    /// Returns the series of a method. A HEAD counts as a GET.
    fn series(&self, method: &Method) -> &Series {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let known = self.methods.iter().find(|series| series.method == method.as_str());
        known.unwrap_or(&self.other)
    }
}

impl Series {
    fn new(method: &str) -> Self {
        Self {
            method: method.to_owned(),
            statuses: Default::default(),
            seconds: Histogram::new(SECONDS),
        }
    }
}

/// Returns the number of slashes in a path or template.
fn length(path: &str) -> usize {
    path.matches('/').count()
}

#[cfg(test)]
mod tests {
    use poem_openapi::OpenApi;

    use super::*;
    use crate::api::operations::Operations;

    #[test]
    fn requests_are_counted_by_route_and_strangers_make_no_series() {
        let requests = Requests::new(Operations::meta(), ["/livez"].into_iter());
        let took = Duration::from_millis(3);
        for (method, path, status) in [
            (Method::POST, "/api/v1/app/tenant-1/msg", 202),
            (Method::POST, "/api/v1/app/tenant-2/msg", 202),
            (Method::HEAD, "/api/v1/app/tenant-2/msg", 200),
            (Method::PATCH, "/api/v1/app/tenant-2/msg", 405),
            (Method::GET, "/wp-admin/tenant-3", 404),
            (Method::GET, "/livez", 299),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            requests.answered(&method, path, status, took);
        }
        let mut page = Page::default();
        requests.write(&mut page);
        let text = page.text();
        for line in [
            r#"postrider_http_requests_total{route="/api/v1/app/{app_id}/msg",method="POST",status="202"} 2"#,
            r#"postrider_http_requests_total{route="/api/v1/app/{app_id}/msg",method="GET",status="200"} 1"#,
            r#"postrider_http_requests_total{route="/api/v1/app/{app_id}/msg",method="other",status="405"} 1"#,
            r#"postrider_http_requests_total{route="other",method="other",status="404"} 1"#,
            r#"postrider_http_requests_total{route="/livez",method="GET",status="other"} 1"#,
            r#"postrider_http_request_seconds_count{route="/api/v1/app/{app_id}/msg",method="POST"} 2"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("tenant"), "{text}");
    }
}
