//! The documentation as pages: Swagger UI under /docs, cut from what poem-openapi embeds into files of their own so that
//! no inline script is needed, and the document as JSON and YAML. Called by routes.

use std::sync::LazyLock;

use poem::endpoint::make_sync;
use poem::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use poem::{Response, Route, get};

use super::openapi::{document, document_yaml, service};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
connect-src 'self'; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Postrider API</title>
<link rel="stylesheet" href="/docs/ui.css">
</head>
<body>
<div id="ui"></div>
<script src="/docs/ui.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"#;

const START: &str = r##"SwaggerUIBundle({ dom_id: "#ui", url: "/openapi.json", deepLinking: true, persistAuthorization: false });
"##;

/// What poem-openapi embeds, in its parts.
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
static JSON: LazyLock<String> = LazyLock::new(document);
static YAML: LazyLock<String> = LazyLock::new(document_yaml);

/// Adds the pages to the routes.
pub(super) fn add(route: Route) -> Route {
    route
        .at("/docs", get(make_sync(|_| html(PAGE))))
        .at("/docs/ui.css", get(make_sync(|_| file("text/css", UI.css))))
        .at("/docs/ui.js", get(make_sync(|_| file("text/javascript", UI.js))))
        .at("/docs/start.js", get(make_sync(|_| file("text/javascript", START))))
        .at("/openapi.json", get(make_sync(|_| file("application/json", &JSON))))
        .at("/openapi.yaml", get(make_sync(|_| file("application/yaml", &YAML))))
}

fn html(text: &'static str) -> Response {
    Response::builder()
        .content_type("text/html; charset=utf-8")
        .header(CONTENT_SECURITY_POLICY, POLICY)
        .header("x-content-type-options", "nosniff")
        .body(text)
}

fn file(media_type: &'static str, text: &'static str) -> Response {
    Response::builder()
        .content_type(media_type)
        .header(CACHE_CONTROL, "max-age=3600")
        .header("x-content-type-options", "nosniff")
        .body(text)
}

/// What stands between the first `start` and the first `end` after it; nothing where they are missing.
fn inside(text: &'static str, start: &str, end: &str) -> &'static str {
    let rest = text.split_once(start).map_or("", |(_, rest)| rest);
    rest.split_once(end).map_or("", |(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_page_is_cut_into_its_parts() {
        assert!(
            UI.js.contains("SwaggerUIBundle") && UI.js.len() > 500_000,
            "{}",
            UI.js.len()
        );
        assert!(
            UI.css.contains(".swagger-ui") && UI.css.len() > 50_000,
            "{}",
            UI.css.len()
        );
        assert!(!PAGE.contains("<script>"));
    }
}
