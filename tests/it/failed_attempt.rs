//! What is kept of a failed attempt and shown of it: the phase in which it failed, the words, the headers of both sides,
//! the address and the times; and what of that a token of the application sees.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use postrider::domain::target::NOT_CALLED;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::api::Api;
use crate::harness::{Answer, NameServer, RawReceiver, Receiver, Shape, TestDatabase, Then, Zone};

/// An application whose single message was sent to endpoints that fail.
struct Failed {
    api: Api,
    app: String,
    message: String,
    /// A token of the application.
    token: String,
    /// The ids of the attempts, by endpoint.
    attempts: BTreeMap<String, String>,
}

impl Failed {
    /// Sends one message to endpoints with these names and URLs.
    async fn at(db: &TestDatabase, shape: Shape, endpoints: &[(&str, String)]) -> Self {
        let mut api = Api::shaped(db, shape, Duration::from_secs(30)).await;
        let app = api.application("app").await;
        for (name, url) in endpoints {
            api.rig.endpoint(&app, name, url).await;
        }
        api.rig.set_headers("ep_unsendable", r#"{"no header":"1"}"#).await;
        let body = json!({"eventType": "t", "payload": {}});
        let message = api.post(&format!("/app/{app}/msg"), body).await.field("id");
        api.rig.step().await;
        let list = api.walk(&format!("/app/{app}/attempt/msg/{message}"), 50).await;
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let attempts = list.iter().map(|row| (text(row, "endpointId"), text(row, "id")));
        Self {
            token: api.token_of(&app).await,
            attempts: attempts.collect(),
            api,
            app,
            message,
        }
    }

    /// Returns the attempt at an endpoint, as a token sees it.
    async fn seen_by(&self, token: &str, endpoint: &str) -> Value {
        let attempt = &self.attempts[&format!("ep_{endpoint}")];
        let path = format!("/app/{}/msg/{}/attempt/{attempt}", self.app, self.message);
        self.api.call(token, "GET", &path, &[], "").await.expect(200).clone()
    }

    /// Returns the attempt at an endpoint: as the organization sees it, and as the application does.
    async fn seen(&self, endpoint: &str) -> [Value; 2] {
        [
            self.seen_by(&self.api.token, endpoint).await,
            self.seen_by(&self.token, endpoint).await,
        ]
    }
}

/// Starts a TLS server on loopback with the certificate in this file.
async fn tls_server(pem: &'static [u8]) -> u16 {
    let certificate = CertificateDer::from_pem_slice(pem).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("certificates/receiver.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    port
}

/// Returns a port on loopback at which nothing listens.
async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

fn names(headers: &Value) -> Vec<&str> {
    let headers = headers.as_array().unwrap();
    headers.iter().map(|header| header["name"].as_str().unwrap()).collect()
}

both!(every_failure_names_its_phase_and_says_why, async |db| {
    let zones = [
        ("private.test", Zone::Address(Ipv4Addr::new(10, 1, 2, 3), 60)),
        ("here.test", Zone::Address(Ipv4Addr::LOCALHOST, 60)),
        ("failing.test", Zone::Fails),
        ("mute.test", Zone::Silent),
    ];
    let server = NameServer::start(zones).await;
    let shape = Shape {
        name_server: Some(server.address()),
        attempt_timeout: Duration::from_secs(3),
        ..Shape::default()
    };
    let refused = closed_port().await;
    let (http, https) = ("http", "https");
    let raw = [
        ("not-tls", https, &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Then::Close),
        ("tls-closed", https, b"", Then::Close),
        ("tls-silent", https, b"", Then::Hold),
        ("silent", http, b"", Then::Hold),
        ("closed", http, b"", Then::Close),
        ("reset", http, b"", Then::Reset),
        ("half", http, b"HTTP/1.1 200 OK\r\ncontent-le", Then::Close),
        ("no-http", http, b"SSH-2.0-OpenSSH_9.2\r\n", Then::Hold),
        ("answered", http, b"HTTP/1.1 500 Oops\r\n\r\n", Then::Close),
        ("malformed", http, b"HTTP/1.1 503 Busy\r\nx: \0\r\n\r\n", Then::Hold),
    ];
    let mut receivers = Vec::new();
    let mut endpoints = vec![
        ("refused", format!("http://127.0.0.1:{refused}/")),
        ("refused-name", format!("http://here.test:{refused}/")),
        ("missing", "http://missing.test/".to_owned()),
        ("private", "http://private.test/".to_owned()),
        ("literal", "http://10.1.2.3/".to_owned()),
        ("failing", "http://failing.test/".to_owned()),
        ("mute", "http://mute.test/".to_owned()),
        ("unsendable", format!("http://127.0.0.1:{refused}/")),
        (
            "expired",
            format!(
                "https://127.0.0.1:{}/",
                tls_server(include_bytes!("certificates/expired.pem")).await
            ),
        ),
        (
            "unknown",
            format!(
                "https://127.0.0.1:{}/",
                tls_server(include_bytes!("certificates/receiver.pem")).await
            ),
        ),
    ];
    for (name, scheme, answer, then) in raw {
        let receiver = RawReceiver::saying(answer, then).await;
        endpoints.push((name, format!("{scheme}://{}/", receiver.address())));
        receivers.push(receiver);
    }
    let failed = Failed::at(db, shape, &endpoints).await;
    // The name of the endpoint, the phase, and the beginning of the text.
    for (name, phase, text) in [
        ("refused", "connect", "connection refused"),
        ("refused-name", "connect", "connection refused"),
        ("failing", "resolve", "could not resolve the name failing.test: "),
        (
            "mute",
            "resolve",
            "could not resolve the name mute.test: its name servers did not answer in time",
        ),
        (
            "unsendable",
            "send",
            "the endpoint's header no header is not a valid header",
        ),
        ("expired", "tls", "TLS: the certificate has expired"),
        (
            "unknown",
            "tls",
            "TLS: the certificate was issued by no authority that we trust",
        ),
        ("not-tls", "tls", "TLS: the receiver does not speak TLS there"),
        (
            "tls-closed",
            "tls",
            "TLS: the connection was closed during the handshake",
        ),
        ("tls-silent", "tls", "TLS: no handshake within 3 s"),
        ("silent", "answer", "no answer within 3 s"),
        ("closed", "answer", "the connection was closed before an answer"),
        ("reset", "answer", "the connection was reset before an answer"),
        ("half", "answer", "the connection was closed before an answer"),
        ("no-http", "answer", "the answer is not HTTP: "),
        ("answered", "answer", "it answered 500"),
        ("malformed", "answer", "it answered 503"),
    ] {
        let [organization, application] = failed.seen(name).await;
        let error = &organization["error"];
        assert_eq!(error["phase"], phase, "{name}: {organization}");
        assert!(error["text"].as_str().unwrap().starts_with(text), "{name}: {error}");
        assert_eq!(&application["error"], error, "{name}");
        if organization["responseStatusCode"] == 0 {
            assert_eq!(
                organization["response"], error["text"],
                "{name}: one source for the words"
            );
        }
        let is_dialled = !["resolve", "send"].contains(&phase);
        let peer = organization["peer"].as_str();
        assert_eq!(
            peer.is_some_and(|peer| peer.starts_with("127.0.0.1:")),
            is_dialled,
            "{name}: {peer:?}"
        );
        assert_eq!(application["peer"], Value::Null, "{name}: it is not public");
        let phases = &organization["phasesMs"];
        assert_eq!(phases["total"], organization["responseDurationMs"], "{name}");
        let had = |phase: &str| phases[phase].is_i64();
        assert_eq!(
            had("resolve"),
            phase == "resolve" || name == "refused-name",
            "{name}: {phases}"
        );
        assert_eq!(had("connect"), is_dialled, "{name}: {phases}");
        assert_eq!(had("tls"), phase == "tls", "{name}: {phases}");
        assert_eq!(had("firstByte"), text.starts_with("it answered"), "{name}: {phases}");
        if text.ends_with("within 3 s") {
            assert!(phases["total"].as_i64().unwrap() >= 3_000, "{name}: {phases}");
        }
    }
    for (name, phase, text) in [
        (
            "missing",
            "resolve",
            "could not resolve the name missing.test: it does not exist, or has no address",
        ),
        (
            "private",
            "target",
            "the name private.test: address 10.1.2.3 is not public and must not be called; \
             POSTRIDER_ALLOW_TARGETS can allow it",
        ),
        (
            "literal",
            "target",
            "address 10.1.2.3 is not public and must not be called; POSTRIDER_ALLOW_TARGETS can allow it",
        ),
    ] {
        let [organization, mut application] = failed.seen(name).await;
        assert_eq!(organization["error"], json!({"phase": phase, "text": text}), "{name}");
        assert_eq!(organization["peer"], Value::Null, "{name}: it was not called");
        assert_eq!(
            application["error"],
            json!({"phase": "target", "text": NOT_CALLED}),
            "{name}"
        );
        let total = application["responseDurationMs"].take();
        assert_eq!(
            application["phasesMs"],
            json!({"total": total}),
            "{name}: times would tell them apart"
        );
        application["url"].take();
        application["requestHeaders"].take();
        assert!(!application.to_string().contains("10.1.2.3"), "{application}");
    }
    let kept = "attempt where detail is not null";
    assert_eq!(failed.api.rig.count(kept).await, 20);
});

both!(the_words_are_the_same_wherever_the_last_error_is_shown, async |db| {
    let url = format!("http://127.0.0.1:{}/", closed_port().await);
    let failed = Failed::at(db, Shape::default(), &[("e", url)]).await;
    let Failed { api, app, message, .. } = &failed;
    for path in [
        format!("/app/{app}/msg/{message}/explain"),
        format!("/app/{app}/delivery"),
    ] {
        assert_eq!(
            api.get(&path).await.expect(200)["data"][0]["lastError"],
            "connection refused",
            "{path}"
        );
    }
});

both!(headers_of_a_refusal_are_kept_whole_up_to_1_kib, async |db| {
    let long = "x".repeat(900);
    let answer = format!(
        "HTTP/1.1 503 Busy\r\nServer: nginx\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Long: {long}\r\nX-Longer: {long}\r\n\
         Retry-After: 60\r\ncontent-length: 0\r\n\r\n"
    );
    let receivers = [
        RawReceiver::saying(answer, Then::Close).await,
        RawReceiver::saying("HTTP/1.1 400 No\r\nserver: a\r\n\r\n", Then::Close).await,
    ];
    let endpoints = [("long", receivers[0].url()), ("short", receivers[1].url())];
    let failed = Failed::at(db, Shape::default(), &endpoints).await;
    for seen in failed.seen("long").await {
        let headers = &seen["responseHeaders"];
        assert_eq!(
            names(headers),
            [
                "server",
                "set-cookie",
                "set-cookie",
                "x-long",
                "retry-after",
                "content-length"
            ]
        );
        assert_eq!(headers[2], json!({"name": "set-cookie", "value": "b=2"}));
        assert_eq!(seen["responseHeadersCut"], true);
    }
    for seen in failed.seen("short").await {
        assert_eq!(seen["responseHeaders"], json!([{"name": "server", "value": "a"}]));
        assert_eq!(seen["responseHeadersCut"], Value::Null);
    }
    let listed = failed
        .api
        .get(&format!("/app/{}/attempt/msg/{}", failed.app, failed.message))
        .await;
    let listed = listed.expect(200)["data"][0].as_object().unwrap().clone();
    assert!(
        !listed.contains_key("error") && !listed.contains_key("responseHeaders"),
        "{listed:?}"
    );
});

both!(
    of_a_success_nothing_is_kept_and_its_request_is_shown_without_secrets,
    async |db| {
        let shape = Shape {
            svix_headers: true,
            ..Shape::default()
        };
        let mut api = Api::shaped(db, shape, Duration::from_secs(30)).await;
        let receiver = Receiver::start().await;
        let app = api.application("app").await;
        api.rig.endpoint(&app, "e", &receiver.url()).await;
        let custom = r#"{"X-API-KEY":"hunter2","Accept":"text/hidden","Host":"elsewhere"}"#;
        api.rig.set_headers("ep_e", custom).await;
        let body = json!({"eventType": "t", "payload": {}});
        let message = api.post(&format!("/app/{app}/msg"), body).await.field("id");
        api.rig.step().await;
        assert_eq!(api.rig.count("attempt where detail is null and delivered").await, 1);
        let list = api.get(&format!("/app/{app}/attempt/msg/{message}")).await;
        let id = list.expect(200)["data"][0]["id"].as_str().unwrap().to_owned();
        let arrival = receiver.arrivals().pop().unwrap();
        for token in [api.token.clone(), api.token_of(&app).await] {
            let path = format!("/app/{app}/msg/{message}/attempt/{id}");
            let seen = api.call(&token, "GET", &path, &[], "").await;
            for secret in ["hunter2", "text/hidden", "v1,"] {
                assert!(!seen.text.contains(secret), "{secret}: {}", seen.text);
            }
            let seen = seen.expect(200);
            for absent in ["error", "responseHeaders", "responseHeadersCut", "peer", "phasesMs"] {
                assert!(!seen.as_object().unwrap().contains_key(absent), "{absent}: {seen}");
            }
            let headers = &seen["requestHeaders"];
            let mut sent: Vec<_> = arrival.headers.keys().map(|name| name.as_str().to_owned()).collect();
            sent.retain(|name| name != "content-length");
            assert_eq!(names(headers), sent);
            for header in headers.as_array().unwrap() {
                let name = header["name"].as_str().unwrap();
                let is_hidden = name.ends_with("-signature") || ["x-api-key", "accept"].contains(&name);
                match header["value"].as_str() {
                    None => assert!(is_hidden, "{header}"),
                    Some(value) => assert_eq!(arrival.headers[name], value, "{header}"),
                }
            }
        }
        api.rig
            .sql("update endpoint set deleted_at = 1 where id = 'ep_e'", [])
            .await;
        let gone = api.get(&format!("/app/{app}/msg/{message}/attempt/{id}")).await;
        let shown = gone.expect(200)["requestHeaders"].as_array().unwrap().len();
        assert_eq!(shown, 10, "without the custom header");
    }
);

both!(
    an_attempt_over_an_open_connection_has_no_times_of_connecting,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        receiver.answer(Answer::status(500));
        let app = api.application("app").await;
        api.rig.endpoint(&app, "e", &receiver.url()).await;
        for _ in 0..2 {
            let body = json!({"eventType": "t", "payload": {}});
            api.post(&format!("/app/{app}/msg"), body).await.expect(202);
            api.rig.step().await;
            api.rig.advance(1);
        }
        let list = api.walk(&format!("/app/{app}/attempt/endpoint/ep_e"), 50).await;
        let mut seen = Vec::new();
        for row in list.iter().rev() {
            let [message, id] = ["msgId", "id"].map(|name| row[name].as_str().unwrap());
            seen.push(
                api.get(&format!("/app/{app}/msg/{message}/attempt/{id}"))
                    .await
                    .expect(200)
                    .clone(),
            );
        }
        assert_eq!(seen.len(), 2);
        for (attempt, is_new) in seen.iter().zip([true, false]) {
            let phases = attempt["phasesMs"].as_object().unwrap();
            assert_eq!(phases.contains_key("connect"), is_new, "{phases:?}");
            assert!(phases.contains_key("firstByte"), "{phases:?}");
            assert_eq!(attempt["peer"], receiver.address().to_string());
        }
    }
);

both!(
    a_removed_answer_takes_its_headers_along_and_old_attempts_have_none,
    async |db| {
        let receiver = RawReceiver::saying("HTTP/1.1 500 No\r\nx-secret: 1\r\n\r\n", Then::Close).await;
        let endpoints = [("removed", receiver.url()), ("old", receiver.url())];
        let failed = Failed::at(db, Shape::default(), &endpoints).await;
        let Failed { api, app, message, .. } = &failed;
        let removed = &failed.attempts["ep_removed"];
        let path = format!("/app/{app}/msg/{message}/attempt/{removed}/content");
        api.delete(&path).await.expect(204);
        let old = "update attempt set detail = null where endpoint_id = 'ep_old'";
        api.rig.sql(old, []).await;
        for name in ["removed", "old"] {
            for seen in failed.seen(name).await {
                for absent in ["error", "responseHeaders", "peer", "phasesMs"] {
                    assert_eq!(seen[absent], Value::Null, "{name} {absent}");
                }
                assert_eq!(seen["responseStatusCode"], 500);
            }
        }
    }
);
