//! `POSTRIDER_PUBLIC_URL`: the address to which links in responses lead, with and without the setting.

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;

use crate::harness::{Caller, Program};

const TOKEN: &str = "an-admin-token-for-this-test";

async fn link(url: &str) -> String {
    let caller = Caller::new(TOKEN);
    let app = json!({"application": {"name": "Shop", "uid": "shop"}});
    let opened = caller.make(url, "/auth/app-portal-access/shop", app).await;
    opened["url"].as_str().expect("a link").to_owned()
}

both!(
    without_a_public_url_a_link_leads_to_the_listening_address_and_a_page_that_exists,
    async |db| {
        let program = Program::on(db.url()).env("POSTRIDER_ADMIN_TOKEN", TOKEN);
        let mut serving = program.serve().await;
        let link = link(&serving.url()).await;
        let (page, token) = link.split_once("#token=").expect("the token is in the fragment");
        assert_eq!(page, format!("{}/portal", serving.url()));
        assert!(token.starts_with("pr_"));
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let answer = client.get(page.parse().expect("a URL")).await.expect("a response");
        assert_eq!(answer.status(), 200);
        assert!(!serving.stderr().contains(token), "the token is not logged");
        assert_eq!(serving.stop().await, Some(0));
    }
);

#[tokio::test]
async fn with_a_public_url_links_lead_there() {
    let program = Program::bare()
        .env("POSTRIDER_ADMIN_TOKEN", TOKEN)
        .env("POSTRIDER_LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_PUBLIC_URL", "https://Hooks.Example/postrider/");
    let mut serving = program.serve().await;
    let link = link(&serving.url()).await;
    assert!(
        link.starts_with("https://hooks.example/postrider/portal#token=pr_"),
        "{link}"
    );
    assert_eq!(serving.stop().await, Some(0));
}

#[tokio::test]
async fn a_public_url_of_all_addresses_leads_to_the_machine_itself() {
    for (given, page) in [
        ("http://0.0.0.0:8188", "http://127.0.0.1:8188/portal#"),
        ("http://[::]:8188/", "http://[::1]:8188/portal#"),
    ] {
        let program = Program::bare()
            .env("POSTRIDER_ADMIN_TOKEN", TOKEN)
            .env("POSTRIDER_LISTEN", "127.0.0.1:0")
            .env("POSTRIDER_PUBLIC_URL", given);
        let mut serving = program.serve().await;
        let link = link(&serving.url()).await;
        assert!(link.starts_with(page), "{link}");
        assert_eq!(serving.stop().await, Some(0));
    }
}

#[tokio::test]
async fn a_public_url_that_no_path_can_follow_is_refused() {
    for url in [
        "hooks.example",
        "ftp://x/",
        "https://x/?a=b",
        "https://x/#y",
        "https://a:b@x/",
    ] {
        let line = Program::bare().run(&["serve", "--public-url", url]).await.failed(2);
        assert!(line.contains("--public-url"), "{line}");
    }
}
