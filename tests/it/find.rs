//! `GET /find`: things of an organization are found by an id, a uid, an event id, a name or a tag, whatever their
//! application.

use postrider::domain::id::Prefix;
use serde_json::{Value, json};

use crate::api::{ADMIN, Api};
use crate::harness::{Receiver, TestDatabase};

/// An organization with the application `shop`, which has the endpoint `main` and the message `order-1` with the tag
/// `gift wrap`, tried once; and the ids of these.
struct World {
    api: Api,
    app: String,
    endpoint: String,
    message: String,
    attempt: String,
    _receiver: Receiver,
}

impl World {
    async fn on(db: &TestDatabase) -> Self {
        let (mut api, receiver) = (Api::on(db).await, Receiver::start().await);
        let app = api
            .post("/app", json!({"name": "Shop", "uid": "shop"}))
            .await
            .field("id");
        let endpoint = json!({"url": receiver.url(), "uid": "main"});
        let endpoint = api.post("/app/shop/endpoint", endpoint).await.field("id");
        let message = json!({"eventType": "t", "eventId": "order-1", "payload": {}, "tags": ["gift wrap"]});
        let message = api.post("/app/shop/msg", message).await.field("id");
        api.rig.drain().await;
        let attempts = api.get("/app/shop/attempt/msg/order-1").await;
        let attempt = attempts.expect(200)["data"][0]["id"].as_str().unwrap().to_owned();
        Self {
            api,
            app,
            endpoint,
            message,
            attempt,
            _receiver: receiver,
        }
    }

    /// Makes `count` further applications, the first of them older than all others.
    async fn grow(&self, count: usize) {
        let sql = format!(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < {count}) \
             insert into application (id, org_id, name, metadata, created_at, updated_at) \
             select case when i = 1 then 'app_0' else 'app_z' || i end, $1, 'more', '{{}}', 1, 1 from n"
        );
        self.api.rig.sql(&sql, [self.api.org_id.as_str().into()]).await;
    }
}

/// Searches, and returns what is found and whether there may be more.
async fn search(api: &Api, text: &str) -> (Value, bool) {
    let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let answer = api.get(&format!("/find?q={text}")).await;
    let body = answer.expect(200);
    (body["data"].clone(), body["truncated"].as_bool().unwrap())
}

both!(each_kind_is_found_by_each_of_its_names, async |db| {
    let world = World::on(db).await;
    let api = &world.api;
    let window = json!({"since": "2026-01-01T00:00:00Z"});
    let task = api.post("/app/shop/endpoint/main/recover", window).await.field("id");
    api.post("/event-type", json!({"name": "order.paid", "description": ""}))
        .await
        .expect(201);
    let poller = api.post("/app/shop/poller", json!({"uid": "desk"})).await.field("id");
    let (app, endpoint, message) = (&world.app, &world.endpoint, &world.message);
    let of_app = |kind: &str, id: &str, matched: &str| json!({"kind": kind, "id": id, "appId": app, "appUid": "shop", "matched": matched});
    let with = |mut thing: Value, name: &str, value: &str| {
        thing[name] = json!(value);
        thing
    };
    let attempt = with(of_app("attempt", &world.attempt, "id"), "msgId", message);
    for (text, expected) in [
        (app.as_str(), with(of_app("application", app, "id"), "uid", "shop")),
        ("shop", with(of_app("application", app, "uid"), "uid", "shop")),
        (endpoint, with(of_app("endpoint", endpoint, "id"), "uid", "main")),
        ("main", with(of_app("endpoint", endpoint, "uid"), "uid", "main")),
        (&poller, with(of_app("poller", &poller, "id"), "uid", "desk")),
        ("desk", with(of_app("poller", &poller, "uid"), "uid", "desk")),
        (message, of_app("message", message, "id")),
        ("order-1", of_app("message", message, "eventId")),
        ("gift wrap", of_app("message", message, "tag")),
        (" gift wrap\n", of_app("message", message, "tag")),
        (&world.attempt, with(attempt, "endpointId", endpoint)),
        (&task, with(of_app("task", &task, "id"), "endpointId", endpoint)),
        (
            "order.paid",
            json!({"kind": "eventType", "id": "order.paid", "matched": "id"}),
        ),
    ] {
        assert_eq!(search(api, text).await, (json!([expected]), false), "{text}");
    }
    for text in [
        "nothing",
        "app_none",
        "ep_none",
        "poll_none",
        "msg_none",
        "atmpt_none",
        "qtask_none",
        "evtype_x",
        "🎁",
    ] {
        assert_eq!(search(api, text).await, (json!([]), false), "{text}");
    }
});

both!(an_operational_endpoint_is_found_without_an_application, async |db| {
    let world = World::on(db).await;
    let endpoint = json!({"url": "http://127.0.0.1:1/", "uid": "ops"});
    let id = world
        .api
        .post("/operational-webhook/endpoint", endpoint)
        .await
        .field("id");
    for (text, matched) in [(id.as_str(), "id"), ("ops", "uid")] {
        let expected = json!([{"kind": "endpoint", "id": id, "uid": "ops", "matched": matched}]);
        assert_eq!(search(&world.api, text).await, (expected, false));
    }
});

