//! Every secret that the program is given or makes, searched for in all that leaves it or stays behind: the log at its
//! finest level, the database, the metrics, the bodies of errors and the audit log. None may be there in clear. A text that
//! is no secret is put there on purpose, and the same search must find it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Caller, DEADLINE, KEY, Kind, Program, Receiver, Serving, TestDatabase, record, rows, within,
};

const ADMIN: &str = "admin-token-that-nobody-may-read-8c1f";
const HEADER: &str = "custom-header-value-that-nobody-may-read-51d0";
const PLAIN_HEADER: &str = "plain-header-value-that-nobody-may-read-7be2";
const PASSWORD: &str = "database-password-that-nobody-may-read-e0a4";
const OTHER_KEY: &str = "encryption-key-that-nobody-may-read-93ab";
/// The name of an application and of an event type, and the host of the public URL, so that database, audit log,
/// errors and log have it.
const PLANTED: &str = "planted-text-that-the-search-must-find-4d11";

/// A place that was searched, with its text.
struct Searched {
    place: String,
    text: Vec<u8>,
}

fn finds(text: &[u8], secret: &str) -> bool {
    text.windows(secret.len()).any(|window| window == secret.as_bytes())
}

/// Returns all rows of all tables, as text: what a dump contains.
async fn dump(db: &TestDatabase) -> Vec<Searched> {
    let connection = db.connect().await;
    let (tables, row) = match db.kind() {
        Kind::Sqlite => ("select name from sqlite_master where type = 'table'", None),
        Kind::Postgres => (
            "select tablename as name from pg_tables where schemaname = 'public'",
            Some("t::text"),
        ),
    };
    let mut found = Vec::new();
    for table in rows(&connection, tables).await {
        let name: String = table.try_get("", "name").expect("a name");
        if let Some(row) = row {
            let sql = format!("select {row} as text from {name} t");
            let all = rows(&connection, &sql).await;
            let all: Vec<String> = all.iter().map(|row| row.try_get("", "text").expect("a text")).collect();
            found.push(Searched {
                place: format!("table {name}"),
                text: all.join("\n").into_bytes(),
            });
        }
    }
    if db.kind() == Kind::Sqlite {
        let file = db.url().trim_start_matches("sqlite://").to_owned();
        // With the write-ahead log, which has what is not in the file yet.
        for suffix in ["", "-wal", "-journal"] {
            if let Ok(text) = std::fs::read(format!("{file}{suffix}")) {
                found.push(Searched {
                    place: format!("database file{suffix}"),
                    text,
                });
            }
        }
    }
    found
}

/// Returns how the place begins in which the database has the names of applications.
fn stored_in(db: &TestDatabase) -> &'static str {
    match db.kind() {
        Kind::Sqlite => "database file",
        Kind::Postgres => "table application",
    }
}

/// Returns the database's URL with a password, on a server that does not ask for one.
fn with_password(db: &TestDatabase) -> String {
    match db.kind() {
        Kind::Sqlite => db.url().to_owned(),
        Kind::Postgres => {
            let mut url = url::Url::parse(db.url()).expect("a url");
            url.set_password(Some(PASSWORD)).expect("it has a host");
            url.to_string()
        }
    }
}

fn text(body: &Value, field: &str) -> String {
    body[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field}: {body}"))
        .to_owned()
}

