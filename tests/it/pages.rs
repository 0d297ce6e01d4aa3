//! The pages beside the API: console, portal and Swagger UI. Their parts, headers and addresses, and that they need
//! nothing from elsewhere.

use poem::Request;
use poem::http::Method;

use crate::api::Api;

/// The policy of every page, without what may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
base-uri 'none'; form-action 'none'";
const TRUSTED_TYPES: &str = "require-trusted-types-for 'script'; trusted-types 'none'";

/// Returns the addresses of the parts to which a page refers.
async fn parts(api: &Api, page: &str) -> Vec<String> {
    let html = api.fetch(page, &[]).await.text();
    let quoted = html.split('"').filter(|text| text.starts_with("ui/"));
    let parts: Vec<String> = quoted.map(|path| format!("/{path}")).collect();
    assert!(!parts.is_empty(), "{page}: {html}");
    parts
}

both!(the_address_alone_leads_to_the_console_below_any_path, async |db| {
    let api = Api::on(db).await;
    for path in ["/", "//"] {
        let home = api.fetch(path, &[]).await;
        assert_eq!((home.status, home.header("location")), (303, "console"), "{path}");
    }
    for page in ["console", "portal"] {
        assert_eq!(api.fetch(&format!("/{page}"), &[]).await.status, 200);
        let slash = api.fetch(&format!("/{page}/"), &[]).await;
        let expected = format!("../{page}");
        assert_eq!((slash.status, slash.header("location")), (303, &*expected));
    }
});

both!(
    console_and_portal_run_without_inline_scripts_and_without_the_internet,
    async |db| {
        let api = Api::on(db).await;
        for (page, ancestors) in [("/console", "'none'"), ("/portal", "https://app.example")] {
            let answer = api.fetch(page, &[]).await;
            let html = answer.text();
            assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
            let policy = format!("{POLICY}; {TRUSTED_TYPES}; frame-ancestors {ancestors}");
            assert_eq!(answer.header("content-security-policy"), policy, "{page}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(answer.header("referrer-policy"), "no-referrer");
            assert_eq!(answer.header("cache-control"), "no-cache");
            for inline in ["<style", "style=", "<script>", "onclick", "onload", "://", "HASH"] {
                assert!(!html.contains(inline), "{page}, {inline}: {html}");
            }
            for path in parts(&api, page).await {
                let part = api.fetch(&path, &[]).await;
                let media_type = if path.ends_with(".css") {
                    "text/css"
                } else {
                    "text/javascript"
                };
                assert_eq!((part.status, part.header("content-type")), (200, media_type), "{path}");
                assert_eq!(part.header("cache-control"), "public, max-age=31536000, immutable");
                let text = part.text();
                assert!(!text.contains("innerHTML"), "{path} makes markup of a text");
            }
        }
        let docs = api.fetch("/docs", &[]).await;
        let policy = format!("{POLICY}; frame-ancestors 'none'");
        assert_eq!(docs.header("content-security-policy"), policy);
    }
);

both!(a_part_has_an_address_of_its_version_alone, async |db| {
    let api = Api::on(db).await;
    let known = parts(&api, "/portal").await.remove(0);
    let hash = known.split('/').nth(2).expect("a folder");
    assert!(
        hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{hash}"
    );
    for path in [
        known.replace(hash, "0123456789abcdef"),
        known.replace(&format!("{hash}/"), ""),
        format!("/ui/{hash}/none.js"),
        format!("/ui/{hash}/portal.html"),
        format!("/ui/{hash}"),
        "/ui/".to_owned(),
        "/portal/page.js".to_owned(),
    ] {
        let request = Request::builder().uri_str(&path).finish();
        api.send(request).await.refused(404, "not_found");
    }
    let post = Request::builder().method(Method::POST).uri_str(&known).finish();
    let answer = api.send(post).await;
    answer.refused(405, "method_not_allowed");
    assert_eq!(answer.headers["allow"], "GET, HEAD");
});

both!(pages_are_sent_compressed_and_once_to_those_who_keep_them, async |db| {
    let api = Api::on(db).await;
    let part = parts(&api, "/portal").await.remove(0);
    for path in [
        "/console",
        "/portal",
        &part,
        "/docs",
        "/docs/ui.js",
        "/docs/ui.css",
        "/openapi.json",
    ] {
        let plain = api.fetch(path, &[("accept-encoding", "br, gzip;q=0")]).await;
        assert_eq!(plain.header("content-encoding"), "", "{path}");
        let packed = api.fetch(path, &[("accept-encoding", "br, gzip;q=0.8")]).await;
        assert_eq!(packed.header("content-encoding"), "gzip", "{path}");
        let mut text = String::new();
        let mut decoder = flate2::read::GzDecoder::new(&packed.body[..]);
        std::io::Read::read_to_string(&mut decoder, &mut text).unwrap();
        assert!(text == plain.text() && packed.body.len() < plain.body.len(), "{path}");

        let tag = plain.header("etag");
        assert_eq!(packed.header("etag"), tag);
        let kept = api.fetch(path, &[("if-none-match", &format!("\"x\", {tag}"))]).await;
        assert_eq!((kept.status, kept.body.len()), (304, 0), "{path}");
        let other = api.fetch(path, &[("if-none-match", "\"x\"")]).await;
        assert_eq!(other.status, 200, "{path}");
    }
});
