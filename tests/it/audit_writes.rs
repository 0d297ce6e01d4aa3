//! Which writes leave an entry in the audit log: each write of the API document leaves one, or none by a rule, and what
//! was not done leaves none.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api::{Answer, Api};
use crate::harness::{self, Receiver, TestDatabase, rows};

/// Texts that are given to writes and must not be in any entry.
const PLANTED: [&str; 3] = [
    "planted-value",
    "planted-query",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
];
/// What stands for the code of a link to the console.
const CODE: &str = "the code";
const SINCE: &str = "2026-01-01T00:00:00Z";

/// Writes that have no entry by a rule.
const WITHOUT: [&str; 2] = ["v1.message.create", "v1.endpoint.send-example"];

/// One of everything that a path names. The application has the uid `a`, its endpoint `e`, the event type the name `t`.
struct World {
    api: Api,
    app: String,
    message: String,
    attempt: String,
    task: String,
    token: String,
    /// The id of a token of the poller `p`.
    reader: String,
    /// A token of the application.
    portal: String,
    /// The code of a link to the console.
    code: String,
}

fn endpoint(uid: &str) -> Value {
    json!({
        "url": "http://127.0.0.1:9/in?key=planted-query", "uid": uid, "secret": PLANTED[2],
        "headers": {"X-Own": "planted-value", "X-Api-Key": "planted-value"},
    })
}

impl World {
    async fn on(db: &TestDatabase) -> Self {
        let api = Api::on(db).await;
        let mut world = Self {
            api,
            app: String::new(),
            message: String::new(),
            attempt: String::new(),
            task: String::new(),
            token: String::new(),
            reader: String::new(),
            portal: String::new(),
            code: String::new(),
        };
        world.renew().await;
        world
    }

    /// Makes everything anew.
    async fn renew(&mut self) {
        let api = &self.api;
        api.delete("/app/a").await;
        self.app = api.post("/app", json!({"name": "a", "uid": "a"})).await.field("id");
        api.put("/event-type/t", json!({"description": ""})).await;
        api.post("/app/a/endpoint", endpoint("e")).await.expect(201);
        api.put(
            "/operational-webhook/endpoint/o",
            json!({"url": "http://127.0.0.1:9/", "uid": "o"}),
        )
        .await;
        let sent = json!({"eventType": "t", "payload": {}});
        self.message = api.post("/app/a/msg", sent).await.field("id");
        self.attempt = format!("atmpt_{}", &self.message["msg_".len()..]);
        let sql = "insert into attempt (app_id, message_id, id, endpoint_id, url, trigger, delivered, response_status, \
                   response, duration_ms, created_at) values ($1, $2, $3, 'ep_1', '', 0, false, 500, '', 1, 0)";
        let values = [&self.app, &self.message, &self.attempt].map(|text| text.as_str().into());
        api.rig.sql(sql, values).await;
        let window = json!({"since": SINCE});
        self.task = api.post("/app/a/endpoint/e/recover", window).await.field("id");
        let token = json!({"name": "n", "role": "sender"});
        self.token = api.post("/token", token).await.field("id");
        api.post("/app/a/poller", json!({"uid": "p"})).await.expect(201);
        let reader = json!({"name": "n"});
        self.reader = api.post("/app/a/poller/p/token", reader).await.field("id");
        api.get("/app/a/poller/p/consumer/c").await.expect(200);
        let access = api.post("/auth/app-portal-access/a", json!({})).await;
        self.portal = access.field("token");
        self.code = api
            .post("/auth/console-link", json!({"role": "viewer"}))
            .await
            .field("code");
    }

    /// Returns the path of an operation, with its parameters filled in.
    fn path(&self, operation: &str, template: &str) -> String {
        let steps = template.split('/').map(|step| match step {
            "{app_id}" => "a",
            "{endpoint_id}" if operation.contains("operational") => "o",
            "{endpoint_id}" => "e",
            "{msg_id}" => &self.message,
            "{attempt_id}" => &self.attempt,
            "{task_id}" => &self.task,
            "{token_id}" if operation.starts_with("v1.poller.") => &self.reader,
            "{token_id}" => &self.token,
            "{poller_id}" => "p",
            "{consumer_id}" => "c",
            "{event_type_name}" => "t",
            fixed => fixed,
        });
        steps.collect::<Vec<_>>().join("/")
    }