/// Uses all that has secrets. Returns the secrets, each with its name, and the bodies of errors.
async fn use_all(serving: &Serving, receiver: &Receiver) -> (Vec<(&'static str, String)>, String) {
    let (caller, server) = (Caller::new(ADMIN), serving.url());
    let symmetric = format!("whsec_{}", STANDARD.encode([0x5a; 24]));
    let replaced = format!("whsec_{}", STANDARD.encode([0x6b; 24]));
    caller
        .make(&server, "/app", json!({"name": "Shop", "uid": "shop"}))
        .await;
    caller
        .make(&server, "/app", json!({"name": PLANTED, "uid": PLANTED}))
        .await;
    let endpoint = json!({"url": receiver.url(), "uid": "e", "secret": symmetric,
        "headers": {"authorization": HEADER, "x-plain": PLAIN_HEADER}});
    caller.make(&server, "/app/shop/endpoint", endpoint).await;
    caller
        .make(&server, "/app/shop/endpoint/e/secret/rotate", json!({"key": replaced}))
        .await;
    caller.make(&server, "/app/shop/poller", json!({"uid": "p"})).await;
    let poller_secret = text(&caller.get(&server, "/app/shop/poller/p/secret").await, "key");
    let poller_token = caller
        .make(&server, "/app/shop/poller/p/token", json!({"name": "n"}))
        .await;
    let token = caller
        .make(&server, "/token", json!({"name": "n", "role": "viewer"}))
        .await;
    let portal = caller.make(&server, "/auth/app-portal-access/shop", json!({})).await;
    let secrets = vec![
        ("secret", symmetric.trim_start_matches("whsec_").to_owned()),
        ("replaced secret", replaced.trim_start_matches("whsec_").to_owned()),
        ("poller's secret", poller_secret.trim_start_matches("whsec_").to_owned()),
        ("poller's token", text(&poller_token, "token")),
        ("token", text(&token, "token")),
        ("portal's token", text(&portal, "token")),
        ("admin token", ADMIN.to_owned()),
        ("encryption key", KEY.to_owned()),
        ("former encryption key", OTHER_KEY.to_owned()),
        ("sensitive custom header", HEADER.to_owned()),
        ("custom header", PLAIN_HEADER.to_owned()),
        ("database's password", PASSWORD.to_owned()),
    ];
    for number in 0..3 {
        let message = json!({"eventType": "t", "payload": {"number": number}});
        caller.make(&server, "/app/shop/msg", message).await;
    }
    receiver.wait_for(3).await;
    (secrets.clone(), errors(&server, &secrets).await)
}

/// Provokes errors with requests that contain the secrets, and returns their bodies.
async fn errors(server: &str, secrets: &[(&str, String)]) -> String {
    let caller = Caller::new(ADMIN);
    let mut bodies = Vec::new();
    for (name, secret) in secrets {
        // A wrong token; a secret and a header that break a rule; a URL with a password; a body that is no JSON.
        let wrong = Caller::new(&format!("{secret}-wrong"));
        let url = format!(
            "http://user:{}@public.example/",
            secret.replace(['/', '+', '=', ' '], "x")
        );
        for (caller, path, body) in [
            (&wrong, "/app", json!({"name": "n"})),
            (
                &caller,
                "/app/shop/endpoint",
                json!({"url": "http://127.0.0.1:1/", "secret": format!("{secret}!")}),
            ),
            (
                &caller,
                "/app/shop/endpoint",
                json!({"url": "http://127.0.0.1:1/", "headers": {"authorization": format!("{secret}\n")}}),
            ),
            (
                &caller,
                "/app/shop/endpoint/e/secret/rotate",
                json!({"key": format!("whsk_{secret}")}),
            ),
            (&caller, "/app/shop/endpoint", json!({ "url": url })),
        ] {
            let answer = caller.post(server, path, &format!("{name} {path}"), &body).await;
            let (status, body) = answer.expect("a response");
            assert!((400..500).contains(&status), "{name}: {path}: {status} {body}");
            bodies.push(body.to_string());
        }
    }
    let planted = json!({"url": "http://127.0.0.1:1/", "filterTypes": [PLANTED]});
    let path = format!("/app/{PLANTED}/endpoint");
    let (_, body) = caller.post(server, &path, PLANTED, &planted).await.expect("a response");
    bodies.push(body.to_string());
    bodies.join("\n")
}

both!(
    no_secret_is_in_clear_in_log_database_metrics_errors_or_audit,
    async |db| {
        let receiver = Receiver::start().await;
        // One failure, since what is kept and logged of a failure is more.
        receiver.answer_next([Answer::status(500).body("a failure")]);
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let metrics = free.expect("a free port").to_string();
        let program = Program::on(&with_password(db))
            .env("POSTRIDER_ADMIN_TOKEN", ADMIN)
            .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
            .env("POSTRIDER_ENCRYPTION_KEY", &format!("{KEY}\n{OTHER_KEY}"))
            .env("POSTRIDER_LOG", "trace")
            .env("POSTRIDER_METRICS_LISTEN", &metrics)
            .env("POSTRIDER_PUBLIC_URL", &format!("http://{PLANTED}"));
        let mut serving = program.serve().await;
        let (secrets, errors) = use_all(&serving, &receiver).await;
        let caller = Caller::new(ADMIN);
        within(DEADLINE, "an attempt that has failed is shown", async || {
            let page = caller.get(&serving.url(), "/app/shop/delivery?state=waiting").await;
            (page["data"].as_array()?.len() == 1).then_some(())
        })
        .await;
        let audit = caller.get(&serving.url(), "/audit?limit=250").await;
        assert!(audit["data"].as_array().is_some_and(|rows| rows.len() > 5), "{audit}");
        let mut searched = vec![
            Searched {
                place: "metrics".to_owned(),
                text: caller.text(&format!("http://{metrics}/metrics")).await.into(),
            },
            Searched {
                place: "errors".to_owned(),
                text: errors.into(),
            },
            Searched {
                place: "audit log".to_owned(),
                text: audit.to_string().into(),
            },
        ];
        searched.extend(dump(db).await);
        assert_eq!(serving.stop().await, Some(0));
        let log = serving.stderr();
        assert!(log.contains("TRACE"), "the log is at its finest level");
        searched.push(Searched {
            place: "log".to_owned(),
            text: log.into(),
        });
        searched.push(Searched {
            place: "standard output".to_owned(),
            text: serving.stdout().into(),
        });
        let planted = searched.iter().filter(|place| finds(&place.text, PLANTED));
        let planted: Vec<_> = planted.map(|place| place.place.as_str()).collect();
        for kind in ["audit log", "errors", "log", stored_in(db)] {
            let is_found = planted.iter().any(|place| place.starts_with(kind));
            assert!(is_found, "the search finds what is in {kind}: {planted:?}");
        }
        let mut found = Vec::new();
        for place in &searched {
            for (name, secret) in &secrets {
                if finds(&place.text, secret) {
                    found.push(format!("{name} in {}", place.place));
                }
            }
        }
        let counts = json!({"secrets": secrets.len(), "places": searched.len(), "cases": secrets.len() * searched.len(),
        "bytes": searched.iter().map(|place| place.text.len()).sum::<usize>(), "found": found.len(), "planted text found in": planted.len(),
        "database": format!("{:?}", db.kind())});
        record("secrets", &counts);
        assert_eq!(found, Vec::<String>::new());
    }
);
