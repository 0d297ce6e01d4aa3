//! `app listen`: forwards every message once and signed, whatever happens to either side, and leaves no poller behind.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{
    Answer, Caller, DEADLINE, Program, Proxy, Receiver, Running, Serving, TestDatabase, rows, within,
};

const TOKEN: &str = "an-admin-token-for-this-test";

/// A server with the application `shop` and the event types `order.paid` and `order.sent`.
struct Setup {
    program: Program,
    serving: Serving,
    caller: Caller,
}

impl Setup {
    async fn on(db: &TestDatabase) -> Self {
        let program = Program::on(db.url()).env("POSTRIDER_ADMIN_TOKEN", TOKEN);
        let serving = program.serve().await;
        let setup = Self {
            program: program.env("POSTRIDER_LISTEN", &serving.address().to_string()),
            serving,
            caller: Caller::new(TOKEN),
        };
        setup.make("/app", json!({"name": "Shop", "uid": "shop"})).await;
        for name in ["order.paid", "order.sent"] {
            setup
                .make("/event-type", json!({"name": name, "description": ""}))
                .await;
        }
        setup
    }

    async fn make(&self, path: &str, body: Value) -> Value {
        self.caller.make(&self.serving.url(), path, body).await
    }

    /// Sends a message to `shop` and returns its id.
    async fn send(&self, event_type: &str, number: usize) -> String {
        let message = json!({"eventType": event_type, "payload": {"n": number}});
        let made = self.make("/app/shop/msg", message).await;
        made["id"].as_str().expect("an id").to_owned()
    }

    /// Returns the pollers of `shop`.
    async fn pollers(&self) -> Vec<Value> {
        let list = self.caller.get(&self.serving.url(), "/app/shop/poller").await;
        list["data"].as_array().expect("a list").clone()
    }

    /// Starts the command through `url` and returns once it forwards, with its secret.
    async fn listen_through(&self, url: &str, receiver: &Receiver, more: &[&str]) -> (Running, String) {
        let program = Program::bare()
            .env("POSTRIDER_URL", url)
            .env("POSTRIDER_TOKEN", TOKEN)
            .env("POSTRIDER_APP", "shop");
        let target = receiver.url_of("/hooks");
        let listen = program.follow(&[&["listen", &target], more].concat());
        let begun = |lines: &[String]| lines.len() > usize::from(!more.contains(&"--json"));
        let lines = listen.wait_for_lines("the secret", begun).await;
        let (_, secret) = lines[0].split_once("whsec_").expect("a secret");
        let secret = format!("whsec_{}", secret.split('"').next().expect("its end"));
        (listen, secret)
    }

    async fn listen(&self, receiver: &Receiver, more: &[&str]) -> (Running, String) {
        self.listen_through(&self.serving.url(), receiver, more).await
    }
}

/// Waits until a receiver has these messages, and asserts that it got each once.
async fn got(receiver: &Receiver, ids: &[String]) {
    receiver.wait_for(ids.len()).await;
    let got: Vec<_> = receiver
        .arrivals()
        .iter()
        .map(|arrival| arrival.message_id().to_owned())
        .collect();
    assert_eq!(got.len(), ids.len(), "each once: {got:?}");
    let (got, ids): (BTreeSet<_>, BTreeSet<_>) = (got.iter().collect(), ids.iter().collect());
    assert_eq!(got, ids);
}

both!(
    two_developers_each_get_every_message_signed_with_their_own_secret,
    async |db| {
        let setup = Setup::on(db).await;
        let receivers = [Receiver::start().await, Receiver::start().await];
        receivers[1].answer(Answer::status(500));
        let (mut first, first_secret) = setup.listen(&receivers[0], &["-H", "authorization: Bearer x"]).await;
        let (mut second, second_secret) = setup.listen(&receivers[1], &["--json"]).await;
        assert_ne!(first_secret, second_secret);
        let mut ids = Vec::new();
        for number in 0..5 {
            ids.push(setup.send("order.paid", number).await);
        }
        for (receiver, secret) in receivers.iter().zip([&first_secret, &second_secret]) {
            got(receiver, &ids).await;
            let arrivals = receiver.arrivals();
            assert!(
                arrivals
                    .iter()
                    .all(|arrival| arrival.is_signed_with(secret) && arrival.path == "/hooks")
            );
            let texts: BTreeSet<_> = arrivals.iter().map(|arrival| arrival.text().to_owned()).collect();
            assert_eq!(texts, (0..5).map(|number| format!("{{\"n\":{number}}}")).collect());
        }
        assert_eq!(receivers[0].arrivals()[0].header("authorization"), Some("Bearer x"));
        let lines = first.wait_for_lines("a line a message", |lines| lines.len() >= 7).await;
        assert!(
            lines[2].contains("Z  order.paid  msg_") && lines[2].contains("  → 200 in "),
            "{lines:?}"
        );
        let lines = second
            .wait_for_lines("a line a message", |lines| lines.len() >= 6)
            .await;
        let line: Value = serde_json::from_str(&lines[1]).expect("JSON");
        assert_eq!(
            (&line["status"], &line["eventType"]),
            (&500.into(), &"order.paid".into())
        );
        assert_eq!(setup.pollers().await.len(), 2);
        first.signal("INT");
        assert_eq!(first.end().await, Some(0), "{}", first.stderr());
        assert_eq!(second.stop().await, Some(0), "{}", second.stderr());
        assert_eq!(setup.pollers().await, Vec::<Value>::new(), "none is left behind");
    }
);

