//! `app trigger`: which payload it sends, to which endpoints, and what it says.

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{Answer, Caller, Program, Receiver};

const TOKEN: &str = "an-admin-token-for-this-test";

/// Makes the application `shop` and the event type `order.paid`, which has an example, and `bare`, which has none.
async fn setup(api: &Api) -> Program {
    api.post("/app", json!({"name": "Shop", "uid": "shop"}))
        .await
        .expect(201);
    let example = json!({"total": 1.5, "customer": {"name": "Ada"}, "items": [{"n": 1}]});
    let schemas = json!({"1": {"examples": [example, {"other": true}]}});
    for (name, schemas) in [("order.paid", schemas), ("bare", Value::Null)] {
        let event_type = json!({"name": name, "description": "", "schemas": schemas});
        api.post("/event-type", event_type).await.expect(201);
    }
    Program::bare()
        .env("POSTRIDER_URL", &format!("http://{}", api.listen().await))
        .env("POSTRIDER_TOKEN", &api.token)
        .env("POSTRIDER_APP", "shop")
}

/// Runs the command and returns the payload of the message whose id it printed.
async fn sent(api: &Api, program: &Program, arguments: &[&str]) -> Value {
    let said = program.run(&[&["trigger"], arguments].concat()).await.ok();
    let id = said.strip_suffix('\n').expect("a line");
    assert!(id.starts_with("msg_"), "the id alone: {said}");
    api.get(&format!("/app/shop/msg/{id}")).await.expect(200)["payload"].clone()
}

both!(
    the_event_type_s_example_is_sent_with_the_changes_that_are_set,
    async |db| {
        let api = Api::on(db).await;
        let program = setup(&api).await;
        let example = json!({"total": 1.5, "customer": {"name": "Ada"}, "items": [{"n": 1}]});
        assert_eq!(sent(&api, &program, &["order.paid"]).await, example);
        let set = [
            "--set",
            "total=5",
            "--set",
            "a.b=true",
            "--set",
            "items.0.n=2",
            "--set",
            "customer.name=Ada L.",
        ];
        let changed = json!({"total": 5, "customer": {"name": "Ada L."}, "items": [{"n": 2}], "a": {"b": true}});
        assert_eq!(
            sent(&api, &program, &[&["order.paid"], &set[..]].concat()).await,
            changed
        );
        assert_eq!(sent(&api, &program, &["bare", "--set", "n=1"]).await, json!({"n": 1}));
        assert_eq!(
            sent(&api, &program, &["unknown", "--set", "n=1"]).await,
            json!({"n": 1})
        );
        assert_eq!(sent(&api, &program, &["svix.ping"]).await, json!({"success": true}));
    }
);

