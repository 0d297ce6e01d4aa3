//! `app serve`: its conditions, the messages of a first start, and how it stops.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Answer, Caller, DEADLINE, KEY, Program, Receiver, Serving, TestDatabase, rows, within};

/// Returns the token that a first start printed.
fn printed_token(said: &str) -> Option<String> {
    let token = said.split_whitespace().find(|word| word.starts_with("pr_"))?;
    Some(token.to_owned())
}

async fn is_healthy(program: &Program, serving: &Serving) -> bool {
    let asking = program.clone().env("POSTRIDER_LISTEN", &serving.address().to_string());
    asking.run(&["healthcheck"]).await.code == Some(0)
}

both!(serve_answers_health_and_ends_with_0_on_either_signal, async |db| {
    let program = Program::on(db.url());
    for signal in ["TERM", "INT"] {
        let mut serving = program.serve().await;
        assert!(is_healthy(&program, &serving).await);
        serving.signal(signal);
        assert_eq!(serving.end().await, Some(0), "{}", serving.stderr());
        assert!(!is_healthy(&program, &serving).await, "the port is closed");
    }
});

#[tokio::test]
async fn a_first_start_on_sqlite_in_a_terminal_prints_a_token_once_with_the_way_to_a_first_webhook() {
    let program = Program::bare().env("POSTRIDER_LISTEN", "127.0.0.1:0");
    let mut first = program.serve_in_terminal().await;
    let said = within(DEADLINE, "the first start prints its commands", async || {
        Some(first.stdout()).filter(|said| said.contains("/shop/msg"))
    })
    .await;
    let token = printed_token(&said).expect("a token");
    assert!(said.contains(&format!("{}/docs", first.url())), "{said}");
    let (_, code) = said
        .split_once(&format!("  {}/console#code=", first.url()))
        .expect("a link to the console");
    let code = code.lines().next().unwrap_or_default().trim();
    let session = Caller::new("none")
        .make(&first.url(), "/auth/console-session", json!({ "code": code }))
        .await;
    assert!(session["token"].is_string(), "{session}");
    assert!(said.contains("POSTRIDER_ALLOW_TARGETS=127.0.0.0/8"), "{said}");
    assert_eq!(said.matches("curl -H").count(), 3, "{said}");
    assert_eq!(said.matches(&format!("Bearer {token}")).count(), 3, "{said}");
    let shop = Caller::new(&token)
        .make(&first.url(), "/app", json!({"name": "Shop", "uid": "shop"}))
        .await;
    assert_eq!(shop["uid"], "shop");
    assert_eq!(first.stop().await, Some(0));
    let list = program.run(&["token", "list"]).await.ok();
    assert!(list.contains("default"), "{list}");

    let mut second = program.serve_in_terminal().await;
    assert_eq!(second.stop().await, Some(0));
    assert_eq!(second.stdout(), "", "the token is shown once");
    assert!(!second.stderr().contains("pr_"), "the token is not logged");
    let console = format!("the console: {}/console", second.url());
    assert!(second.stderr().contains(&console), "{}", second.stderr());
}

// In a container for example, where printed text is kept.
#[tokio::test]
async fn a_first_start_without_a_terminal_prints_no_token_and_names_the_command_that_makes_one() {
    let program = Program::bare().env("POSTRIDER_LISTEN", "127.0.0.1:0");
    let mut serving = program.serve().await;
    let said = within(DEADLINE, "the log names the command", async || {
        Some(serving.stderr()).filter(|said| said.contains("/docs"))
    })
    .await;
    let (_, command) = said.split_once("no token was made yet: app ").expect("the command");
    let arguments: Vec<&str> = command.lines().next().unwrap_or_default().split(' ').collect();
    assert_eq!(arguments, ["token", "create", "--organization", "default"]);
    let token = program.run(&arguments).await.ok();
    let body = json!({"name": "Shop"});
    Caller::new(token.trim()).make(&serving.url(), "/app", body).await;
    assert_eq!(serving.stop().await, Some(0));
    assert_eq!(serving.stdout(), "");
    assert!(!serving.stderr().contains("pr_"), "{}", serving.stderr());
    let mut second = program.serve().await;
    assert_eq!(second.stop().await, Some(0));
    assert!(!second.stderr().contains("no token"), "{}", second.stderr());
}

