//! `app listen` with a server that is silent, loses responses, tells another time, or has a proxy before it that speaks
//! for it: it can always be ended, removes what it made, and goes on.

use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use postrider::clock::Clock;
use postrider::domain::timestamp::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Answer, Arrival, DEADLINE, Program, Receiver, Running, within};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Returns what a request asks for, by its method and its path.
fn asks(arrival: &Arrival) -> &'static str {
    let path = arrival.path.split('?').next().unwrap_or_default();
    match arrival.method.as_str() {
        "DELETE" => "remove",
        "PUT" | "POST" => "make",
        _ if path.ends_with("/poller") => "list",
        _ if path.ends_with("/secret") => "secret",
        _ if path.ends_with("/consumer") => "consumers",
        _ if path.ends_with("/consumer/listen") => "poll",
        _ => "messages",
    }
}

fn page(rows: Value) -> Answer {
    Answer::ok().body(json!({"data": rows, "iterator": null, "done": true}).to_string())
}

fn message(id: &str, event_type: &str) -> Value {
    json!({"id": id, "eventType": event_type, "payload": {}, "timestamp": "2026-12-01T09:14:02Z"})
}

fn refusal(status: u16) -> Answer {
    Answer::status(status).body(json!({"code": "refused", "detail": "refused"}).to_string())
}

/// Returns the usual response of a server without messages.
fn usual(arrival: &Arrival) -> Answer {
    let made = json!({"id": "poll_1", "description": "", "createdAt": "2026-12-01T09:14:02Z"});
    match asks(arrival) {
        "remove" => Answer::status(204),
        "make" => Answer::status(201).body(made.to_string()),
        "secret" => Answer::ok().body(json!({"key": SECRET}).to_string()),
        "poll" => Answer::hang(),
        _ => page(json!([])),
    }
}

/// Starts a server that answers by `rule`, or as usual.
async fn server(rule: impl Fn(&Arrival) -> Option<Answer> + Send + 'static) -> Receiver {
    let server = Receiver::start().await;
    server.answer_by(move |arrival| rule(arrival).unwrap_or_else(|| usual(arrival)));
    server
}

fn here(server: &Receiver) -> Program {
    Program::bare()
        .env("POSTRIDER_URL", server.url().trim_end_matches('/'))
        .env("POSTRIDER_TOKEN", "a-token")
        .env("POSTRIDER_APP", "shop")
}

fn listen(server: &Receiver, target: &str, more: &[&str]) -> Running {
    here(server).follow(&[&["listen", target], more].concat())
}

/// Waits for a request of this kind, and returns its path.
async fn asked(server: &Receiver, what: &'static str) -> String {
    let is_so = |arrivals: &[Arrival]| arrivals.iter().any(|arrival| asks(arrival) == what);
    let arrivals = server.wait_until(what, is_so).await;
    let found = arrivals.into_iter().find(|arrival| asks(arrival) == what);
    found.expect("it has arrived").path
}

/// Asserts that the poller that was made is also the one that is removed: by a name that is known before the response.
async fn removed_what_it_made(server: &Receiver) {
    let (made, removed) = (asked(server, "make").await, asked(server, "remove").await);
    assert_eq!(made, removed);
    assert!(removed.starts_with("/api/v1/app/shop/poller/listen-"), "{removed}");
}

#[tokio::test]
async fn a_signal_ends_a_beginning_that_gets_no_response() {
    let silent = server(|arrival| (asks(arrival) == "list").then(Answer::hang)).await;
    let mut listen = listen(&silent, "http://127.0.0.1:9", &[]);
    asked(&silent, "list").await;
    listen.signal("INT");
    assert_eq!(listen.end().await, Some(0), "{}", listen.stderr());
    assert_eq!(silent.count(), 1, "nothing was made, so nothing is removed");
}