both!(a_file_takes_the_place_of_the_example, async |db| {
    let api = Api::on(db).await;
    let program = setup(&api).await;
    for (name, text) in [
        ("p.json", r#"{"from": "file"}"#),
        ("list.json", "[1]"),
        ("text.json", "total=1"),
    ] {
        std::fs::write(program.folder().join(name), text).expect("a file");
    }
    let file = ["order.paid", "--file", "p.json", "--set", "n=1"];
    assert_eq!(sent(&api, &program, &file).await, json!({"from": "file", "n": 1}));
    let digits = r#"{"a":1.10,"b":12345678901234567890123,"c":[1.0]}"#;
    std::fs::write(program.folder().join("digits.json"), digits).expect("a file");
    let file = ["order.paid", "--file", "digits.json", "--set", "c.0=2.50"];
    let id = program.run(&[&["trigger"], &file[..]].concat()).await.ok();
    let raw = api.get(&format!("/app/shop/msg/{}", id.trim())).await.text;
    let kept = r#""payload":{"a":1.10,"b":12345678901234567890123,"c":[2.50]}"#;
    assert!(raw.contains(kept), "the digits are those that were given: {raw}");
    for (name, words) in [
        ("list.json", "list.json must be a JSON object"),
        ("text.json", "text.json is not JSON"),
        ("none.json", "cannot read none.json"),
    ] {
        let said = program.run(&["trigger", "bare", "--file", name]).await.failed(1);
        assert!(said.contains(words), "{said}");
    }
});

both!(with_an_endpoint_the_example_goes_to_that_one_alone, async |db| {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    let program = setup(&api).await;
    for uid in ["one", "two"] {
        let endpoint = json!({"uid": uid, "url": receiver.url_of(&format!("/{uid}"))});
        api.post("/app/shop/endpoint", endpoint).await.expect(201);
    }
    let token = api.token_of("shop").await;
    let of_token = program.clone().env("POSTRIDER_TOKEN", &token).without("POSTRIDER_APP");
    let whole_url = format!("http://{}/api/v1/", api.listen().await);
    for program in [of_token, program.clone().env("POSTRIDER_URL", &whole_url)] {
        sent(&api, &program, &["order.paid", "--endpoint", "two"]).await;
    }
    api.rig.drain().await;
    let paths: Vec<_> = receiver.arrivals().into_iter().map(|arrival| arrival.path).collect();
    assert_eq!(paths, ["/two", "/two"]);
    let unknown = program.run(&["trigger", "order.lost", "--endpoint", "two"]).await;
    let words = "order.lost is not registered as an event type";
    assert!(unknown.failed(1).contains(words));
    for more in [["--set", "n=1"], ["--file", "p.json"]] {
        let said = program
            .run(&[&["trigger", "order.paid", "--endpoint", "two"], &more[..]].concat())
            .await;
        assert!(said.failed(2).contains("cannot be used with"));
    }
});

both!(what_cannot_be_sent_is_said_with_the_remedy, async |db| {
    let api = Api::on(db).await;
    let program = setup(&api).await;
    let token = api.token_of("shop").await;
    for (program, arguments, words) in [
        (
            program.clone(),
            &["bare"][..],
            "no example of bare: give a payload with --file or --set",
        ),
        (
            program.clone(),
            &["unknown"],
            "unknown is not registered as an event type",
        ),
        (
            program.clone(),
            &["order.paid", "--set", "total.x=1"],
            "--set total.x: \"x\" is below a value",
        ),
        (
            program.clone(),
            &["order.paid", "--app", "none"],
            "404: application not found",
        ),
        (
            program.clone(),
            &["order.paid", "--endpoint", "none"],
            "404: endpoint not found",
        ),
        (
            program.clone().env("POSTRIDER_TOKEN", &token),
            &["order.paid"],
            "add --endpoint",
        ),
        (program.clone().env("POSTRIDER_TOKEN", "none"), &["order.paid"], "401"),
        (
            program.clone().without("POSTRIDER_URL"),
            &["order.paid"],
            "set POSTRIDER_URL and POSTRIDER_TOKEN",
        ),
        (
            program.clone().without("POSTRIDER_APP"),
            &["order.paid"],
            "name one with --app",
        ),
        (
            program.clone().env("POSTRIDER_URL", "127.0.0.1:8080"),
            &["order.paid"],
            "POSTRIDER_URL must begin with http:// or https://",
        ),
    ] {
        let said = program.run(&[&["trigger"], arguments].concat()).await.failed(1);
        assert!(said.contains(words), "{words}: {said}");
    }
    let messages = api.get("/app/shop/msg").await;
    assert_eq!(messages.expect(200)["data"], json!([]), "nothing was sent");
});

both!(
    trigger_waits_for_the_first_attempts_and_says_what_became_of_the_message,
    async |db| {
        let program = Program::on(db.url())
            .env("POSTRIDER_ADMIN_TOKEN", TOKEN)
            .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8");
        let serving = program.serve().await;
        let (good, bad) = (Receiver::start().await, Receiver::start().await);
        bad.answer(Answer::status(500));
        let caller = Caller::new(TOKEN);
        let url = serving.url();
        caller.make(&url, "/app", json!({"name": "Shop", "uid": "shop"})).await;
        for receiver in [&good, &bad] {
            caller
                .make(&url, "/app/shop/endpoint", json!({"url": receiver.url()}))
                .await;
        }
        let trigger = Program::bare().env("POSTRIDER_URL", &url).env("POSTRIDER_TOKEN", TOKEN);
        let said = trigger
            .run(&["trigger", "svix.ping", "--app", "shop", "--wait"])
            .await
            .ok();
        for words in [
            "msg_",
            "1 delivered, 1 waiting",
            "  delivered: ",
            "  waiting: ",
            &good.url(),
            &bad.url(),
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
);

#[tokio::test]
async fn a_lost_response_is_asked_for_again_and_sends_nothing_twice() {
    let server = Receiver::start().await;
    server.answer_next([
        Answer::cut(),
        Answer::status(202).body(json!({"id": "msg_1"}).to_string()),
        Answer::cut(),
        Answer::status(202).body(json!({"id": "msg_2"}).to_string()),
    ]);
    let program = Program::bare()
        .env("POSTRIDER_URL", server.url().trim_end_matches('/'))
        .env("POSTRIDER_TOKEN", "a-token")
        .env("POSTRIDER_APP", "shop");
    assert_eq!(program.run(&["trigger", "svix.ping"]).await.ok(), "msg_1\n");
    let to_one = ["trigger", "svix.ping", "--endpoint", "one"];
    assert_eq!(program.run(&to_one).await.ok(), "msg_2\n");
    let arrivals = server.arrivals();
    let keys: Vec<_> = arrivals
        .iter()
        .map(|arrival| arrival.header("idempotency-key").expect("a key"))
        .collect();
    assert!(
        keys[0] == keys[1] && keys[2] == keys[3] && keys[0] != keys[2],
        "{keys:?}"
    );
    assert!(
        arrivals[0].body == arrivals[1].body && arrivals[2].body == arrivals[3].body,
        "a repetition is recognized by its body too"
    );
}

#[tokio::test]
async fn waiting_passes_over_a_server_that_is_away() {
    let server = Receiver::start().await;
    let explanation = json!({
        "msgId": "msg_1", "eventId": null, "eventType": "svix.ping", "createdAt": "2026-12-01T09:14:02Z",
        "text": "no endpoint", "data": [], "iterator": null, "prevIterator": null, "done": true
    });
    server.answer_next([
        Answer::status(202).body(json!({"id": "msg_1"}).to_string()),
        Answer::status(503),
        Answer::cut(),
        Answer::ok().body(explanation.to_string()),
    ]);
    server.answer(Answer::status(503));
    let program = Program::bare()
        .env("POSTRIDER_URL", server.url().trim_end_matches('/'))
        .env("POSTRIDER_TOKEN", "a-token")
        .env("POSTRIDER_APP", "shop");
    let said = program.run(&["trigger", "svix.ping", "--wait"]).await.ok();
    assert!(said.starts_with("msg_1\nmsg_1, of type svix.ping"), "{said}");
    assert!(said.ends_with("no endpoint\n"), "{said}");
}
