//! The log: the program works and stops even if the log cannot be written, and the lines that it writes about
//! endpoints, attempts, settings and outages.

use std::fs::File;
use std::io::{BufRead, BufReader, Write, pipe};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::crash::{TOKEN, count};
use crate::harness::{Answer, Caller, DEADLINE, Gate, Kind, Program, Proxy, Receiver, Serving, TestDatabase, within};
use crate::metrics::value;

/// The target of a proxy while the database is to be away: nothing listens there.
const NOWHERE: &str = "postgresql://127.0.0.1:1/nowhere";

fn free_address() -> String {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.expect("a free port").to_string()
}

fn program(url: &str) -> Program {
    Program::on(url)
        .env("POSTRIDER_ADMIN_TOKEN", TOKEN)
        .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
}

/// A `serve` whose standard error the test does not read. Killed when dropped.
struct Unheard {
    child: Child,
    url: String,
    metrics: String,
    _program: Program,
}

impl Unheard {
    async fn serve(program: Program, stderr: impl Into<Stdio>) -> Self {
        let (address, metrics) = (free_address(), free_address());
        let program = program
            .env("POSTRIDER_LISTEN", &address)
            .env("POSTRIDER_METRICS_LISTEN", &metrics);
        let child = program.command(&["serve"]).stderr(stderr).spawn();
        let unheard = Self {
            child: child.expect("the binary starts"),
            url: format!("http://{address}"),
            metrics: format!("http://{metrics}"),
            _program: program,
        };
        unheard.answers("livez", 200).await;
        unheard
    }

    async fn answers(&self, probe: &str, status: u16) {
        let (caller, url) = (Caller::new(TOKEN), format!("{}/{probe}", self.url));
        within(DEADLINE, &format!("{probe} is answered {status}"), async || {
            (caller.status(&url).await == Some(status)).then_some(())
        })
        .await;
    }

    async fn dropped_lines(&self) -> f64 {
        let page = Caller::new(TOKEN).text(&format!("{}/metrics", self.metrics)).await;
        value(&page, "postrider_log_lines_dropped_total")
    }