#[tokio::test]
async fn a_signal_while_the_poller_is_made_removes_it() {
    let silent = server(|arrival| (asks(arrival) == "make").then(Answer::hang)).await;
    let mut listen = listen(&silent, "http://127.0.0.1:9", &[]);
    asked(&silent, "make").await;
    listen.signal("TERM");
    removed_what_it_made(&silent).await;
    assert_eq!(listen.end().await, Some(0), "{}", listen.stderr());
}

#[tokio::test]
async fn a_poller_whose_making_was_not_answered_is_removed() {
    let losing = server(|arrival| (asks(arrival) == "make").then(Answer::cut)).await;
    let mut listen = listen(&losing, "http://127.0.0.1:9", &[]);
    assert_eq!(listen.end().await, Some(1), "{}", listen.stderr());
    removed_what_it_made(&losing).await;
    assert!(listen.stderr().contains("no response from"), "{}", listen.stderr());
}

#[tokio::test]
async fn a_second_signal_ends_a_removal_that_gets_no_response() {
    let silent = server(|arrival| (asks(arrival) == "remove").then(Answer::hang)).await;
    let mut listen = listen(&silent, "http://127.0.0.1:9", &[]);
    asked(&silent, "poll").await;
    listen.signal("INT");
    asked(&silent, "remove").await;
    listen.signal("INT");
    assert_eq!(listen.end().await, Some(1), "{}", listen.stderr());
    for words in ["is left behind", "a signal ended its removal"] {
        assert!(listen.stderr().contains(words), "{}", listen.stderr());
    }
}

#[tokio::test]
async fn a_signal_ends_it_while_nothing_reads_its_output() {
    // Much longer than a pipe holds.
    let long = "x".repeat(1 << 20);
    let rule = move |arrival: &Arrival| (asks(arrival) == "poll").then(|| page(json!([message("msg_1", &long)])));
    let (busy, target) = (server(rule).await, Receiver::start().await);
    let mut child = here(&busy).start(&["listen", &target.url()]);
    let stdout = child.stdout.take().expect("a pipe");
    let read = tokio::task::spawn_blocking(move || {
        let mut output = BufReader::with_capacity(1, stdout);
        for _ in 0..2 {
            output.read_line(&mut String::new()).expect("a line");
        }
        // The line is being written, and cannot be written to its end.
        output.read_exact(&mut [0]).expect("its beginning");
        output
    });
    let output = read.await.expect("no panic");
    let signal = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(signal.expect("kill runs").success());
    removed_what_it_made(&busy).await;
    let ended = within(DEADLINE, "the process ends", async || {
        child.try_wait().expect("a state")
    })
    .await;
    assert_eq!(ended.code(), Some(0));
    drop(output);
}

#[tokio::test]
async fn what_a_proxy_says_in_place_of_the_server_passes() {
    let count = AtomicUsize::new(0);
    let rule = move |arrival: &Arrival| {
        let polls = asks(arrival) == "poll";
        match count.fetch_add(usize::from(polls), Ordering::SeqCst) {
            0 if polls => Some(Answer::status(408)),
            1 if polls => Some(Answer::ok().body("<h1>We are back soon</h1>")),
            2 if polls => Some(page(json!([message("msg_1", "order.paid")]))),
            _ => None,
        }
    };
    let (away, target) = (server(rule).await, Receiver::start().await);
    let mut listen = listen(&away, &target.url(), &[]);
    assert_eq!(target.wait_for(1).await[0].message_id(), "msg_1");
    assert_eq!(listen.stop().await, Some(0), "{}", listen.stderr());
    removed_what_it_made(&away).await;
}

