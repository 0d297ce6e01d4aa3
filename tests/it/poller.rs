//! Pollers as a resource: created, read, replaced, changed and deleted, with their secrets and tokens.

use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{DEADLINE, TestDatabase, within};

/// Creates the application `a` with the event types `t` and `u`, and the poller `p`. Returns the poller.
async fn one(db: &TestDatabase) -> (Api, Value) {
    let api = Api::on(db).await;
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    for name in ["t", "u"] {
        let event_type = json!({"name": name, "description": ""});
        api.post("/event-type", event_type).await.expect(201);
    }
    let made = api.post("/app/a/poller", json!({"uid": "p"})).await.expect(201).clone();
    (api, made)
}

both!(a_poller_is_created_read_listed_and_deleted, async |db| {
    let (api, first) = one(db).await;
    let fields = json!({
        "uid": "q", "description": "the warehouse", "disabled": true, "eventTypes": ["t", "u", "t"], "channels": ["c"],
    });
    let second = api.post("/app/a/poller", fields).await.expect(201).clone();
    assert!(second["id"].as_str().unwrap().starts_with("poll_"), "{second}");
    let mut expected = json!({
        "id": second["id"], "uid": "q", "description": "the warehouse", "disabled": true, "eventTypes": ["t", "u"],
        "filterTypes": ["t", "u"], "channels": ["c"], "createdAt": second["createdAt"], "updatedAt": second["createdAt"],
    });
    assert_eq!(second, expected);
    for name in ["q", second["id"].as_str().unwrap()] {
        let read = api.get(&format!("/app/a/poller/{name}/settings")).await;
        assert_eq!(read.expect(200), &second);
    }
    expected = json!({
        "id": first["id"], "uid": "p", "description": "", "disabled": false, "eventTypes": null, "filterTypes": null,
        "channels": null, "createdAt": first["createdAt"], "updatedAt": first["createdAt"],
    });
    assert_eq!(first, expected);
    assert_eq!(api.walk("/app/a/poller", 1).await, [second.clone(), first.clone()]);
    let ascending = api.walk("/app/a/poller?order=ascending", 250).await;
    assert_eq!(ascending, [first, second]);
    api.delete("/app/a/poller/p").await.expect(204);
    api.get("/app/a/poller/p/settings").await.refused(404, "not_found");
    api.get("/app/a/poller/p").await.refused(404, "not_found");
    api.delete("/app/a/poller/p").await.refused(404, "not_found");
    api.post("/app/a/poller", json!({"uid": "p"})).await.expect(201);
    api.delete("/app/a").await.expect(204);
    assert_eq!(api.rig.count("poller").await, 0, "they go with their application");
});

both!(put_replaces_a_poller_or_creates_one_and_keeps_its_secret, async |db| {
    let (api, first) = one(db).await;
    let key = api.get("/app/a/poller/p/secret").await.field("key");
    let content = json!({"uid": "p", "description": "d", "filterTypes": ["t"]});
    let put = api.put("/app/a/poller/p", content).await;
    assert_eq!(put.expect(200)["id"], first["id"]);
    assert_eq!(put.json["eventTypes"], json!(["t"]));
    let put = api.put("/app/a/poller/p", json!({})).await;
    let fields = ["uid", "eventTypes"].map(|name| put.expect(200)[name].clone());
    assert_eq!(
        fields,
        [Value::Null, Value::Null],
        "what is left out returns to its default"
    );
    let id = first["id"].as_str().unwrap();
    assert_eq!(api.get(&format!("/app/a/poller/{id}/secret")).await.field("key"), key);
    let new = api.put("/app/a/poller/new", json!({"uid": "new"})).await;
    assert_eq!(new.expect(201)["uid"], "new");
});

