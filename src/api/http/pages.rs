//! Serves the pages: Swagger UI under /docs, the API document as JSON, and the portal page.
//!
//! poem-openapi embeds Swagger UI as one HTML text. This file cuts it into separate files, so that the content security
//! policy can forbid inline scripts and styles. The pages fetch nothing from other servers.
//!
//! Must not serve anything that depends on the caller: the files are the same for all, and need no token.

use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use poem::endpoint::make_sync;
use poem::http::{HeaderName, StatusCode, header};
use poem::{Request, Response, Route, get};
use ring::digest;

use crate::api::document::{document, service};

/// The content security policy of all pages.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Postrider API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/ui.css">
</head>
<body>
<div id="ui"></div>
<script src="/docs/ui.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"#;

/// Starts Swagger UI. Without a validator, which would send the document to a third party's server. The token stays in
/// the browser's storage for this origin until its owner logs out on the page.
const START: &str = r##"SwaggerUIBundle({
    dom_id: "#ui", url: "/openapi.json", deepLinking: true, filter: true, persistAuthorization: true, validatorUrl: null,
});
"##;

/// Lets content that is too wide for a phone scroll within its own box: names of schemas are long words, and made the
/// page 512 pixels wide on a screen of 390.
const FITTED: &str = ".swagger-ui .model-container, .swagger-ui .opblock-body { overflow-x: auto; }";

/// A file that is served unchanged, plain or compressed.
struct File {
    media_type: &'static str,
    plain: &'static [u8],
    /// The same text, compressed; empty if it could not be compressed.
    gzip: Vec<u8>,
    /// The value of `ETag`.
    tag: String,
}

static PAGE_FILE: LazyLock<File> = LazyLock::new(|| File::new("text/html; charset=utf-8", PAGE));
static START_FILE: LazyLock<File> = LazyLock::new(|| File::new("text/javascript", START));
static CSS: LazyLock<File> = LazyLock::new(|| File::new("text/css", [UI.css, FITTED].concat().leak()));
static JS: LazyLock<File> = LazyLock::new(|| File::new("text/javascript", UI.js));
static JSON: LazyLock<File> = LazyLock::new(|| File::new("application/json", document().leak()));

/// The portal page, to which the links of app-portal-access lead.
static PORTAL: LazyLock<File> =
    LazyLock::new(|| File::new("text/html; charset=utf-8", include_str!("../portal/page.html")));
static PORTAL_CSS: LazyLock<File> = LazyLock::new(|| File::new("text/css", include_str!("../portal/page.css")));
static PORTAL_JS: LazyLock<File> = LazyLock::new(|| File::new("text/javascript", include_str!("../portal/page.js")));

/// The parts of the Swagger UI that poem-openapi embeds.
struct Ui {
    css: &'static str,
    js: &'static str,
}

static UI: LazyLock<Ui> = LazyLock::new(|| {
    let html: &'static str = service().swagger_ui_html().leak();
    Ui {
        css: inside(html, "<style charset=\"UTF-8\">", "</style>"),
        js: inside(html, "<script charset=\"UTF-8\">", "</script>\n</head>"),
    }
});

/// A second path of the document: the published SDKs' own tests ask for it there.
pub(crate) const DOCUMENT: &str = "/api/v1/openapi.json";

const HOME: &str = "/";

static FILES: [(&str, &LazyLock<File>); 9] = [
    ("/docs", &PAGE_FILE),
    ("/docs/ui.css", &CSS),
    ("/docs/ui.js", &JS),
    ("/docs/start.js", &START_FILE),
    ("/portal", &PORTAL),
    ("/portal/page.css", &PORTAL_CSS),
    ("/portal/page.js", &PORTAL_JS),
    ("/openapi.json", &JSON),
    (DOCUMENT, &JSON),
];

/// Adds the pages to the routes.
pub(crate) fn add(route: Route) -> Route {
    let route = FILES.into_iter().fold(route, |route, (path, file)| {
        route.at(path, get(make_sync(move |request| file.answer(&request))))
    });
    route.at(HOME, get(make_sync(|_| lead_to("/docs"))))
}

/// Returns the paths of all pages.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    FILES.into_iter().map(|(path, _)| path).chain([HOME])
}

/// Redirects to `path`: a browser that opens the bare address finds no page there.
fn lead_to(path: &str) -> Response {
    let answer = Response::builder().status(StatusCode::SEE_OTHER);
    answer.header(header::LOCATION, path).finish()
}

impl File {
    /// Compresses a text and computes its tag.
    fn new(media_type: &'static str, text: &'static str) -> Self {
        let plain = text.as_bytes();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // Writing into memory does not fail. If it did, the file would be served plain.
        let written = encoder.write_all(plain).and_then(|()| encoder.finish());
        let hash = digest::digest(&digest::SHA256, plain);
        let hex = hash.as_ref().iter().take(12).map(|byte| format!("{byte:02x}"));
        Self {
            media_type,
            plain,
            gzip: written.unwrap_or_default(),
            // A weak tag, because one tag stands for both encodings.
            tag: format!("W/\"{}\"", hex.collect::<String>()),
        }
    }

    /// Returns the response to a request for this file: 304 if the client has it, compressed if the client accepts
    /// gzip.
    fn answer(&'static self, request: &Request) -> Response {
        let answer = Response::builder()
            .header(header::ETAG, &self.tag)
            .header(header::CACHE_CONTROL, "no-cache")
            .header(header::VARY, "accept-encoding")
            .header(header::CONTENT_SECURITY_POLICY, POLICY)
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        if values(request, &header::IF_NONE_MATCH).any(|tag| tag == self.tag || tag == "*") {
            return answer.status(StatusCode::NOT_MODIFIED).finish();
        }
        let answer = answer.content_type(self.media_type);
        match !self.gzip.is_empty() && values(request, &header::ACCEPT_ENCODING).any(|coding| coding == "gzip") {
            true => answer.header(header::CONTENT_ENCODING, "gzip").body(&self.gzip[..]),
            false => answer.body(self.plain),
        }
    }
}

/// Returns the comma-separated values of a header without their weights, and without those whose weight is 0.
fn values<'r>(request: &'r Request, name: &HeaderName) -> impl Iterator<Item = &'r str> {
    let headers = request.headers().get_all(name).into_iter();
    let lists = headers.filter_map(|value| value.to_str().ok());
    let each = lists.flat_map(|list| list.split(',')).map(str::trim);
    each.filter_map(|value| match value.split_once(';') {
        Some((_, weight)) if weight.trim().strip_prefix("q=").and_then(|q| q.parse().ok()) == Some(0.0) => None,
        Some((value, _)) => Some(value.trim()),
        None => Some(value),
    })
}

/// Returns the text between the first `start` and the first `end` after it; empty if either is missing.
fn inside(text: &'static str, start: &str, end: &str) -> &'static str {
    let rest = text.split_once(start).map_or("", |(_, rest)| rest);
    rest.split_once(end).map_or("", |(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_page_is_cut_into_its_parts() {
        assert!(UI.js.contains("SwaggerUIBundle") && UI.js.len() > 500_000);
        assert!(UI.css.contains(".swagger-ui") && UI.css.len() > 50_000);
        assert!(!PAGE.contains("<script>"));
    }
}
