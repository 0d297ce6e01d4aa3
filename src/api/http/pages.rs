//! Serves the pages: the console, the portal, Swagger UI under /docs, and the API document as JSON.
//!
//! Console and portal refer to their parts by a folder that is named by a hash of all of them, so browsers keep the
//! parts for good and ask for the two pages alone. All addresses in them are relative: the server may be below a path.
//! Scripts and styles are files of their own, so that the content security policy can forbid inline ones. The pages fetch
//! nothing from other servers.
//!
//! Must not serve anything that depends on the caller: the files are the same for all, and need no token.

use std::sync::{Arc, LazyLock};

use poem::endpoint::make_sync;
use poem::error::NotFoundError;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Request, Response, Route, RouteMethod, get};

use super::files::{HASH, PAGES, PARTS, Packed, Rules, SWAGGER_UI};
use crate::api::document::document;

/// The content security policy of all pages, without what may frame them.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
base-uri 'none'; form-action 'none'";
/// What is added for pages that make their elements one by one: no text becomes markup or a script. Swagger UI does not
/// work under it.
const TRUSTED_TYPES: &str = "require-trusted-types-for 'script'; trusted-types 'none'";
/// What may frame a page.
const NO_FRAME: &str = "'none'";
/// A browser asks each time whether it has the present version.
const CHECKED: HeaderValue = HeaderValue::from_static("no-cache");
/// A browser never asks again: another version has another address.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

const DOCS: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Postrider API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/ui.css">
<link rel="stylesheet" href="/docs/fitted.css">
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

/// A second path of the document: the published SDKs' own tests ask for it there.
pub(crate) const DOCUMENT: &str = "/api/v1/openapi.json";

const HOME: &str = "/";
const CONSOLE: &str = "/console";
const PORTAL: &str = "/portal";
/// The paths of the parts of console and portal, as the metrics name them.
const PART: [&str; 2] = ["/ui/{hash}/{file}", "/ui/{hash}/{folder}/{file}"];

/// Marks a request whose path ended in a slash before `routes.rs` removed it.
#[derive(Clone)]
pub(super) struct EndedInSlash;

type Lazy = LazyLock<&'static Packed>;

/// The files of Swagger UI, and the document.
static FILES: [(&str, Lazy); 7] = [
    ("/docs", Lazy::new(|| pack("text/html; charset=utf-8", DOCS))),
    ("/docs/ui.css", Lazy::new(|| named(SWAGGER_UI, "swagger-ui.css"))),
    ("/docs/fitted.css", Lazy::new(|| pack("text/css", FITTED))),
    ("/docs/ui.js", Lazy::new(|| named(SWAGGER_UI, "swagger-ui-bundle.js"))),
    ("/docs/start.js", Lazy::new(|| pack("text/javascript", START))),
    ("/openapi.json", Lazy::new(|| *JSON)),
    (DOCUMENT, Lazy::new(|| *JSON)),
];
static JSON: Lazy = Lazy::new(|| pack("application/json", &document()));

/// Adds the pages to the routes. `ancestors` are the origins whose pages may frame the portal, as a list of sources of
/// the content security policy.
pub(crate) fn add(route: Route, ancestors: &str) -> Route {
    let docs = Arc::new(rules(POLICY, NO_FRAME, CHECKED));
    let route = FILES.iter().fold(route, |route, (path, file)| {
        let rules = docs.clone();
        route.at(*path, get(make_sync(move |request| file.answer(&request, &rules))))
    });
    let strict = format!("{POLICY}; {TRUSTED_TYPES}");
    let parts = rules(&strict, NO_FRAME, KEPT);
    route
        .at(HOME, get(make_sync(|_| lead_to("console"))))
        .at(CONSOLE, page(CONSOLE, rules(&strict, NO_FRAME, CHECKED)))
        .at(PORTAL, page(PORTAL, rules(&strict, ancestors, CHECKED)))
        .at("/ui/*part", get(make_sync(move |request| part(&request, &parts))))
}

/// Returns the paths of all pages.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    let files = FILES.iter().map(|(path, _)| *path);
    files.chain([HOME, CONSOLE, PORTAL]).chain(PART)
}

fn rules(policy: &str, ancestors: &str, caching: HeaderValue) -> Rules {
    let policy = format!("{policy}; frame-ancestors {ancestors}");
    Rules {
        policy: HeaderValue::from_str(&policy).expect("origins are ASCII without control characters"),
        caching,
    }
}

/// Returns the endpoint of a page whose references are relative. Its address with a slash at the end, from which they
/// would lead elsewhere, leads to the one without.
fn page(path: &'static str, rules: Rules) -> RouteMethod {
    let name = path.trim_start_matches('/');
    let file = named(PAGES, &format!("{name}.html"));
    get(make_sync(move |request: Request| {
        match request.data::<EndedInSlash>() {
            Some(_) => lead_to(&format!("../{name}")),
            None => file.answer(&request, &rules),
        }
    }))
}

/// Returns a part of console or portal. A part of another version is not found: a browser would keep the wrong one.
fn part(request: &Request, rules: &Rules) -> poem::Result<Response> {
    let path = request.uri().path().strip_prefix("/ui/").unwrap_or_default();
    let named = path.split_once('/').filter(|(hash, _)| *hash == HASH);
    let file = named.and_then(|(_, path)| Packed::find(PARTS, path));
    Ok(file.ok_or(NotFoundError)?.answer(request, rules))
}

/// Redirects to `path`, which is relative to the address of the request: the server may be below a path.
fn lead_to(path: &str) -> Response {
    let answer = Response::builder().status(StatusCode::SEE_OTHER);
    answer.header(header::LOCATION, path).finish()
}

fn pack(media_type: &'static str, text: &str) -> &'static Packed {
    Box::leak(Box::new(Packed::new("", media_type, text)))
}

/// Returns a file that build.rs has made.
fn named(files: &'static [Packed], name: &str) -> &'static Packed {
    Packed::find(files, name).expect("build.rs has made it")
}