    async fn call(&self, token: &str, write: &Write, headers: &[(&str, &str)], body: &str) -> Answer {
        let path = self.path(&write.id, &write.path);
        self.api.call(token, &write.method, &path, headers, body).await
    }

    async fn entries(&self) -> Vec<Value> {
        self.api.walk("/audit", 250).await
    }

    /// Returns the entries that are not among `known`, newest first.
    async fn since(&self, known: &[Value]) -> Vec<Value> {
        let known: BTreeSet<_> = known.iter().map(|entry| entry["id"].to_string()).collect();
        let all = self.entries().await.into_iter();
        all.filter(|entry| !known.contains(&entry["id"].to_string())).collect()
    }
}

/// An operation of the API document that is no GET.
struct Write {
    id: String,
    method: String,
    /// The path below `/api/v1`, with the names of its parameters.
    path: String,
    /// Whether tokens of applications may call it.
    is_for_applications: bool,
}

fn writes() -> Vec<Write> {
    let document: Value = serde_json::from_str(&postrider::api::document()).unwrap();
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods
            .as_object()
            .unwrap()
            .iter()
            .filter(|(method, _)| *method != "get")
        {
            all.push(Write {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase(),
                path: path.strip_prefix("/api/v1").unwrap().to_owned(),
                is_for_applications: operation["description"]
                    .as_str()
                    .unwrap()
                    .contains("tokens of applications"),
            });
        }
    }
    assert!(all.len() >= 35, "{}", all.len());
    all
}

/// Returns the body with which a write succeeds, and the kind of object that its entry names.
///
/// # Panics
/// For an operation that is not known here: decide whether it has an entry, and what that says.
fn body_and_kind(id: &str) -> (Value, &'static str) {
    let headers = json!({"headers": {"X-Own": "planted-value 2", "X-New": "planted-value"}});
    let window = json!({"since": SINCE});
    match id {
        "v1.application.create" => (json!({"name": "new"}), "application"),
        "v1.application.update" | "v1.application.patch" => (json!({"name": "n", "uid": "a"}), "application"),
        "v1.application.delete" => (json!(null), "application"),
        "v1.event-type.create" => (json!({"name": "new", "description": ""}), "eventType"),
        "v1.event-type.update" | "v1.event-type.patch" => (json!({"description": "d"}), "eventType"),
        "v1.event-type.delete" => (json!(null), "eventType"),
        "v1.endpoint.create" | "v1.operational-webhook.endpoint.create" => (endpoint("new"), "endpoint"),
        "v1.endpoint.update" | "v1.endpoint.patch" => {
            (json!({"url": "http://127.0.0.1:9/other?a=planted-query"}), "endpoint")
        }
        "v1.operational-webhook.endpoint.update" => (
            json!({"url": "http://127.0.0.1:9/other?a=planted-query", "uid": "o"}),
            "endpoint",
        ),
        "v1.endpoint.delete" | "v1.operational-webhook.endpoint.delete" => (json!(null), "endpoint"),
        "v1.endpoint.rotate-secret" | "v1.operational-webhook.endpoint.rotate-secret" => {
            (json!({"key": PLANTED[2]}), "endpoint")
        }
        "v1.endpoint.update-headers" | "v1.endpoint.patch-headers" => (headers, "endpoint"),
        "v1.operational-webhook.endpoint.update-headers" => (headers, "endpoint"),
        "v1.poller.create" => (json!({"uid": "new"}), "poller"),
        "v1.poller.update" | "v1.poller.patch" => (json!({"uid": "p", "description": "d"}), "poller"),
        "v1.poller.delete" => (json!(null), "poller"),
        "v1.poller.rotate-secret" => (json!({"key": PLANTED[2]}), "poller"),
        "v1.poller.token.create" => (json!({"name": "new"}), "token"),
        "v1.poller.token.delete" => (json!(null), "token"),
        "v1.message.poller.consumer-seek" => (json!({"after": SINCE}), "poller"),
        "v1.poller.consumer.delete" => (json!(null), "poller"),
        "v1.endpoint.send-example" => (json!({"eventType": "svix.ping"}), ""),
        "v1.endpoint.recover" | "v1.endpoint.replay-missing" | "v1.endpoint.bulk-replay" => (window, "task"),
        "v1.background-task.cancel" => (json!(null), "task"),
        "v1.message.create" => (json!({"eventType": "t", "payload": {"k": "planted-value"}}), ""),
        "v1.message.expunge-content" | "v1.message-attempt.resend" => (json!(null), "message"),
        "v1.message-attempt.expunge-content" => (json!(null), "attempt"),
        "v1.authentication.app-portal-access" => (json!({"sessionId": "s"}), "token"),
        "v1.authentication.dashboard-access" | "v1.authentication.logout" => (json!(null), "token"),
        "v1.authentication.expire-all" => (json!({"sessionIds": ["s"]}), "application"),
        "v1.authentication.console-link" => (json!({"role": "viewer"}), "consoleLink"),
        "v1.authentication.console-session" => (json!({"code": CODE}), "token"),
        "v1.token.create" => (json!({"name": "new", "role": "viewer"}), "token"),
        "v1.token.patch" => (json!({"name": "other"}), "token"),
        "v1.token.delete" => (json!(null), "token"),
        unknown => panic!("{unknown} is a write that this test does not know"),
    }
}