#[tokio::test]
async fn the_commands_of_a_first_start_send_a_webhook_as_they_stand() {
    let receiver = Receiver::start().await;
    let program = Program::bare()
        .env("POSTRIDER_LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8");
    let serving = program.serve_in_terminal().await;
    let said = within(DEADLINE, "the first start prints its commands", async || {
        Some(serving.stdout()).filter(|said| said.contains("/shop/msg"))
    })
    .await;
    assert!(!said.contains("refused"), "loopback is allowed already: {said}");
    let caller = Caller::new(&printed_token(&said).expect("a token"));
    for command in said.lines().filter(|line| line.contains("curl")) {
        let (start, body) = command.split_once(" -d '").expect("a body");
        let (_, path) = start.split_once("/api/v1").expect("a path");
        let body = body
            .trim_end_matches('\'')
            .replace("127.0.0.1:9000", &receiver.address().to_string());
        let body = serde_json::from_str(&body).expect("JSON");
        caller.make(&serving.url(), path, body).await;
    }
    let arrived = receiver.wait_for(1).await;
    assert_eq!(arrived[0].text(), r#"{"total":1.1}"#);
    let (_, secret) = said.split_once("SECRET=").expect("the receiver's secret");
    let (secret, receiver) = secret.split_once(' ').expect("the receiver's command");
    assert!(
        arrived[0].is_signed_with(secret),
        "the endpoint has the receiver's secret"
    );
    let (_, manifest) = receiver.split_once("--manifest-path ").expect("a path");
    let manifest = manifest.lines().next().unwrap_or_default();
    assert!(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest).exists(),
        "{manifest}"
    );
}

#[tokio::test]
async fn a_first_start_with_a_token_configured_makes_none() {
    let program = Program::bare()
        .env("POSTRIDER_LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_ADMIN_TOKEN", "a-token-of-the-operator's-own");
    let mut serving = program.serve().await;
    assert_eq!(serving.stop().await, Some(0));
    assert_eq!(serving.stdout(), "");
    assert!(!serving.stderr().contains("operator's-own"), "{}", serving.stderr());
    assert_eq!(
        program.run(&["token", "list"]).await.ok().lines().count(),
        1,
        "the list has only its heading"
    );
}

both!(of_two_admin_tokens_both_are_valid, async |db| {
    let program = Program::on(db.url());
    std::fs::write(
        program.folder().join("token"),
        "the-new-token-of-the-operator\nthe-former-token-of-the-operator\n",
    )
    .expect("the file is written");
    let serving = program.env("POSTRIDER_ADMIN_TOKEN_FILE", "token").serve().await;
    let call = async |token: &str| {
        let body = json!({"name": "Shop", "uid": token});
        let answer = Caller::new(token).post(&serving.url(), "/app", token, &body).await;
        answer.expect("an answer").0
    };
    assert_eq!(call("the-new-token-of-the-operator").await, 201);
    assert_eq!(call("the-former-token-of-the-operator").await, 201);
    assert_eq!(call("another-token-of-the-operator").await, 401);
});

both!(
    the_admin_token_acts_for_the_default_organization_on_every_start,
    async |db| {
        let token = "a-token-of-the-operator";
        let program = Program::on(db.url()).env("POSTRIDER_ADMIN_TOKEN", token);
        for uid in ["one", "two"] {
            let mut serving = program.serve().await;
            let caller = Caller::new(token);
            caller
                .make(&serving.url(), "/app", json!({"name": "Shop", "uid": uid}))
                .await;
            assert_eq!(serving.stop().await, Some(0));
        }
        let owners = "select distinct organization.name from application join organization on organization.id = org_id";
        let owners = rows(&db.connect().await, owners).await;
        assert_eq!(owners.len(), 1);
        assert_eq!(owners[0].try_get::<String>("", "name").expect("a name"), "default");
    }
);

both!(
    a_token_works_as_soon_as_it_is_made_and_no_longer_than_5_s_after_it_is_revoked,
    async |db| {
        let program = Program::on(db.url());
        let serving = program.serve().await;
        let token = program.run(&["token", "create", "--organization", "acme"]).await.ok();
        let caller = Caller::new(token.trim());
        caller.make(&serving.url(), "/app", json!({"name": "Shop"})).await;

        let list = program.run(&["token", "list", "--organization", "acme"]).await.ok();
        let id = list.lines().nth(1).and_then(|line| line.split_whitespace().next());
        program.run(&["token", "revoke", id.expect("an id")]).await.ok();
        let revoked = Instant::now();
        within(DEADLINE, "the token is refused", async || {
            let answer = caller.post(&serving.url(), "/app", "late", &json!({})).await;
            (answer.expect("an answer").0 == 401).then_some(())
        })
        .await;
        // The promised 5 s, and one second more for a busy machine.
        assert!(revoked.elapsed() < Duration::from_secs(6), "{:?}", revoked.elapsed());
    }
);

postgres_only!(
    a_first_start_on_postgres_makes_no_token_and_says_how_one_is_made,
    async |db| {
        let mut serving = Program::on(db.url()).serve().await;
        within(DEADLINE, "the log names the command", async || {
            serving
                .stderr()
                .contains("app token create --organization default")
                .then_some(())
        })
        .await;
        assert_eq!(serving.stop().await, Some(0));
        assert_eq!(serving.stdout(), "");
        assert!(rows(&db.connect().await, "select 1 from api_token").await.is_empty());
    }
);

