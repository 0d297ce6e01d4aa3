//! Receivers with TLS, or without it where it is expected: which authorities the program trusts, how connections may
//! end, and how a failed handshake is explained.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::{Caller, DEADLINE, Program, RawReceiver, Rig, Then, read_request, rows, within};

/// Returns a TLS server with a certificate for 127.0.0.1 that an authority made for these tests has issued.
fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("certificates/receiver.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("certificates/receiver.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Starts a receiver that answers as Python's `http.server` behind `ssl` does: the body ends with the connection, which
/// closes without TLS's close notice.
async fn abrupt() -> String {
    abrupt_at("127.0.0.1").await
}

/// As [`abrupt`], at this address.
async fn abrupt_at(host: &str) -> String {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let acceptor = acceptor();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let _ = read_request(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").await;
            let _ = stream.flush().await;
            let _ = stream.get_mut().0.shutdown().await;
        }
    });
    url
}

both!(
    a_receiver_that_ends_tls_without_notice_has_answered_and_ssl_cert_file_is_trusted,
    async |db| {
        let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/certificates/authority.pem");
        let token = "a-token-of-the-operator";
        let serving = Program::on(db.url())
            .env("POSTRIDER_ADMIN_TOKEN", token)
            .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
            .env("SSL_CERT_FILE", authority)
            .serve()
            .await;
        let (caller, server) = (Caller::new(token), serving.url());
        caller
            .make(&server, "/app", json!({"name": "Shop", "uid": "shop"}))
            .await;
        caller
            .make(&server, "/app/shop/endpoint", json!({"url": abrupt().await}))
            .await;
        let message = json!({"eventType": "order.paid", "payload": {}});
        caller.make(&server, "/app/shop/msg", message).await;
        let connection = db.connect().await;
        let attempt = within(DEADLINE, "an attempt is recorded", async || {
            rows(&connection, "select response_status, response from attempt")
                .await
                .pop()
        })
        .await;
        let text: String = attempt.try_get("", "response").unwrap();
        assert_eq!(attempt.try_get::<i32>("", "response_status").unwrap(), 200, "{text}");
        assert!(text.starts_with("hello\n(the body ended early: "), "{text}");
    }
);

both!(a_certificate_for_another_name_is_told_in_words, async |db| {
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/certificates/authority.pem");
    let token = "a-token-of-the-operator";
    let serving = Program::on(db.url())
        .env("POSTRIDER_ADMIN_TOKEN", token)
        .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
        .env("SSL_CERT_FILE", authority)
        .serve()
        .await;
    let (caller, server) = (Caller::new(token), serving.url());
    let app = json!({"name": "Shop", "uid": "shop"});
    caller.make(&server, "/app", app).await;
    // The certificate is for 127.0.0.1 and localhost.
    let endpoint = json!({"url": abrupt_at("127.0.0.2").await});
    caller.make(&server, "/app/shop/endpoint", endpoint).await;
    let message = json!({"eventType": "order.paid", "payload": {}});
    caller.make(&server, "/app/shop/msg", message).await;
    let connection = db.connect().await;
    let attempt = within(DEADLINE, "an attempt is recorded", async || {
        rows(&connection, "select response, detail from attempt").await.pop()
    })
    .await;
    let text: String = attempt.try_get("", "response").unwrap();
    assert_eq!(text, "TLS: the certificate is for another name");
    let detail: String = attempt.try_get("", "detail").unwrap();
    assert!(detail.starts_with(r#"{"phase":"tls","peer":"127.0.0.2:"#), "{detail}");
});

both!(a_handshake_that_fails_is_told_in_words, async |db| {
    const FATAL_ALERT: [u8; 6] = [21, 3, 3, 0, 2, 2];
    let alert = |kind: u8| [&FATAL_ALERT[..], &[kind]].concat();
    let mut rig = Rig::on(db).await;
    let app = rig.application("a").await;
    let mut receivers = Vec::new();
    let answers = [
        (alert(40), "TLS: the receiver offers no cipher that we support"),
        (alert(71), "TLS: the receiver offers no cipher that we support"),
        (alert(70), "TLS: the receiver offers no version of TLS that we support"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".into(),
            "TLS: the receiver does not speak TLS there",
        ),
    ];
    for (number, (answer, _)) in answers.iter().enumerate() {
        let receiver = RawReceiver::saying(answer.clone(), Then::Close).await;
        let url = format!("https://{}/", receiver.address());
        rig.endpoint(&app, &number.to_string(), &url).await;
        receivers.push(receiver);
    }
    let unknown = abrupt().await;
    rig.endpoint(&app, "unknown", &unknown).await;
    rig.accept(&app, "{}").await;
    rig.step().await;
    let found = rows(
        &rig.db,
        "select endpoint_id, response from attempt where response_status = 0",
    )
    .await;
    let texts: Vec<(String, String)> = found
        .iter()
        .map(|row| {
            (
                row.try_get("", "endpoint_id").unwrap(),
                row.try_get("", "response").unwrap(),
            )
        })
        .collect();
    let text_of = |name: &str| {
        &texts
            .iter()
            .find(|(id, _)| *id == format!("ep_{name}"))
            .expect("an attempt")
            .1
    };
    for (number, (_, words)) in answers.iter().enumerate() {
        let text = text_of(&number.to_string());
        assert!(text.starts_with(words), "{number}: {text}");
    }
    assert_eq!(
        text_of("unknown"),
        "TLS: the certificate was issued by no authority that we trust"
    );
});
