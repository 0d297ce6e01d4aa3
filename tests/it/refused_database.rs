//! Databases that are refused because of their URL, their certificate or their encoding, or because they refuse the
//! program. Each ends with one line that says why and shows nothing secret. Also the wait for a database that is not
//! there yet.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sea_orm::ConnectionTrait;
use url::Url;

use crate::harness::{DEADLINE, Program, Proxy, within};

const WRONG_PASSWORD: &[u8] = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"postrider\"\0\0";
const NO_ENTRY: &[u8] = b"SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry for host \"10.0.0.7\", user \"postrider\", \
                          database \"postrider\", no encryption\0Fauth.c\0L948\0RClientAuthentication\0\0";

/// Starts a server that speaks just enough of the protocol to refuse every client (PostgreSQL documentation, chapter
/// 54), over TLS if it has a certificate. Returns its address.
fn refuse(fields: &'static [u8], tls: Option<Arc<ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("the listener has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 8];
            if stream.read_exact(&mut request).is_err() {
                continue;
            }
            let answer: &[u8] = if tls.is_some() { b"S" } else { b"N" };
            stream
                .write_all(answer)
                .expect("the client reads whether TLS is spoken");
            let _ = match &tls {
                None => refuse_one(&mut stream, fields),
                Some(config) => {
                    let connection = ServerConnection::new(config.clone()).expect("a connection");
                    refuse_one(&mut StreamOwned::new(connection, stream), fields)
                }
            };
        }
    });
    address
}

/// Answers one startup message with the refusal. Fails if the client turns away.
fn refuse_one(stream: &mut (impl Read + Write), fields: &[u8]) -> std::io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut startup)?;
    let mut answer = vec![b'E'];
    answer.extend(u32::try_from(fields.len() + 4).expect("short").to_be_bytes());
    answer.extend(fields);
    stream.write_all(&answer)?;
    stream.flush()
}

#[tokio::test]
async fn a_password_that_does_not_reach_an_existing_volume_is_named_as_the_cause() {
    let address = refuse(WRONG_PASSWORD, None);
    let program = Program::on(&format!("postgresql://postrider@{address}/postrider"))
        .env("POSTRIDER_DATABASE_PASSWORD", "changed");
    for command in ["serve", "migrate"] {
        let line = program.run(&[command]).await.failed(1);
        assert!(line.contains("changed after the database was created"), "{line}");
        assert!(line.contains("password authentication failed"), "{line}");
    }
}

#[tokio::test]
async fn a_refusal_by_pg_hba_is_not_called_a_wrong_password() {
    let address = refuse(NO_ENTRY, None);
    let program = Program::on(&format!("postgresql://postrider:do-not-show@{address}/postrider"));
    for command in ["serve", "migrate"] {
        let line = program.run(&[command]).await.failed(1);
        assert!(
            line.contains("no pg_hba.conf entry for host") && line.contains("whatever the password"),
            "{line}"
        );
        assert!(
            !line.contains("refuses the password") && !line.contains("do-not-show"),
            "{line}"
        );
        assert!(
            !line.contains("at line"),
            "a line of the server's own source means nothing to an operator: {line}"
        );
    }
}

/// Makes a self-signed certificate and its key, and returns their files.
fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    let (config, certificate, key) = (file("cnf"), file("pem"), file("key"));
    let text = "[req]\ndistinguished_name = dn\nx509_extensions = ext\nprompt = no\n[dn]\nCN = postgres.example\n\
                [ext]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = DNS:postgres.example\n";
    fs::write(&config, text).expect("the file is written");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .arg("-config")
        .arg(&config)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (certificate, key)
}