fn text_of(body: &Value) -> String {
    match body {
        Value::Null => String::new(),
        body => body.to_string(),
    }
}

both!(
    every_write_of_the_document_leaves_one_entry_or_none_by_a_rule,
    async |db| {
        let mut world = World::on(db).await;
        for write in writes() {
            let (body, kind) = body_and_kind(&write.id);
            let is_logout = write.id == "v1.authentication.logout";
            let actors: &[_] = if write.is_for_applications {
                &["token", "portal"]
            } else {
                &["token"]
            };
            for actor in actors.iter().copied() {
                let token = if actor == "portal" {
                    &world.portal
                } else {
                    &world.api.token
                };
                let known = world.entries().await;
                let request = format!("{}-{actor}", write.id);
                let body = text_of(&body).replace(CODE, &world.code);
                let done = world
                    .call(token, &write, &[("x-request-id", request.as_str())], &body)
                    .await;
                assert!(done.status.is_success(), "{}: {}", write.id, done.text);
                let made = world.since(&known).await;
                println!("{} {actor}: {}", write.id, json!(made));
                let has_none = WITHOUT.contains(&write.id.as_str()) || is_logout && actor == "token";
                assert_eq!(made.len(), usize::from(!has_none), "{}", write.id);
                for entry in &made {
                    assert_eq!(entry["operation"], write.id, "{entry}");
                    assert_eq!(entry["requestId"], request, "{entry}");
                    assert_eq!(entry["object"]["kind"], kind, "{entry}");
                    assert_eq!(entry["actor"]["kind"], actor, "{entry}");
                    let is_in_application = write.path.contains("{app_id}") || actor == "portal";
                    if is_in_application {
                        assert_eq!(entry["appId"], world.app, "{entry}");
                    }
                }
                world.renew().await;
                if write.id.ends_with(".create") {
                    for path in ["/event-type/new?expunge=true", "/operational-webhook/endpoint/new"] {
                        world.api.delete(path).await;
                    }
                }
            }
        }
        assert_no_secret(db, &world).await;
    }
);