#[tokio::test]
async fn a_poller_that_is_made_again_during_an_outage_is_one() {
    let (polls, makes) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let rule = move |arrival: &Arrival| match asks(arrival) {
        "poll" if polls.fetch_add(1, Ordering::SeqCst) == 0 => Some(refusal(404)),
        "make" if makes.fetch_add(1, Ordering::SeqCst) == 1 => Some(refusal(503)),
        _ => None,
    };
    let away = server(rule).await;
    let begun = Clock::system().now();
    let mut listen = listen(&away, "http://127.0.0.1:9", &[]);
    let is_so = |arrivals: &[Arrival]| arrivals.iter().filter(|arrival| asks(arrival) == "poll").count() == 2;
    let arrivals = away.wait_until("polls of the second poller", is_so).await;
    let made: Vec<_> = arrivals.iter().filter(|arrival| asks(arrival) == "make").collect();
    assert_eq!(made.len(), 3);
    assert_ne!(made[0].path, made[1].path, "another poller has another name");
    assert_eq!(made[1].path, made[2].path, "and keeps it until it is made");
    let url = url::Url::parse(&away.url_of(&asked(&away, "messages").await)).expect("a path");
    let after = url
        .query_pairs()
        .find(|(name, _)| name == "after")
        .expect("an instant")
        .1;
    let after = Timestamp::parse_rfc3339(&after).expect("an instant");
    let earliest = begun.minus(Duration::from_secs(10));
    assert!(after >= earliest, "nothing from before the command: {after}");
    assert_eq!(listen.stop().await, Some(0), "{}", listen.stderr());
    assert_eq!(asked(&away, "remove").await, made[2].path);
}

#[tokio::test]
async fn the_clock_of_the_server_says_what_was_left_behind() {
    let now = Clock::system().now();
    let two_days_ago = UNIX_EPOCH + Duration::from_secs(now.minus(Duration::from_hours(48)).unix_seconds() as u64);
    let two_days_ago = httpdate::fmt_http_date(two_days_ago);
    let an_hour_before = now.minus(Duration::from_hours(49));
    let used = an_hour_before.to_rfc3339();
    let rule = move |arrival: &Arrival| {
        let rows = match asks(arrival) {
            "list" => json!([{"id": "poll_0", "description": "app listen: a colleague", "createdAt": used}]),
            "consumers" => json!([{"lastUsedAt": used}]),
            _ => return Some(usual(arrival).header("date", &two_days_ago)),
        };
        Some(page(rows).header("date", &two_days_ago))
    };
    let slow = server(rule).await;
    let mut listen = listen(&slow, "http://127.0.0.1:9", &[]);
    asked(&slow, "poll").await;
    assert_eq!(listen.stop().await, Some(0), "{}", listen.stderr());
    let removed = slow.arrivals().into_iter().filter(|arrival| asks(arrival) == "remove");
    let removed: Vec<_> = removed.map(|arrival| arrival.path).collect();
    assert_eq!(removed.len(), 1, "its own alone: {removed:?}");
}

#[tokio::test]
async fn help_and_errors_show_no_credentials_of_a_header() {
    let program = Program::bare();
    for (command, name) in [
        ("listen", "POSTRIDER_LISTEN_HEADER"),
        ("verify", "POSTRIDER_VERIFY_HEADER"),
    ] {
        let help = program
            .clone()
            .env(name, "authorization: Bearer hush")
            .run(&[command, "--help"])
            .await
            .ok();
        assert!(help.contains(name) && !help.contains("hush"), "{help}");
        let target = ["http://127.0.0.1:9"];
        let target = if command == "listen" { &target[..] } else { &[] };
        let from_variable = program.clone().env(name, "Bearer hush");
        for (program, more) in [(&program, &["-H", "Bearer hush"][..]), (&from_variable, &[])] {
            let said = program.run(&[&[command], target, more].concat()).await.failed(2);
            assert!(
                said.contains("a name, a colon and a value") && said.contains(name),
                "{said}"
            );
            assert!(!said.contains("hush"), "{said}");
        }
    }
    let server = server(|_| None).await;
    for bad in ["Bearer hush: x", "x: hush\u{1}"] {
        let listen = ["listen", "http://127.0.0.1:9", "-H", bad];
        let said = here(&server).run(&listen).await.failed(1);
        assert!(said.contains("--header") && !said.contains("hush"), "{said}");
    }
}