both!(patch_changes_the_given_fields_of_a_poller, async |db| {
    let (api, first) = one(db).await;
    let change = json!({"eventTypes": ["u"], "channels": ["c", "d"], "disabled": true, "description": "d"});
    let changed = api.patch("/app/a/poller/p", change).await;
    let mut expected = first.clone();
    expected["eventTypes"] = json!(["u"]);
    expected["filterTypes"] = json!(["u"]);
    expected["channels"] = json!(["c", "d"]);
    expected["disabled"] = json!(true);
    expected["description"] = json!("d");
    expected["updatedAt"] = changed.expect(200)["updatedAt"].clone();
    assert_eq!(changed.json, expected);
    let cleared = json!({"eventTypes": null, "channels": null, "uid": null});
    let cleared = api.patch("/app/a/poller/p", cleared).await;
    for name in ["eventTypes", "channels", "uid"] {
        assert_eq!(cleared.expect(200)[name], Value::Null);
    }
});

both!(a_poller_that_breaks_a_rule_is_refused_with_the_field, async |db| {
    let (api, _) = one(db).await;
    for (body, place) in [
        (json!({"uid": "poll_x"}), "body.uid"),
        (json!({"uid": "ä"}), "body.uid"),
        (json!({"description": "\u{0}"}), "body.description"),
        (json!({"eventTypes": []}), "body.eventTypes"),
        (json!({"eventTypes": ["none"]}), "body.eventTypes"),
        (json!({"filterTypes": ["none"]}), "body.filterTypes"),
        (json!({"channels": []}), "body.channels"),
    ] {
        api.post("/app/a/poller", body.clone()).await.breaks_rule_at(place);
        api.put("/app/a/poller/p", body.clone()).await.breaks_rule_at(place);
        api.patch("/app/a/poller/p", body).await.breaks_rule_at(place);
    }
    api.post("/app/a/poller", json!({"uid": "p"}))
        .await
        .refused(409, "conflict");
    for _ in 1..20 {
        api.post("/app/a/poller", json!({})).await.expect(201);
    }
    let more = api.post("/app/a/poller", json!({})).await;
    more.is_over_limit("an application has at most 20 pollers; delete one first");
    api.put("/app/a/poller/more", json!({}))
        .await
        .is_over_limit("an application has at most 20 pollers; delete one first");
});