    /// Asks the process to stop and returns its exit code.
    async fn stop(&mut self) -> Option<i32> {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill runs").success());
        let ended = async || self.child.try_wait().expect("the process has a state");
        within(DEADLINE, "serve ends", ended).await.code()
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Creates an application `shop` with an endpoint at the receiver, and returns the endpoint's id.
async fn subscribe(server: &str, receiver: &Receiver) -> String {
    let caller = Caller::new(TOKEN);
    let app = json!({"name": "Shop", "uid": "shop"});
    // An outage may have left broken connections in the pools.
    within(DEADLINE, "an application is made", async || {
        let made = caller.post(server, "/app", "shop", &app).await;
        matches!(made, Ok((201, _))).then_some(())
    })
    .await;
    let endpoint = caller
        .make(server, "/app/shop/endpoint", json!({"url": receiver.url()}))
        .await;
    endpoint["id"].as_str().expect("an id").to_owned()
}

/// Posts a message and returns its id.
async fn post(server: &str, event_id: &str) -> String {
    let message = json!({"eventType": "order.paid", "eventId": event_id, "payload": {}});
    let made = Caller::new(TOKEN).make(server, "/app/shop/msg", message).await;
    made["id"].as_str().expect("an id").to_owned()
}

both!(
    a_process_whose_log_cannot_be_written_works_on_and_stops_in_order,
    async |db| {
        for is_full in [false, true] {
            let empty = db.empty_sibling().await;
            let proxy = match empty.kind() {
                Kind::Postgres => Some(Proxy::to(empty.url()).await),
                Kind::Sqlite => None,
            };
            let url = proxy
                .as_ref()
                .map_or(empty.url().to_owned(), |proxy| proxy.url(empty.url()));
            let program = program(&url)
                .env("POSTRIDER_MIGRATE", "true")
                .env("POSTRIDER_LOG", "debug");
            // A write to /dev/full fails as on a full disk, a write to the pipe as with a reader that is gone.
            let mut serving = if is_full {
                let full = File::options().write(true).open("/dev/full");
                Unheard::serve(program, full.expect("Linux has /dev/full")).await
            } else {
                let (reader, writer) = pipe().expect("a pipe");
                let serving = Unheard::serve(program, writer).await;
                drop(reader);
                serving
            };
            if let Some(proxy) = &proxy {
                proxy.lead_to(NOWHERE).await;
                proxy.cut();
                serving.answers("readyz", 503).await;
                proxy.lead_to(empty.url()).await;
            }
            serving.answers("readyz", 200).await;
            let receiver = Receiver::start().await;
            receiver.answer_next([Answer::status(503)]);
            subscribe(&serving.url, &receiver).await;
            let id = post(&serving.url, "order-1").await;
            // The second attempt is made after five seconds.
            let arrivals = receiver.wait_for(2).await;
            assert_eq!(arrivals[1].message_id(), id);
            assert!(serving.dropped_lines().await > 0.0);
            assert_eq!(serving.stop().await, Some(0));
        }
    }
);

both!(
    a_full_log_pipe_delays_neither_the_work_nor_the_stop_and_lost_lines_are_reported_once_it_is_read,
    async |db| {
        let (reader, writer) = pipe().expect("a pipe");
        let mut filling = writer.try_clone().expect("another handle");
        // The thread ends when all is read or the pipe has no reader.
        let filler = std::thread::spawn(move || {
            let _ = filling.write_all(&b".\n".repeat(512 << 10));
        });
        let program = program(db.url()).env("POSTRIDER_LOG", "trace");
        let mut serving = Unheard::serve(program, writer).await;
        let receiver = Receiver::start().await;
        subscribe(&serving.url, &receiver).await;
        let mut number = 0;
        within(DEADLINE, "more lines are logged than may wait", async || {
            number += 1;
            post(&serving.url, &format!("order-{number}")).await;
            (serving.dropped_lines().await > 0.0).then_some(())
        })
        .await;
        receiver.wait_for(number).await;

        let (reported, heard) = std::sync::mpsc::channel();
        let (reading, read_on) = std::sync::mpsc::channel::<()>();
        let hearing = std::thread::spawn(move || {
            let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
            reported
                .send(lines.find(|line| line.contains("log lines were lost")))
                .ok();
            // From here on the pipe stays open and fills again.
            read_on.recv().ok();
        });
        let line = within(DEADLINE, "the log reports the lost lines", async || {
            heard.try_recv().ok()
        })
        .await;
        let line = line.expect("the line");
        assert!(line.contains("WARN") && line.contains("lines="), "{line}");

        let before = serving.dropped_lines().await;
        within(DEADLINE, "the pipe is full again", async || {
            number += 1;
            post(&serving.url, &format!("order-{number}")).await;
            (serving.dropped_lines().await > before).then_some(())
        })
        .await;
        let stopping = Instant::now();
        assert_eq!(serving.stop().await, Some(0));
        assert!(stopping.elapsed() < Duration::from_secs(20), "{:?}", stopping.elapsed());
        drop(reading);
        hearing.join().expect("no panic");
        filler.join().expect("no panic");
    }
);

both!(a_hangup_changes_nothing, async |db| {
    let mut serving = program(db.url()).serve().await;
    serving.signal("HUP");
    let receiver = Receiver::start().await;
    subscribe(&serving.url(), &receiver).await;
    post(&serving.url(), "order-1").await;
    receiver.wait_for(1).await;
    assert_eq!(serving.stop().await, Some(0));
});

both!(a_command_whose_output_has_no_reader_fails_without_a_panic, async |db| {
    let program = program(db.url());
    program.run(&["token", "create", "--organization", "acme"]).await.ok();
    for arguments in [&["token", "list"][..], &["openapi"]] {
        for no_errors in [false, true] {
            let mut command = program.command(arguments);
            command.stdout(pipe().expect("a pipe").1);
            if no_errors {
                command.stderr(pipe().expect("a pipe").1);
            }
            let ended = tokio::task::spawn_blocking(move || command.output()).await;
            let output = ended.expect("no panic").expect("the command runs");
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                no_errors || said.starts_with("error: cannot write to standard output"),
                "{said}"
            );
        }
    }
});

/// Waits for `count` lines of a process that contain `text`, and returns all such lines.
async fn lines(serving: &Serving, text: &str, count: usize) -> Vec<String> {
    within(DEADLINE, &format!("{count} lines with {text}"), async || {
        let said = serving.stderr();
        let lines = said.lines().filter(|line| line.contains(text)).map(str::to_owned);
        Some(lines.collect::<Vec<_>>()).filter(|lines| lines.len() >= count)
    })
    .await
}

both!(
    the_log_tells_once_how_an_endpoint_does_and_which_messages_are_given_up,
    async |db| {
        let receiver = Receiver::start().await;
        receiver.answer(Answer::status(503).body("what the receiver says"));
        let mut serving = program(db.url()).env("POSTRIDER_RETRY_SCHEDULE", "").serve().await;
        let server = serving.url();
        let endpoint = subscribe(&server, &receiver).await;
        let mut given_up = vec![post(&server, "order-1").await];
        lines(&serving, "an endpoint begins to fail", 1).await;
        given_up.push(post(&server, "order-2").await);
        lines(&serving, "a message is given up", 2).await;
        receiver.answer(Answer::ok());
        post(&server, "order-3").await;
        lines(&serving, "an endpoint works again", 1).await;
        receiver.answer(Answer::status(410));
        given_up.push(post(&server, "order-4").await);
        lines(&serving, "an endpoint is disabled", 1).await;
        assert_eq!(serving.stop().await, Some(0));

        let said = serving.stderr();
        let with = |text: &str| said.lines().filter(|line| line.contains(text)).collect::<Vec<_>>();
        for (text, level, reason) in [
            ("an endpoint begins to fail", "WARN", "it answered 503"),
            ("an endpoint works again", "INFO", "it answered 200"),
            ("an endpoint is disabled", "WARN", "it answered 410"),
        ] {
            let [line] = with(text)[..] else {
                panic!("one line with {text}: {said}")
            };
            assert!(line.contains(level) && line.contains(reason), "{line}");
            assert!(line.contains("app_id=\"app_") && line.contains(&endpoint), "{line}");
        }
        let lines = with("a message is given up");
        assert_eq!(lines.len(), given_up.len(), "{said}");
        for (line, id) in lines.iter().zip(&given_up) {
            assert!(
                line.contains(id) && line.contains(&endpoint) && line.contains("attempts=1"),
                "{line}"
            );
            assert!(line.contains("it answered"), "{line}");
        }
        assert!(!said.contains("what the receiver says"), "{said}");
        assert!(!said.contains("an attempt has ended"), "{said}");
    }
);

both!(
    a_message_that_a_resend_delivered_meanwhile_is_not_given_up,
    async |db| {
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.answer_next([Answer::status(500).behind(&gate)]);
        let program = program(db.url())
            .env("POSTRIDER_LOG", "info,postrider=debug")
            .env("POSTRIDER_RETRY_SCHEDULE", "");
        let serving = program.serve().await;
        let endpoint = subscribe(&serving.url(), &receiver).await;
        let id = post(&serving.url(), "order-1").await;
        receiver.wait_for(1).await;
        let resend = format!("/app/shop/msg/{id}/endpoint/{endpoint}/resend");
        let sent = Caller::new(TOKEN)
            .post(&serving.url(), &resend, "again", &json!({}))
            .await;
        assert_eq!(sent.expect("an answer").0, 202);
        lines(&serving, "an attempt has ended", 1).await;
        let connection = db.connect().await;
        for (status, open) in [(200, true), (500, false)] {
            within(DEADLINE, "an attempt is stored", async || {
                let stored = format!("attempt where response_status = {status}");
                (count(&connection, &stored).await == 1).then_some(())
            })
            .await;
            if open {
                gate.open();
            }
        }
        // A settlement logs its changes right after its commit, so a later line shows that these lines would be there.
        let later = post(&serving.url(), "order-2").await;
        within(DEADLINE, "a later attempt is logged", async || {
            let said = serving.stderr();
            said.lines()
                .any(|line| line.contains("an attempt has ended") && line.contains(&later))
                .then_some(())
        })
        .await;
        assert!(
            !serving.stderr().contains("a message is given up"),
            "{}",
            serving.stderr()
        );
    }
);

both!(at_debug_the_log_tells_of_each_attempt, async |db| {
    let receiver = Receiver::start().await;
    receiver.answer_next([Answer::cut()]);
    let program = program(db.url())
        .env("POSTRIDER_LOG", "info,postrider=debug")
        .env("POSTRIDER_RETRY_SCHEDULE", "1");
    let serving = program.serve().await;
    let endpoint = subscribe(&serving.url(), &receiver).await;
    let id = post(&serving.url(), "order-1").await;
    let attempts = lines(&serving, "an attempt has ended", 2).await;
    for (line, facts) in attempts.iter().zip([
        ["attempt=1", "status=0", "reason="],
        ["attempt=2", "status=200", "duration_ms="],
    ]) {
        assert!(
            line.contains("DEBUG") && line.contains(&id) && line.contains(&endpoint),
            "{line}"
        );
        for field in ["app_id", "endpoint_id", "message_id", "delivery_id"] {
            assert_eq!(line.matches(&format!(" {field}=\"")).count(), 1, "{field}: {line}");
        }
        assert!(facts.iter().all(|fact| line.contains(fact)), "{line}");
    }
});

both!(
    the_start_line_names_what_is_served_and_what_is_misspelt_is_a_warning,
    async |db| {
        let program = Program::on(db.url())
            .env("POSTRIDER_ALLOW_TARGETS", "10.0.0.0/8,127.0.0.1")
            .env("POSTRIDER_PUBLIC_URL", "https://hooks.example")
            .env("POSTRIDER_LISTN", "127.0.0.1:80")
            .env("POSTRIDER_LOG", "inof");
        let mut serving = program.serve().await;
        let line = lines(&serving, "serving address=", 1).await.remove(0);
        let database = match db.kind() {
            Kind::Sqlite => "database=\"SQLite 3.",
            Kind::Postgres => "database=\"Postgres 1",
        };
        for fact in [
            concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""),
            database,
            "public_url=\"https://hooks.example\"",
            "allowed_targets=\"public addresses, 10.0.0.0/8, 127.0.0.1/32\"",
        ] {
            assert!(line.contains(fact), "{fact}: {line}");
        }
        for name in ["POSTRIDER_LISTN", "inof"] {
            let warning = lines(&serving, name, 1).await.remove(0);
            assert!(warning.contains("WARN"), "{warning}");
        }
        assert_eq!(serving.stop().await, Some(0));
        let said = serving.stderr();
        assert_eq!(said.matches(" WARN ").count(), 2, "{said}");
    }
);