both!(
    listen_misses_and_repeats_nothing_over_a_restart_a_cut_and_a_stop_of_either_side,
    async |db| {
        let mut setup = Setup::on(db).await;
        let receiver = Receiver::start().await;
        let proxy = Proxy::to(&setup.serving.url()).await;
        let through = proxy.url(&setup.serving.url());
        let (mut listen, _) = setup
            .listen_through(through.trim_end_matches('/'), &receiver, &[])
            .await;
        let mut ids = Vec::new();
        for round in 0..4 {
            match round {
                1 => proxy.cut(),
                2 => listen.signal("STOP"),
                3 => {
                    assert_eq!(setup.serving.stop().await, Some(0));
                    listen.wait_for_words("trying again").await;
                    setup.serving = setup.program.serve().await;
                }
                _ => {}
            }
            for number in 0..3 {
                ids.push(setup.send("order.paid", 10 * round + number).await);
            }
            if round == 2 {
                listen.signal("CONT");
            }
            got(&receiver, &ids).await;
        }
        listen.wait_for_words("the server responds again").await;
        listen.signal("HUP");
        assert_eq!(listen.end().await, Some(0), "{}", listen.stderr());
        assert_eq!(setup.pollers().await, Vec::<Value>::new());
    }
);

both!(types_are_names_that_the_server_checks_or_patterns, async |db| {
    let setup = Setup::on(db).await;
    let (paid, orders) = (Receiver::start().await, Receiver::start().await);
    let (_paid, _) = setup.listen(&paid, &["--event-types", "order.paid"]).await;
    let (_orders, _) = setup.listen(&orders, &["--event-types", "order.*,user.made"]).await;
    let mut ids = Vec::new();
    for event_type in [
        "order.paid",
        "order.sent",
        "order.unregistered",
        "user.made",
        "user.left",
        "order.paid",
    ] {
        ids.push(setup.send(event_type, ids.len()).await);
    }
    got(&paid, &[ids[0].clone(), ids[5].clone()]).await;
    ids.remove(4);
    got(&orders, &ids).await;
    let program = Program::bare()
        .env("POSTRIDER_URL", &setup.serving.url())
        .env("POSTRIDER_TOKEN", TOKEN);
    let misspelt = [
        "listen",
        "http://127.0.0.1:9",
        "--app",
        "shop",
        "--event-types",
        "order.payed",
    ];
    let said = program.run(&misspelt).await.failed(1);
    assert!(said.contains("422: eventTypes"), "{said}");
});

both!(
    since_begins_with_earlier_messages_and_forwards_none_of_them_twice,
    async |db| {
        let setup = Setup::on(db).await;
        let receiver = Receiver::start().await;
        let mut ids = Vec::new();
        for number in 0..3 {
            ids.push(setup.send("order.paid", number).await);
        }
        let (_listen, secret) = setup.listen(&receiver, &["--since", "10m"]).await;
        got(&receiver, &ids).await;
        let order: Vec<_> = receiver
            .arrivals()
            .iter()
            .map(|arrival| arrival.message_id().to_owned())
            .collect();
        assert_eq!(order, ids, "oldest first");
        assert!(
            receiver
                .arrivals()
                .iter()
                .all(|arrival| arrival.is_signed_with(&secret))
        );
        ids.push(setup.send("order.paid", 3).await);
        got(&receiver, &ids).await;
    }
);