#[tokio::test]
async fn the_key_file_is_made_once_for_the_owner_alone_and_needed_from_then_on() {
    let program = Program::bare().env("POSTRIDER_LISTEN", "127.0.0.1:0");
    let path = program.folder().join("data/postrider.sqlite.key");
    let mode_of = |name: &str| {
        let state = std::fs::metadata(program.folder().join(name)).expect("the file has a state");
        state.permissions().mode() & 0o777
    };
    let mut serving = program.serve().await;
    assert_eq!(mode_of("data"), 0o700);
    for more in ["", ".key", ".lock", "-wal", "-shm"] {
        assert_eq!(mode_of(&format!("data/postrider.sqlite{more}")), 0o600, "{more}");
    }
    assert_eq!(serving.stop().await, Some(0));
    let key = std::fs::read_to_string(&path).expect("a key file");
    // The mode that an earlier version left.
    let lock = program.folder().join("data/postrider.sqlite.lock");
    std::fs::set_permissions(&lock, std::fs::Permissions::from_mode(0o644)).expect("the file belongs to this user");
    assert_eq!(program.serve().await.stop().await, Some(0));
    assert_eq!(mode_of("data/postrider.sqlite.lock"), 0o600);
    assert_eq!(
        std::fs::read_to_string(&path).expect("a key file"),
        key,
        "the key is kept"
    );

    std::fs::remove_file(&path).expect("the file can be removed");
    let line = program.run(&["serve"]).await.failed(1);
    assert!(line.contains("data/postrider.sqlite.key is gone"), "{line}");
    assert!(!path.exists(), "no other key is written in its place");
    let mut given = program.env("POSTRIDER_ENCRYPTION_KEY", &key).serve().await;
    assert_eq!(given.stop().await, Some(0));
}

both!(another_key_than_the_databases_is_refused, async |db| {
    let program = Program::on(db.url());
    assert_eq!(program.serve().await.stop().await, Some(0));
    let other = program.env("POSTRIDER_ENCRYPTION_KEY", &KEY.replace("tests", "thieves"));
    let line = other.run(&["serve"]).await.failed(1);
    assert!(
        line.contains("not the key that this database was written with"),
        "{line}"
    );
});

postgres_only!(postgres_is_not_served_without_a_key, async |db| {
    let line = Program::on(db.url())
        .without("POSTRIDER_ENCRYPTION_KEY")
        .run(&["serve"])
        .await
        .failed(1);
    assert!(
        line.contains("POSTRIDER_ENCRYPTION_KEY") && line.contains("must be set"),
        "{line}"
    );
});

postgres_only!(
    an_older_postgres_schema_is_refused_unless_serve_may_migrate,
    async |db| {
        let empty = db.empty_sibling().await;
        let program = Program::on(empty.url());
        let line = program.run(&["serve"]).await.failed(1);
        assert!(line.contains("run `app migrate`"), "{line}");
        let mut serving = program.env("POSTRIDER_MIGRATE", "true").serve().await;
        assert_eq!(serving.stop().await, Some(0));
    }
);

postgres_only!(
    five_replicas_that_may_migrate_start_at_once_on_an_empty_database,
    async |db| {
        let empty = db.empty_sibling().await;
        let program = Program::on(empty.url()).env("POSTRIDER_MIGRATE", "true");
        let starting = (0..5).map(|_| program.serve());
        let mut replicas = futures_util::future::join_all(starting).await;
        let migrated = replicas
            .iter()
            .filter(|replica| replica.stderr().contains("has been applied"))
            .count();
        assert_eq!(migrated, 1);
        for replica in &mut replicas {
            assert_eq!(replica.stop().await, Some(0));
        }
    }
);

sqlite_only!(a_second_serve_on_the_same_file_is_refused, async |db| {
    let program = Program::on(db.url());
    let mut first = program.serve().await;
    let line = program.run(&["serve"]).await.failed(1);
    assert!(line.contains("another process uses the SQLite file"), "{line}");
    assert_eq!(first.stop().await, Some(0));
});