both!(a_text_that_names_several_things_finds_all_of_them, async |db| {
    let world = World::on(db).await;
    let api = &world.api;
    for app in ["main", "other"] {
        api.post("/app", json!({"name": app, "uid": app})).await.expect(201);
        let message = json!({"eventType": "t", "eventId": "main", "payload": {}, "tags": ["main"]});
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
    }
    let (found, truncated) = search(api, "main").await;
    let found: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            format!("{} of {} by {}", text("kind"), text("appUid"), text("matched"))
        })
        .collect();
    assert_eq!(
        found,
        [
            "application of main by uid",
            "endpoint of shop by uid",
            "message of other by eventId",
            "message of main by eventId",
            "message of other by tag",
            "message of main by tag",
        ]
    );
    assert!(!truncated);
});

both!(an_event_id_finds_every_message_that_has_had_it, async |db| {
    let world = World::on(db).await;
    let mut ids = vec![world.message.clone()];
    for _ in 0..2 {
        world.api.rig.advance(8 * 86_400);
        let message = json!({"eventType": "t", "eventId": "order-1", "payload": {}});
        ids.insert(0, world.api.post("/app/shop/msg", message).await.field("id"));
    }
    let (found, truncated) = search(&world.api, "order-1").await;
    let found: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap())
        .collect();
    assert_eq!((found, truncated), (ids.iter().map(String::as_str).collect(), false));
});

both!(
    another_organization_and_a_deleted_application_have_nothing_to_find,
    async |db| {
        let world = World::on(db).await;
        let stranger = world.api.stranger().await;
        let texts = [
            &*world.app,
            "shop",
            &world.endpoint,
            "main",
            &world.message,
            "order-1",
            "gift+wrap",
            &world.attempt,
        ];
        for text in texts {
            let answer = world
                .api
                .call(&stranger, "GET", &format!("/find?q={text}"), &[], "")
                .await;
            assert_eq!(answer.expect(200), &json!({"data": [], "truncated": false}), "{text}");
        }
        world.api.delete("/app/shop").await.expect(204);
        for text in texts {
            let answer = world.api.get(&format!("/find?q={text}")).await;
            assert_eq!(answer.expect(200), &json!({"data": [], "truncated": false}), "{text}");
        }
    }
);

both!(an_application_s_token_finds_nothing, async |db| {
    let world = World::on(db).await;
    let token = world.api.token_of(&world.app).await;
    let find = async |token: &str| world.api.call(token, "GET", "/find?q=shop", &[], "").await;
    find(&token).await.refused(403, "insufficient access");
    find("none").await.refused(401, "authentication_failed");
    assert_eq!(find(ADMIN).await.expect(200)["data"][0]["uid"], "shop");
});

both!(a_search_that_could_not_look_everywhere_says_so, async |db| {
    let world = World::on(db).await;
    world.grow(899).await;
    for text in [&*world.endpoint, "main", &world.message, "gift wrap", &world.attempt] {
        assert_eq!(search(&world.api, text).await.0.as_array().unwrap().len(), 1, "{text}");
        assert!(!search(&world.api, text).await.1, "{text}");
    }
    // The application of all these is the oldest but one, and no longer among the newest thousand.
    let newer = "insert into application (id, org_id, name, metadata, created_at, updated_at) \
                 select 'app_zz' || id, org_id, name, metadata, created_at, updated_at from application \
                 where id like 'app_z1%'";
    world.api.rig.sql(newer, []).await;
    for text in [
        &*world.endpoint,
        "main",
        &world.message,
        "order-1",
        "gift wrap",
        &world.attempt,
        "nothing",
    ] {
        assert_eq!(search(&world.api, text).await, (json!([]), true), "{text}");
    }
    for text in [&*world.app, "shop"] {
        assert_eq!(search(&world.api, text).await.0[0]["kind"], "application", "{text}");
    }
});

both!(each_way_of_searching_returns_at_most_50_things, async |db| {
    let world = World::on(db).await;
    for (table, columns) in [
        (
            "message_tag (app_id, message_id, tag)",
            "app_id, 'msg_' || i, 'gift wrap'",
        ),
        (
            "endpoint (app_id, id, uid, url, description, disabled, metadata, headers, secrets, created_at, updated_at)",
            "'app_z' || (i + 1), 'ep_' || i, 'main', '', '', true, '{}', '{}', '[]', 1, 1",
        ),
    ] {
        let sql = format!(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 60) \
             insert into {table} select {columns} from n, message"
        );
        world.api.rig.sql(&sql, []).await;
    }
    world.grow(62).await;
    for text in ["main", "gift wrap"] {
        let (found, truncated) = search(&world.api, text).await;
        assert_eq!((found.as_array().unwrap().len(), truncated), (50, true), "{text}");
    }
});

both!(an_attempt_at_an_endpoint_that_was_deleted_is_found, async |db| {
    let world = World::on(db).await;
    world.api.delete("/app/shop/endpoint/main").await.expect(204);
    assert_eq!(search(&world.api, &world.attempt).await.0[0]["msgId"], world.message);
    assert_eq!(search(&world.api, &world.endpoint).await, (json!([]), false));
});

both!(a_text_has_1_to_256_characters, async |db| {
    let api = Api::on(db).await;
    let longest = format!("{}_{}", Prefix::Message.as_str(), "x".repeat(252));
    assert_eq!(search(&api, &longest).await, (json!([]), false));
    assert_eq!(search(&api, &"ä".repeat(256)).await, (json!([]), false));
    api.get("/find").await.refused(400, "generic_error");
    for text in ["", "%20", "a%00b", "a%0Ab", &"x".repeat(257)] {
        api.get(&format!("/find?q={text}")).await.breaks_rule_at("query.q");
    }
});
