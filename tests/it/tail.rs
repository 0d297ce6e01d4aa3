//! `app tail`: prints each attempt once, also one that ends late, and survives a server that is away.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Caller, DEADLINE, Gate, Program, Receiver, Running, Serving, TestDatabase, within};

const TOKEN: &str = "an-admin-token-for-this-test";

/// A server with the application `shop`.
struct Setup {
    /// The id of the application.
    app: String,
    program: Program,
    serving: Serving,
    caller: Caller,
}

impl Setup {
    async fn on(db: &TestDatabase) -> Self {
        let program = Program::on(db.url())
            .env("POSTRIDER_ADMIN_TOKEN", TOKEN)
            .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
            .env("POSTRIDER_RETRY_SCHEDULE", "1");
        let serving = program.serve().await;
        let caller = Caller::new(TOKEN);
        let app = json!({"name": "Shop", "uid": "shop"});
        let app = caller.make(&serving.url(), "/app", app).await;
        Self {
            app: app["id"].as_str().expect("an id").to_owned(),
            program: program.env("POSTRIDER_LISTEN", &serving.address().to_string()),
            serving,
            caller,
        }
    }

    async fn make(&self, path: &str, body: Value) -> Value {
        self.caller.make(&self.serving.url(), path, body).await
    }

    /// Makes an endpoint of `shop` and returns its id.
    async fn endpoint(&self, uid: &str, receiver: &Receiver) -> String {
        let made = self
            .make("/app/shop/endpoint", json!({"uid": uid, "url": receiver.url()}))
            .await;
        made["id"].as_str().expect("an id").to_owned()
    }

    /// Sends a message to `shop` and returns its id.
    async fn send(&self, number: usize) -> String {
        let message = json!({"eventType": "order.paid", "payload": {"n": number}});
        let made = self.make("/app/shop/msg", message).await;
        made["id"].as_str().expect("an id").to_owned()
    }

    /// Starts the command and returns once it waits for attempts.
    async fn tail(&self, arguments: &[&str]) -> Running {
        let program = Program::bare()
            .env("POSTRIDER_URL", &self.serving.url())
            .env("POSTRIDER_TOKEN", TOKEN);
        let tail = program.follow(&[&["tail"], arguments].concat());
        tail.wait_for_words("waiting for attempts").await;
        tail
    }
}

/// Returns the messages that lines are about, in the order of the lines.
fn messages(lines: &[String]) -> Vec<&str> {
    let words = lines.iter().flat_map(|line| line.split_whitespace());
    words.filter(|word| word.starts_with("msg_")).collect()
}