both!(bodies_are_forwarded_byte_for_byte, async |db| {
    let setup = Setup::on(db).await;
    let receiver = Receiver::start().await;
    let looks_raw = json!({"eventType": "order.paid", "payload": {"rawPayload": "{}"}});
    let raw =
        json!({"eventType": "order.paid", "payload": {}, "transformationsParams": {"rawPayload": "total=1.10\n"}});
    let (_listen, secret) = setup.listen(&receiver, &[]).await;
    for message in [looks_raw, raw] {
        setup.make("/app/shop/msg", message).await;
    }
    receiver.wait_for(2).await;
    let arrivals = receiver.arrivals();
    let texts: BTreeSet<_> = arrivals.iter().map(|arrival| arrival.text()).collect();
    assert_eq!(texts, BTreeSet::from([r#"{"rawPayload":"{}"}"#, "total=1.10\n"]));
    assert!(arrivals.iter().all(|arrival| arrival.is_signed_with(&secret)));
});

both!(what_a_crash_left_behind_goes_after_a_day_and_not_before, async |db| {
    let setup = Setup::on(db).await;
    let receiver = Receiver::start().await;
    let mut old = Vec::new();
    for _ in 0..2 {
        let (listen, _) = setup.listen(&receiver, &[]).await;
        within(DEADLINE, "its consumer is there", async || {
            let pollers = setup.pollers().await;
            let newest = pollers
                .iter()
                .map(|poller| poller["id"].as_str().expect("an id"))
                .max()?;
            let path = format!("/app/shop/poller/{newest}/consumer");
            let list = setup.caller.get(&setup.serving.url(), &path).await;
            (!list["data"].as_array()?.is_empty()).then_some(())
        })
        .await;
        listen.signal("KILL");
        let pollers = setup.pollers().await;
        old.push(
            pollers
                .iter()
                .map(|poller| poller["id"].as_str().unwrap().to_owned())
                .max()
                .unwrap(),
        );
    }
    setup
        .make("/app/shop/poller", json!({"description": "of another program"}))
        .await;
    let days = 2 * 86_400_000_000_i64;
    let connection = db.connect().await;
    for sql in [
        format!("update poller set created_at = created_at - {days}"),
        format!(
            "update poller_consumer set used_at = used_at - {days} where poller_id = '{}' returning 1",
            old[0]
        ),
    ] {
        rows(&connection, &sql).await;
    }
    let (mut listen, _) = setup.listen(&receiver, &[]).await;
    let left: Vec<_> = setup
        .pollers()
        .await
        .iter()
        .map(|poller| poller["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(!left.contains(&old[0]) && left.contains(&old[1]), "{left:?}");
    assert_eq!(left.len(), 3, "the other program's is kept");
    assert_eq!(listen.stop().await, Some(0));
});

both!(
    a_poller_that_is_removed_meanwhile_is_made_again_and_nothing_is_missed_or_repeated,
    async |db| {
        let mut setup = Setup::on(db).await;
        let receiver = Receiver::start().await;
        let (mut listen, secret) = setup.listen(&receiver, &[]).await;
        let mut ids = vec![setup.send("order.paid", 0).await];
        got(&receiver, &ids).await;
        let first = setup.pollers().await.remove(0);
        let path = format!("/app/shop/poller/{}", first["id"].as_str().expect("an id"));
        assert_eq!(setup.caller.delete(&setup.serving.url(), &path).await, 204);
        ids.push(setup.send("order.paid", 1).await);
        // A poll that waits ends with the process, and does not need 25 s to find out.
        assert_eq!(setup.serving.stop().await, Some(0));
        setup.serving = setup.program.serve().await;
        listen.wait_for_words("the poller was removed meanwhile").await;
        ids.push(setup.send("order.paid", 2).await);
        got(&receiver, &ids).await;
        let arrivals = receiver.arrivals();
        assert!(arrivals.iter().all(|arrival| arrival.is_signed_with(&secret)));
        assert_eq!(listen.stop().await, Some(0));
        assert_eq!(setup.pollers().await, Vec::<Value>::new());
    }
);

both!(a_token_of_the_application_is_enough_and_names_it, async |db| {
    let setup = Setup::on(db).await;
    let receiver = Receiver::start().await;
    let create = ["token", "create", "--organization", "default", "--application", "shop"];
    let token = setup.program.run(&create).await.ok();
    let program = Program::bare()
        .env("POSTRIDER_URL", &setup.serving.url())
        .env("POSTRIDER_TOKEN", token.trim());
    let mut listen = program.follow(&["listen", &receiver.url()]);
    listen.wait_for_lines("the secret", |lines| lines.len() >= 2).await;
    let ids = [setup.send("order.paid", 1).await];
    got(&receiver, &ids).await;
    assert_eq!(listen.stop().await, Some(0));
    let said = program
        .env("POSTRIDER_TOKEN", TOKEN)
        .run(&["listen", &receiver.url()])
        .await
        .failed(1);
    assert!(said.contains("name one with --app"), "{said}");
});

both!(a_receiver_that_is_built_again_is_waited_for, async |db| {
    let setup = Setup::on(db).await;
    let receiver = Receiver::start().await;
    let address = receiver.address();
    let (listen, _) = setup.listen(&receiver, &[]).await;
    drop(receiver);
    let id = setup.send("order.paid", 1).await;
    listen.wait_for_words("nothing listens at http://").await;
    assert!(
        !listen.stdout().contains(&id),
        "it is said before the message is given up"
    );
    let lines = listen.wait_for_lines("the reason", |lines| lines.len() >= 3).await;
    assert!(
        lines[2].contains(&id) && lines[2].contains("refused"),
        "{address}: {lines:?}"
    );
    let next = setup.send("order.paid", 2).await;
    let lines = listen.wait_for_lines("the reason", |lines| lines.len() >= 4).await;
    let said = listen.stderr();
    assert!(lines[3].contains(&next) && said.contains("trying again"), "{said}");
    assert_eq!(said.matches("nothing listens").count(), 1, "{said}");
});