/// Returns the warnings and errors of a process.
fn complaints(serving: &Serving) -> Vec<String> {
    let said = serving.stderr();
    let lines = said
        .lines()
        .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
    lines.map(str::to_owned).collect()
}

async fn serve_behind(proxy: &Proxy, db: &TestDatabase) -> Serving {
    program(&proxy.url(db.url())).serve().await
}

postgres_only!(an_outage_of_the_database_is_two_lines_of_the_log, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let mut serving = serve_behind(&proxy, db).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::ok().after(Duration::from_secs(1)));
    let server = serving.url();
    subscribe(&server, &receiver).await;
    let in_flight = post(&server, "order-1").await;
    receiver.wait_for(1).await;
    proxy.lead_to(NOWHERE).await;
    proxy.cut();
    lines(&serving, "the database is gone", 1).await;
    let caller = Caller::new(TOKEN);
    for number in 0..3 {
        // Each request waits as long as the API lets a sender wait. By then every loop has tried again.
        let message = json!({"eventType": "order.paid", "payload": {}});
        let answer = caller
            .post(&server, "/app/shop/msg", &format!("key-{number}"), &message)
            .await;
        assert_eq!(answer.expect("an answer").0, 503);
        assert_ne!(caller.status(&format!("{server}/readyz")).await, Some(200));
    }
    proxy.lead_to(db.url()).await;
    let back = lines(&serving, "the database is back", 1).await.remove(0);
    let (_, away) = back.split_once("away_seconds=").expect("how long");
    let away: f64 = away
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .parse()
        .expect("a number");
    assert!(away > 10.0, "{back}");
    // The sent message is settled and new messages are accepted; no line reports either.
    within(DEADLINE, "messages are accepted again", async || {
        let message = json!({"eventType": "order.paid", "payload": {}});
        let answer = caller.post(&server, "/app/shop/msg", "after", &message).await;
        matches!(answer, Ok((202, _))).then_some(())
    })
    .await;
    let arrivals = receiver
        .wait_until("the next one arrives", |arrivals| arrivals.len() >= 2)
        .await;
    assert_eq!(
        arrivals
            .iter()
            .filter(|arrival| arrival.message_id() == in_flight)
            .count(),
        1
    );
    assert_eq!(serving.stop().await, Some(0));
    let complaints = complaints(&serving);
    assert_eq!(complaints.len(), 2, "{complaints:#?}");
});