both!(tail_prints_each_attempt_from_now_on_once_with_its_outcome, async |db| {
    let setup = Setup::on(db).await;
    let receiver = Receiver::start().await;
    let endpoint = setup.endpoint("main", &receiver).await;
    setup.send(0).await;
    within(DEADLINE, "the first attempt is recorded", async || {
        let list = setup
            .caller
            .get(&setup.serving.url(), "/app/shop/attempt/endpoint/main")
            .await;
        list["data"][0]["id"].is_string().then_some(())
    })
    .await;
    let mut tail = setup.tail(&["--app", "shop"]).await;
    receiver.answer_next([Answer::status(500), Answer::ok(), Answer::cut()]);
    let failing = setup.send(1).await;
    let lines = tail.wait_for_lines("both attempts", |lines| lines.len() >= 2).await;
    assert_eq!(messages(&lines), [&failing, &failing], "{lines:?}");
    assert!(
        lines[0].contains(&format!("  failed     {}  ", setup.app)) && lines[0].contains("  500 in "),
        "{lines:?}"
    );
    assert!(
        lines[0].contains(&endpoint) && lines[0].contains(", again at 20"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains(&format!("  delivered  {}  ", setup.app)) && lines[1].contains("  200 in "),
        "{lines:?}"
    );
    setup.send(2).await;
    let lines = tail.wait_for_lines("all attempts", |lines| lines.len() >= 4).await;
    assert!(
        lines[2].contains("  failed     ") && !lines[2].contains("no answer in"),
        "the reason: {lines:?}"
    );
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(tail.stop().await, None, "ended by the signal");
});

both!(tail_of_failures_prints_them_alone_as_json_if_asked, async |db| {
    let setup = Setup::on(db).await;
    let receiver = Receiver::start().await;
    setup.endpoint("main", &receiver).await;
    let tail = setup
        .tail(&["--app", "shop", "--endpoint", "main", "--failed", "--json"])
        .await;
    receiver.answer_next([Answer::ok(), Answer::status(500)]);
    setup.send(1).await;
    receiver.wait_for(1).await;
    let failing = setup.send(2).await;
    let lines = tail.wait_for_lines("the failure", |lines| !lines.is_empty()).await;
    let row: Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!(
        (&row["msgId"], &row["responseStatusCode"]),
        (&failing.into(), &500.into())
    );
    assert_eq!(row["appId"], setup.app, "the id, whatever was typed");
});

both!(an_attempt_that_ends_after_later_ones_is_printed_too, async |db| {
    let setup = Setup::on(db).await;
    let receiver = Receiver::start().await;
    setup.endpoint("main", &receiver).await;
    let tail = setup.tail(&["--app", "shop"]).await;
    let gate = Gate::closed();
    receiver.answer_next([Answer::ok().behind(&gate)]);
    let slow = setup.send(0).await;
    receiver.wait_for(1).await;
    let mut expected = Vec::new();
    for number in 1..=5 {
        expected.push(setup.send(number).await);
    }
    tail.wait_for_lines("the fast ones", |lines| lines.len() >= 5).await;
    gate.open();
    let lines = tail.wait_for_lines("the slow one", |lines| lines.len() >= 6).await;
    let mut printed = messages(&lines);
    assert_eq!(printed.pop(), Some(slow.as_str()), "{lines:?}");
    printed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(printed, expected);
});

both!(
    tail_of_all_finds_applications_and_endpoints_that_are_made_later,
    async |db| {
        let setup = Setup::on(db).await;
        let receiver = Receiver::start().await;
        let tail = setup.tail(&[]).await;
        setup.endpoint("main", &receiver).await;
        let first = setup.send(1).await;
        let lines = tail.wait_for_lines("the attempt", |lines| !lines.is_empty()).await;
        assert_eq!(messages(&lines), [&first]);
    }
);

both!(
    a_message_for_many_endpoints_is_printed_for_all_at_once_and_a_deleted_one_is_left_out,
    async |db| {
        let setup = Setup::on(db).await;
        let receiver = Receiver::start().await;
        let mut endpoints = BTreeSet::new();
        for number in 0..20 {
            endpoints.insert(setup.endpoint(&number.to_string(), &receiver).await);
        }
        let tail = setup.tail(&["--app", "shop"]).await;
        setup.send(0).await;
        let lines = tail.wait_for_lines("one each", |lines| lines.len() >= 20).await;
        let words = |lines: &[String]| -> BTreeSet<String> {
            let words = lines.iter().flat_map(|line| line.split_whitespace());
            words
                .filter(|word| word.starts_with("ep_"))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!((words(&lines), lines.len()), (endpoints.clone(), 20));
        let gone = endpoints.pop_first().expect("an endpoint");
        let deleted = format!("/app/shop/endpoint/{gone}");
        assert_eq!(setup.caller.delete(&setup.serving.url(), &deleted).await, 204);
        setup.send(1).await;
        let lines = tail.wait_for_lines("one each", |lines| lines.len() >= 39).await;
        assert_eq!((words(&lines[20..]), lines.len()), (endpoints, 39));
    }
);

both!(
    tail_survives_a_restart_of_the_server_and_loses_and_repeats_nothing,
    async |db| {
        let mut setup = Setup::on(db).await;
        let receiver = Receiver::start().await;
        setup.endpoint("main", &receiver).await;
        let tail = setup.tail(&["--app", "shop"]).await;
        let mut sent = BTreeSet::new();
        for number in 0..3 {
            sent.insert(setup.send(number).await);
        }
        receiver.wait_for(3).await;
        assert_eq!(setup.serving.stop().await, Some(0));
        tail.wait_for_words("trying again").await;
        setup.serving = setup.program.serve().await;
        for number in 3..6 {
            sent.insert(setup.send(number).await);
        }
        let lines = tail.wait_for_lines("all attempts", |lines| lines.len() >= 6).await;
        let printed: BTreeSet<_> = messages(&lines).into_iter().map(str::to_owned).collect();
        assert_eq!((printed, lines.len()), (sent, 6));
        tail.wait_for_words("the server responds again").await;
        assert_eq!(tail.stderr().matches("trying again").count(), 1, "{}", tail.stderr());
    }
);

#[tokio::test]
async fn tail_asks_an_idle_server_once_a_second_and_an_outage_is_said_once() {
    let server = Receiver::start().await;
    let down = Arc::new(Mutex::new(false));
    let state = down.clone();
    server.answer_by(move |asked| match *state.lock().unwrap() {
        true => Answer::status(503).body(r#"{"code": "unavailable", "detail": "away"}"#),
        false if asked.path.contains("/attempt/") => {
            Answer::ok().body(r#"{"data": [], "iterator": null, "done": true}"#)
        }
        false => {
            let endpoint = json!({"id": "ep_1", "url": "https://x", "description": "", "disabled": false, "version": 1,
                "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z", "metadata": {}});
            Answer::ok().body(endpoint.to_string())
        }
    });
    let program = Program::bare()
        .env("POSTRIDER_URL", &format!("http://{}", server.address()))
        .env("POSTRIDER_TOKEN", "t");
    let tail = program.follow(&["tail", "--app", "shop", "--endpoint", "ep_1"]);
    let asked = server.wait_for(8).await;
    for two in asked[3..].windows(2) {
        let pause = two[1].at - two[0].at;
        assert!(pause >= Duration::from_millis(900), "{pause:?}");
    }
    *down.lock().unwrap() = true;
    let before = server.count();
    server.wait_for(before + 3).await;
    *down.lock().unwrap() = false;
    tail.wait_for_words("the server responds again").await;
    assert_eq!(tail.stderr().matches("trying again").count(), 1, "{}", tail.stderr());
}

#[tokio::test]
async fn tail_of_a_server_that_is_not_there_or_refuses_ends_with_the_reason() {
    let program = Program::bare().env("POSTRIDER_TOKEN", "t");
    let said = program.run(&["tail", "--app", "shop"]).await.failed(1);
    assert!(said.contains("set POSTRIDER_URL and POSTRIDER_TOKEN"), "{said}");
    let server = Receiver::start().await;
    let url = format!("http://{}", server.address());
    server.answer(Answer::status(401).body(r#"{"code": "authentication_failed", "detail": "unknown token"}"#));
    let program = program.env("POSTRIDER_URL", &url);
    let said = program.run(&["tail"]).await.failed(1);
    assert!(said.contains("401: unknown token"), "{said}");
    drop(server);
    let said = program.run(&["tail"]).await.failed(1);
    assert!(said.contains("no response from") && said.contains("refused"), "{said}");
}