both!(a_poller_s_secret_is_shown_and_replaced, async |db| {
    let (api, _) = one(db).await;
    let first = api.get("/app/a/poller/p/secret").await.field("key");
    assert!(first.starts_with("whsec_"), "{first}");
    let rotated = api.post("/app/a/poller/p/secret/rotate", json!({})).await;
    let second = rotated.expect(200)["key"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(api.get("/app/a/poller/p/secret").await.field("key"), second);
    let given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let rotated = api.post("/app/a/poller/p/secret/rotate", json!({ "key": given })).await;
    assert_eq!(rotated.expect(200)["key"], given);
});

both!(
    a_token_of_a_poller_reads_that_poller_alone_until_it_is_revoked,
    async |db| {
        let (api, _) = one(db).await;
        api.post("/app/a/poller", json!({"uid": "q"})).await.expect(201);
        let made = api.post("/app/a/poller/p/token", json!({"name": "warehouse"})).await;
        let (id, token) = (made.field("id"), made.field("token"));
        let listed = api.get("/app/a/poller/p/token").await;
        let mut row = made.expect(201).clone();
        row.as_object_mut().unwrap().remove("token");
        assert_eq!(listed.expect(200)["data"], json!([row]));
        assert_eq!(api.get("/app/a/poller/q/token").await.expect(200)["data"], json!([]));
        let as_reader = async |method: &str, path: &str, body: &str| api.call(&token, method, path, &[], body).await;
        as_reader("GET", "/app/a/poller/p", "").await.expect(200);
        as_reader("GET", "/app/a/poller/p/consumer/c", "").await.expect(200);
        let seek = json!({"after": "2026-01-01T00:00:00Z"}).to_string();
        as_reader("POST", "/app/a/poller/p/consumer/c/seek", &seek)
            .await
            .expect(200);
        for path in ["/app/a/poller/q", "/app/a/poller/q/consumer/c"] {
            as_reader("GET", path, "").await.refused(404, "not_found");
        }
        for (method, path) in [
            ("GET", "/app/a"),
            ("GET", "/app/a/poller"),
            ("GET", "/app/a/poller/p/settings"),
            ("GET", "/app/a/poller/p/secret"),
            ("GET", "/app/a/poller/p/token"),
            ("GET", "/app/a/msg"),
            ("GET", "/auth/whoami"),
            ("POST", "/app/a/poller"),
            ("DELETE", "/app/a/poller/p"),
            ("POST", "/app/a/msg"),
        ] {
            as_reader(method, path, "{}").await.refused(403, "insufficient access");
        }
        let path = format!("/app/a/poller/p/token/{id}");
        api.delete(&path.replace("/p/", "/q/")).await.refused(404, "not_found");
        api.delete(&path).await.expect(204);
        as_reader("GET", "/app/a/poller/p", "")
            .await
            .refused(401, "authentication_failed");
        api.delete(&path).await.refused(404, "not_found");
        let ended = json!({"name": "old", "expiresAt": "2020-01-01T00:00:00Z"});
        api.post("/app/a/poller/p/token", ended)
            .await
            .breaks_rule_at("body.expiresAt");
    }
);

both!(a_deleted_poller_takes_its_tokens_and_consumers_with_it, async |db| {
    let (api, _) = one(db).await;
    let token = api
        .post("/app/a/poller/p/token", json!({"name": "n"}))
        .await
        .field("token");
    api.get("/app/a/poller/p/consumer/c").await.expect(200);
    api.delete("/app/a/poller/p").await.expect(204);
    assert_eq!(api.rig.count("poller_consumer").await, 0);
    assert_eq!(
        api.rig
            .count("api_token where poller_id is not null and revoked_at is null")
            .await,
        0
    );
    api.call(&token, "GET", "/app/a/poller/p", &[], "")
        .await
        .refused(401, "authentication_failed");
});

both!(an_older_program_does_not_find_the_token_of_a_poller, async |db| {
    let (api, _) = one(db).await;
    api.post("/app/a/poller/p/token", json!({"name": "n"}))
        .await
        .expect(201);
    let known = "api_token where poller_id is not null and hash like 'poller:%'";
    assert_eq!(
        api.rig.count(known).await,
        1,
        "older programs look for the plain hash, or `limited:`"
    );
});

postgres_only!(
    an_application_stays_polled_if_its_first_poller_goes_while_another_is_created,
    async |db| {
        let (api, _) = one(db).await;
        let app = api.get("/app/a").await.field("id");
        let end_one = [
            ("DELETE", json!({})),
            ("PATCH", json!({"disabled": true})),
            ("PUT", json!({"uid": "p", "disabled": true})),
        ];
        for (number, (method, body)) in end_one.into_iter().enumerate() {
            let connection = db.connect().await;
            let creation = connection.begin().await.expect("a transaction");
            let name = format!("q{number}");
            // What the creation of a poller writes.
            for sql in [
                format!("select from application where id = '{app}' for no key update"),
                format!(
                    "insert into poller (app_id, id, number, uid, description, disabled, secrets, created_at, updated_at) \
                     values ('{app}', 'poll_{number}', {number}, '{name}', '', false, '[]', 0, 0)"
                ),
                format!("update application set polled = true where id = '{app}'"),
            ] {
                creation.execute_unprepared(&sql).await.expect(&sql);
            }
            let path = "/app/a/poller/p";
            let body = body.to_string();
            let (answer, ()) = tokio::join!(api.call(&api.token, method, path, &[], &body), async {
                let waits = "pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
                within(DEADLINE, "the other write waits", async || {
                    (api.rig.count(waits).await > 0).then_some(())
                })
                .await;
                creation.commit().await.expect("a commit");
            });
            assert!(
                [200, 204].contains(&answer.status.as_u16()),
                "{method}: {}",
                answer.json
            );
            let polled = api.rig.count("application where polled").await;
            assert_eq!(polled, 1, "{method}: the new poller takes messages");
            api.rig
                .sql(&format!("delete from poller where id = 'poll_{number}'"), [])
                .await;
            let again = api.put(path, json!({"uid": "p"})).await;
            assert!([200, 201].contains(&again.status.as_u16()), "{}", again.json);
        }
    }
);