sqlite_only!(operators_commands_work_beside_serve_on_the_same_file, async |db| {
    let program = Program::on(db.url());
    let mut serving = program.serve().await;
    let commands: Vec<_> = (0..8)
        .map(|number| program.start(&["token", "create", "--organization", &format!("org-{number}")]))
        .collect();
    for command in commands {
        let output = tokio::task::spawn_blocking(|| command.wait_with_output())
            .await
            .expect("no panic")
            .expect("output");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(is_healthy(&program, &serving).await);
    assert_eq!(serving.stop().await, Some(0));
    let list = program.run(&["token", "list"]).await.ok();
    assert_eq!(list.matches("org-").count(), 8, "{list}");
});

both!(
    a_request_that_never_ends_holds_the_stop_up_no_longer_than_the_grace,
    async |db| {
        let token = "a-token-of-the-operator";
        let program = Program::on(db.url())
            .env("POSTRIDER_SHUTDOWN_GRACE", "1")
            .env("POSTRIDER_ADMIN_TOKEN", token);
        let mut serving = program.serve().await;
        let mut request = TcpStream::connect(serving.address()).expect("a connection");
        let head = b"POST /api/v1/app HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a-token-of-the-operator\r\ncontent-length: 100\r\n\r\n{";
        request.write_all(head).expect("the request is sent");
        let stopping = Instant::now();
        assert_eq!(serving.stop().await, Some(0), "{}", serving.stderr());
        assert!(stopping.elapsed() < Duration::from_secs(10), "{}", serving.stderr());
    }
);

/// Serves the database, with an application `shop` and its single endpoint at the receiver.
async fn serve_to(db: &TestDatabase, receiver: &Receiver, grace: &str) -> (Serving, Caller) {
    let token = "a-token-of-the-operator";
    let program = Program::on(db.url())
        .env("POSTRIDER_ADMIN_TOKEN", token)
        .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
        .env("POSTRIDER_SHUTDOWN_GRACE", grace);
    let serving = program.serve().await;
    let caller = Caller::new(token);
    let server = serving.url();
    caller
        .make(&server, "/app", json!({"name": "Shop", "uid": "shop"}))
        .await;
    caller
        .make(&server, "/app/shop/endpoint", json!({"url": receiver.url()}))
        .await;
    (serving, caller)
}

both!(a_delivery_in_flight_at_the_stop_is_finished_and_recorded, async |db| {
    let receiver = Receiver::start().await;
    receiver.answer(Answer::ok().after(Duration::from_millis(500)));
    let (mut serving, caller) = serve_to(db, &receiver, "30").await;
    let message = json!({"eventType": "order.paid", "payload": {}});
    caller.make(&serving.url(), "/app/shop/msg", message).await;
    receiver.wait_for(1).await;
    assert_eq!(serving.stop().await, Some(0));
    let connection = db.connect().await;
    assert_eq!(
        rows(&connection, "select 1 from attempt where delivered").await.len(),
        1
    );
    assert_eq!(rows(&connection, "select 1 from delivery").await.len(), 0);
});

both!(
    a_delivery_that_outlives_the_grace_is_given_back_and_sent_by_the_next_start,
    async |db| {
        let receiver = Receiver::start().await;
        receiver.answer_next([Answer::hang()]);
        let (mut serving, caller) = serve_to(db, &receiver, "1").await;
        let message = json!({"eventType": "order.paid", "payload": {}});
        caller.make(&serving.url(), "/app/shop/msg", message).await;
        receiver.wait_for(1).await;
        assert_eq!(serving.stop().await, Some(0));
        let connection = db.connect().await;
        let free = "select 1 from delivery where owner is null and attempts_made = 0";
        assert_eq!(rows(&connection, free).await.len(), 1, "not counted as an attempt");
        let again = Program::on(db.url()).env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8");
        let mut serving = again.serve().await;
        receiver.wait_for(2).await;
        within(DEADLINE, "the attempt is recorded", async || {
            (rows(&connection, "select 1 from attempt where delivered").await.len() == 1).then_some(())
        })
        .await;
        assert_eq!(serving.stop().await, Some(0));
    }
);

both!(a_port_that_is_taken_is_named, async |db| {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("the listener has an address").to_string();
    let line = Program::on(db.url())
        .env("POSTRIDER_LISTEN", &address)
        .run(&["serve"])
        .await
        .failed(1);
    assert!(line.contains(&address) && line.contains("POSTRIDER_LISTEN"), "{line}");
});

#[tokio::test]
async fn serve_waits_for_a_database_that_is_not_there_yet_and_can_be_stopped_meanwhile() {
    let absent = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let url = format!("postgresql://postrider:do-not-show@{absent}/postrider");
    let mut child = Program::on(&url).start(&["serve"]);
    let mut stderr = child.stderr.take().expect("a pipe");
    let mut said = String::new();
    let mut piece = [0; 512];
    while !said.contains("waiting for the database") || !said.contains(&absent.port().to_string()) {
        let count = stderr.read(&mut piece).expect("the pipe can be read");
        assert!(count > 0, "the process ended: {said}");
        said.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    assert!(!said.contains("do-not-show"), "{said}");
    let sent = std::process::Command::new("kill")
        .arg(child.id().to_string())
        .stdout(Stdio::null())
        .status();
    assert!(sent.expect("kill runs").success());
    let status = within(DEADLINE, "the process ends", async || {
        child.try_wait().expect("the process has a state")
    })
    .await;
    assert_eq!(status.code(), Some(0));
}