/// Asserts that nothing that was planted, no token and no hash of one, is in any entry.
async fn assert_no_secret(db: &TestDatabase, world: &World) {
    let connection = db.connect().await;
    let columns = ["actor_name", "before_json", "after_json", "request_id"].map(|name| format!("coalesce({name}, '')"));
    let columns = columns.join(" || ' ' || ");
    let sql = format!("select actor_id || ' ' || operation || ' ' || object_id || ' ' || {columns} as text from audit");
    let entries = rows(&connection, &sql).await;
    let hashes = rows(&connection, "select hash from api_token").await;
    let hashes = hashes.iter().map(|row| row.try_get::<String>("", "hash").unwrap());
    let secret: Vec<String> = PLANTED
        .iter()
        .map(|text| (*text).to_owned())
        .chain(hashes)
        .chain([
            "whsec_".to_owned(),
            "pr_".to_owned(),
            world.portal.clone(),
            world.code.clone(),
        ])
        .collect();
    assert!(entries.len() > 100, "{}", entries.len());
    for entry in &entries {
        let text: String = entry.try_get("", "text").unwrap();
        for secret in &secret {
            assert!(!text.contains(secret.as_str()), "{secret} is in {text}");
        }
    }
    let shown = |text: &str| {
        entries
            .iter()
            .any(|row| row.try_get::<String>("", "text").unwrap().contains(text))
    };
    assert!(shown("?key=hidden") && shown("X-Own") && shown("\"changedValues\":[\"X-Own\"]"));
}

both!(requests_that_are_refused_leave_no_entry, async |db| {
    let world = World::on(db).await;
    let viewer = json!({"name": "v", "role": "viewer"});
    let viewer = world.api.post("/token", viewer).await.field("token");
    let stranger = world.api.stranger().await;
    world
        .api
        .post("/app", json!({"name": "b", "uid": "b"}))
        .await
        .expect(201);
    let known = world.api.rig.count("audit").await;
    for write in writes() {
        let (body, kind) = body_and_kind(&write.id);
        let body = text_of(&body);
        world.call("wrong", &write, &[], &body).await.expect(401);
        let may = ["v1.authentication", "v1.message.create"]
            .iter()
            .any(|id| write.id.starts_with(id));
        if !may && !kind.is_empty() {
            world.call(&viewer, &write, &[], &body).await.expect(403);
        }
        if !body.is_empty() {
            world.call(&world.api.token, &write, &[], "no json").await.expect(422);
        }
        let creates = write.method == "PUT" && !write.path.ends_with("/headers");
        let is_in_application = write.path.contains("{app_id}") && write.id != "v1.application.update";
        if is_in_application || write.path.contains('{') && !creates {
            world.call(&stranger, &write, &[], &body).await.expect(404);
        }
    }
    let api = &world.api;
    api.put("/app/a", json!({"name": "n", "uid": "b"})).await.expect(409);
    api.post("/app", json!({"name": "n", "uid": "a"})).await.expect(409);
    api.post("/app/a/endpoint", endpoint("e")).await.expect(409);
    let unknown = json!({"url": "http://127.0.0.1:9/", "eventTypes": ["unknown"]});
    api.patch("/app/a/endpoint/e", unknown).await.expect(422);
    for path in [
        "/audit",
        "/app/a/endpoint/e/secret",
        "/app/a/endpoint/e/headers",
        "/token",
        "/app/a/poller/p",
        "/app/a/poller/p/consumer/c",
        "/app/a/poller/p/secret",
    ] {
        api.get(path).await.expect(200);
    }
    assert_eq!(api.rig.count("audit").await, known);
});

both!(a_replay_of_an_idempotency_key_leaves_no_second_entry, async |db| {
    let world = World::on(db).await;
    for (path, body) in [
        ("/app".to_owned(), json!({"name": "once"})),
        ("/event-type".to_owned(), json!({"name": "once", "description": ""})),
        ("/app/a/endpoint".to_owned(), endpoint("once")),
        ("/app/a/poller".to_owned(), json!({"uid": "once"})),
        ("/app/a/poller/p/token".to_owned(), json!({"name": "once"})),
        ("/app/a/poller/p/consumer/c/seek".to_owned(), json!({"after": SINCE})),
        ("/token".to_owned(), json!({"name": "once", "role": "viewer"})),
        ("/auth/app-portal-access/a".to_owned(), json!({})),
        ("/app/a/endpoint/e/secret/rotate".to_owned(), json!({})),
        ("/app/a/endpoint/e/recover".to_owned(), json!({"since": SINCE})),
        (format!("/app/a/msg/{}/endpoint/e/resend", world.message), json!({})),
        (format!("/background-task/{}/cancel", world.task), json!({})),
    ] {
        let known = world.entries().await;
        for _ in 0..3 {
            let done = world.api.post_once(&path, &path, body.clone()).await;
            assert!(done.status.is_success(), "{path}: {}", done.text);
        }
        assert_eq!(world.since(&known).await.len(), 1, "{path}");
    }
});