#[tokio::test]
async fn with_root_certificates_require_takes_no_certificate_but_theirs() {
    let program = Program::bare();
    let (own, key) = certificate(program.folder(), "own");
    let (other, _) = certificate(program.folder(), "other");
    let chain = CertificateDer::pem_file_iter(&own)
        .expect("a file")
        .map(|parsed| parsed.expect("PEM"))
        .collect();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&key).expect("a key"))
        .expect("a certificate and its key");
    let address = refuse(WRONG_PASSWORD, Some(Arc::new(config)));
    let (own, other) = (own.display(), other.display());
    let run = async |parameters: &str, variable: Option<&str>| {
        let url = format!("postgresql://postrider:do-not-show@{address}/postrider?{parameters}");
        let program = Program::on(&url);
        let program = match variable {
            Some(file) => program.env("PGSSLROOTCERT", file),
            None => program,
        };
        let line = program.run(&["migrate"]).await.failed(1);
        assert!(!line.contains("do-not-show"), "{line}");
        line
    };
    // The certificate is checked before the password, so this error shows that it was accepted.
    for parameters in [
        "sslmode=require".to_owned(),
        format!("sslmode=require&sslrootcert={own}"),
        format!("sslmode=verify-ca&sslrootcert={own}"),
        format!("sslrootcert={other}"),
    ] {
        let line = run(&parameters, None).await;
        assert!(line.contains("refuses the password"), "{parameters}: {line}");
    }
    for (parameters, variable) in [
        (format!("sslmode=require&sslrootcert={other}"), None),
        (format!("ssl-root-cert={other}&sslmode=REQUIRE"), None),
        ("sslmode=require".to_owned(), Some(other.to_string())),
        (format!("sslmode=verify-full&sslrootcert={own}"), None),
    ] {
        let line = run(&parameters, variable.as_deref()).await;
        assert!(
            line.contains("over TLS") && line.contains("certificate"),
            "{parameters}: {line}"
        );
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_it_is_required() {
    let address = refuse(WRONG_PASSWORD, None);
    let url = format!("postgresql://postrider@{address}/postrider?sslmode=require");
    let line = Program::on(&url).run(&["serve"]).await.failed(1);
    assert!(line.contains("over TLS"), "{line}");
}

#[tokio::test]
async fn a_file_of_certificates_that_is_missing_or_holds_none_is_named_at_once() {
    // No server listens there; without the check the program would wait for one.
    let url = "postgresql://postrider:do-not-show@127.0.0.1:1/postrider?sslmode=verify-full";
    for (parameters, file, reason) in [
        ("sslrootcert=missing.pem", "missing.pem", "cannot be read"),
        ("sslrootcert=empty.pem", "empty.pem", "does not hold certificates"),
        (
            "sslcert=missing.pem&sslkey=missing.key",
            "missing.pem",
            "cannot be read",
        ),
        (
            "sslcert=own.pem&sslkey=own.pem",
            "own.pem",
            "does not hold a private key",
        ),
    ] {
        for (name, command) in [("DATABASE_URL", "serve"), ("MIGRATE_DATABASE_URL", "migrate")] {
            let program = Program::bare().env(name, &format!("{url}&{parameters}"));
            fs::write(program.folder().join("empty.pem"), "no certificate\n").expect("the file is written");
            certificate(program.folder(), "own");
            let line = program.run(&[command]).await.failed(1);
            let path = program.folder().join(file);
            assert!(line.contains(name) && line.contains(&*path.to_string_lossy()), "{line}");
            assert!(line.contains(reason) && !line.contains("do-not-show"), "{line}");
        }
    }
}

#[tokio::test]
async fn a_parameter_that_is_not_known_is_left_out_and_not_shown() {
    let address = refuse(WRONG_PASSWORD, None);
    let url = format!("postgresql://postrider@{address}/postrider?passwort=do-not-show&connect_timeout=10");
    let ended = Program::on(&url).run(&["migrate"]).await;
    assert!(
        ended.stderr.contains("parameters that are not known"),
        "{}",
        ended.stderr
    );
    assert!(
        !ended.stderr.contains("do-not-show") && !ended.stderr.contains("passwort"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn an_sqlite_url_may_say_that_the_file_is_to_be_made() {
    let program = Program::bare().env("DATABASE_URL", "sqlite://x.sqlite?mode=rwc");
    program.run(&["migrate"]).await.ok();
    assert!(program.folder().join("x.sqlite").exists());
}

#[tokio::test]
async fn a_file_that_cannot_be_made_is_named_by_its_whole_path_and_its_setting() {
    let program = Program::bare().env("DATABASE_URL", "sqlite://taken/x.sqlite");
    let taken = program.folder().join("taken");
    fs::write(&taken, "").expect("the file is written");
    for command in ["serve", "migrate"] {
        let line = program.run(&[command]).await.failed(1);
        assert!(
            line.contains(&*taken.to_string_lossy()) && line.contains("DATABASE_URL"),
            "{line}"
        );
    }
}

postgres_only!(
    a_database_that_is_not_in_utf8_is_refused_with_the_statement_that_makes_a_right_one,
    async |db| {
        let mut url = Url::parse(db.url()).expect("a database URL");
        let name = url.path().trim_start_matches('/').to_owned();
        let admin = db.connect().await;
        let (wrong, right) = (format!("{name}_ascii"), format!("{name}_utf8"));
        let drop = async || {
            for name in [&wrong, &right] {
                let sql = format!("drop database if exists {name} with (force)");
                admin.execute_unprepared(&sql).await.expect(&sql);
            }
        };
        drop().await;
        let sql = format!(
            "create database {wrong} template template0 encoding 'SQL_ASCII' locale_provider 'libc' locale 'C'"
        );
        admin.execute_unprepared(&sql).await.expect(&sql);
        url.set_path(&wrong);
        let program = Program::on(url.as_str()).env("POSTRIDER_MIGRATE", "true");
        let mut statement = String::new();
        for command in ["serve", "migrate"] {
            let line = program.run(&[command]).await.failed(1);
            assert!(
                line.contains(&wrong) && line.contains("SQL_ASCII") && line.contains("UTF8"),
                "{line}"
            );
            statement = line.split('`').nth(1).expect("a statement").replace("NAME", &right);
        }
        admin.execute_unprepared(&statement).await.expect(&statement);
        url.set_path(&right);
        assert_eq!(Program::on(url.as_str()).run(&["migrate"]).await.ok(), "migrated\n");
        drop().await;
    }
);

postgres_only!(
    the_wait_for_a_database_that_is_not_there_yet_is_two_lines_of_the_log,
    async |db| {
        let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let nowhere = format!(
            "postgresql://{}/nowhere",
            closed.local_addr().expect("the listener has an address")
        );
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = tries.clone();
        std::thread::spawn(move || {
            for _ in closed.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let proxy = Proxy::to(db.url()).await;
        proxy.lead_to(&nowhere).await;
        let program = Program::on(&proxy.url(db.url()));
        let (mut serving, ()) = tokio::join!(program.serve(), async {
            within(DEADLINE, "the program tries again", async || {
                (tries.load(Ordering::SeqCst) > 3).then_some(())
            })
            .await;
            proxy.lead_to(db.url()).await;
        });
        assert_eq!(serving.stop().await, Some(0));
        let said = serving.stderr();
        assert_eq!(said.matches("waiting for the database").count(), 1, "{said}");
        assert_eq!(said.matches("the database answers").count(), 1, "{said}");
    }
);