both!(a_write_and_its_entry_are_stored_together_or_not_at_all, async |db| {
    let world = World::on(db).await;
    let rig = &world.api.rig;
    let counts = async || (rig.count("audit").await, rig.count("application").await);
    let known = counts().await;
    rig.refuse(db, "api_token", "session_id = 'refused'").await;
    let access = json!({"sessionId": "refused", "application": {"name": "lost", "uid": "lost"}});
    let answer = world.api.post("/auth/app-portal-access/lost", access).await;
    answer.expect(500);
    assert_eq!(
        counts().await,
        known,
        "an application and its entry, with a token that was refused"
    );
    rig.refuse(db, "audit", "operation = 'v1.application.create'").await;
    world.api.post("/app", json!({"name": "lost"})).await.expect(500);
    assert_eq!(counts().await, known, "an application whose entry was refused");
});

both!(a_write_that_changes_nothing_leaves_no_entry, async |db| {
    let world = World::on(db).await;
    let cancel = format!("/background-task/{}/cancel", world.task);
    world.api.post(&cancel, json!({})).await.expect(200);
    world
        .api
        .patch("/app/a/endpoint/e", json!({"disabled": true}))
        .await
        .expect(200);
    let known = world.entries().await;
    world.api.post(&cancel, json!({})).await.expect(200);
    let same = json!({"name": "other", "uid": "a"});
    world.api.post("/app?get_if_exists=true", same).await.expect(200);
    let resend = format!("/app/a/msg/{}/endpoint/e/resend", world.message);
    world.api.post(&resend, json!({})).await.expect(202);
    assert_eq!(world.since(&known).await, Vec::<Value>::new());
});

both!(an_application_that_is_brought_along_has_an_entry, async |db| {
    let world = World::on(db).await;
    let known = world.entries().await;
    let message = json!({"eventType": "t", "payload": {}, "application": {"name": "new", "uid": "new"}});
    for _ in 0..2 {
        world.api.post("/app/new/msg", message.clone()).await.expect(202);
    }
    let made = world.since(&known).await;
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(made[0]["operation"], "v1.message.create");
    assert_eq!(made[0]["object"]["kind"], "application");
    let expected = json!({"uid": "new", "name": "new", "throttleRate": null, "metadata": {}});
    assert_eq!((&made[0]["before"], &made[0]["after"]), (&json!(null), &expected));
    let access = json!({"application": {"name": "more", "uid": "more"}});
    world.api.post("/auth/app-portal-access/more", access).await.expect(200);
    let made = world.since(&known).await;
    let kinds: Vec<_> = made.iter().map(|entry| entry["object"]["kind"].clone()).collect();
    assert_eq!(kinds, ["token", "application", "application"], "newest first");
});

both!(
    an_endpoint_that_the_server_disables_has_an_entry_by_system,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        receiver.answer(harness::Answer::status(410));
        let app = api.post("/app", json!({"name": "a", "uid": "a"})).await.field("id");
        api.post("/app/a/endpoint", json!({"url": receiver.url(), "uid": "e"}))
            .await
            .expect(201);
        api.post("/app/a/msg", json!({"eventType": "t", "payload": {}}))
            .await
            .expect(202);
        api.rig.drain().await;
        let endpoint = api.get("/app/a/endpoint/e").await;
        assert_eq!(endpoint.expect(200)["disabled"], true);
        let found = api.walk("/audit?actor=system", 250).await;
        assert_eq!(found.len(), 1, "{found:?}");
        let entry = &found[0];
        assert_eq!(entry["operation"], "system.endpoint.disable");
        assert_eq!(entry["actor"], json!({"kind": "system", "id": "system", "name": null}));
        assert_eq!(entry["object"], json!({"kind": "endpoint", "id": endpoint.field("id")}));
        assert_eq!((&entry["appId"], &entry["requestId"]), (&json!(app), &json!(null)));
        assert_eq!(entry["before"], json!({"disabled": false}));
        assert_eq!(entry["after"]["disabledReason"], "gone");
    }
);
