//! The audit log as a reader sees it: what an entry says, filters, paging, who may read it, what the command line
//! leaves, its cap and its retention.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{KEY, Program, TestDatabase, rows};

const DAY: u64 = 86_400;

async fn with_application(db: &TestDatabase) -> Api {
    let api = Api::on(db).await;
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    api
}

/// Returns the entries that a query finds.
async fn found(api: &Api, query: &str) -> Vec<Value> {
    let page = api.get(&format!("/audit?limit=250{query}")).await;
    page.expect(200)["data"].as_array().unwrap().clone()
}

fn operations(entries: &[Value]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| entry["operation"].as_str().unwrap())
        .collect()
}

both!(get_audit_shows_who_has_changed_what, async |db| {
    let api = with_application(db).await;
    let made = json!({"name": "deploy", "role": "admin"});
    let made = api.post("/token", made).await;
    let (id, token) = (made.field("id"), made.field("token"));
    api.rig.advance(1);
    let body = json!({"name": "b", "metadata": {"plan": "x"}}).to_string();
    let headers = [("x-request-id", "of-my-proxy")];
    let changed = api.call(&token, "PATCH", "/app/a", &headers, &body).await;
    let app = changed.expect(200)["id"].clone();
    let expected = json!({
        "timestamp": "2026-01-01T00:00:01.000000Z",
        "actor": {"kind": "token", "id": id, "name": "deploy"},
        "operation": "v1.application.patch",
        "appId": app,
        "object": {"kind": "application", "id": app},
        "before": {"name": "a", "metadata": {}},
        "after": {"name": "b", "metadata": {"plan": "x"}},
        "requestId": "of-my-proxy",
    });
    let mut entry = found(&api, "").await.swap_remove(0);
    let own = entry.as_object_mut().unwrap().remove("id").unwrap();
    assert!(own.as_str().unwrap().starts_with("audit_"));
    assert_eq!(entry, expected);
});

both!(a_large_value_is_cut_with_a_mark, async |db| {
    let api = with_application(db).await;
    let schema = json!({"description": "d".repeat(100_000)});
    let body = json!({"description": "small", "schemas": {"1": schema}});
    api.put("/event-type/t", body).await.expect(201);
    let entry = &found(&api, "&object=t").await[0];
    assert_eq!(entry["after"]["schemas"]["cut"], true, "{entry}");
    assert!(entry["after"]["schemas"]["bytes"].as_u64() > Some(100_000));
    assert_eq!(entry["after"]["description"], "small");
});

both!(get_audit_filters_by_actor_operation_object_and_time, async |db| {
    let api = with_application(db).await;
    api.rig.advance(10);
    let other = api.post("/token", json!({"name": "n", "role": "admin"})).await;
    api.rig.advance(10);
    let token = other.field("token");
    let put = api
        .call(&token, "PUT", "/event-type/t", &[], r#"{"description": ""}"#)
        .await;
    put.expect(201);
    let app = api.get("/app/a").await.field("id");
    for (query, expected) in [
        (format!("&actor={}", other.field("id")), vec!["v1.event-type.update"]),
        ("&operation=v1.token.create".to_owned(), vec!["v1.token.create"]),
        (format!("&object={app}"), vec!["v1.application.create"]),
        ("&object=t".to_owned(), vec!["v1.event-type.update"]),
        (format!("&object={app}&operation=v1.token.create"), vec![]),
        ("&actor=unknown".to_owned(), vec![]),
        (
            "&after=2026-01-01T00:00:05Z".to_owned(),
            vec!["v1.event-type.update", "v1.token.create"],
        ),
        (
            "&after=2026-01-01T00:00:05Z&before=2026-01-01T00:00:15Z".to_owned(),
            vec!["v1.token.create"],
        ),
        (
            "&operation=v1.application.create&before=2026-01-01T00:00:15Z".to_owned(),
            vec!["v1.application.create"],
        ),
    ] {
        assert_eq!(operations(&found(&api, &query).await), expected, "{query}");
    }
    let by_hand = found(&api, "&actor=cli").await;
    assert_eq!(
        operations(&by_hand),
        ["cli.test", "cli.test"],
        "the organization and its token"
    );
    for parameter in ["actor", "operation", "object"] {
        let refused = api.get(&format!("/audit?{parameter}=a%20b")).await;
        refused.breaks_rule_at(&format!("query.{parameter}"));
    }
});

both!(get_audit_is_read_in_pages_in_both_directions, async |db| {
    let api = with_application(db).await;
    for number in 0..10 {
        let body = json!({"name": format!("n{number}")});
        api.patch("/app/a", body).await.expect(200);
    }
    let all = api.walk("/audit", 250).await;
    assert_eq!(api.walk("/audit", 3).await, all);
    let ids: Vec<_> = all.iter().map(|entry| entry["id"].to_string()).collect();
    assert!(ids.is_sorted_by(|a, b| a > b), "newest first: {ids:?}");
    let page = api.get("/audit?limit=3").await;
    let next = page.field("iterator");
    let second = api.get(&format!("/audit?limit=3&iterator={next}")).await;
    let back = second.field("prevIterator");
    let first = api.get(&format!("/audit?limit=3&iterator={back}")).await;
    assert_eq!(first.json["data"], page.json["data"]);
});

both!(
    get_audit_is_for_admins_and_shows_the_own_organization_alone,
    async |db| {
        let api = with_application(db).await;
        let stranger = api.stranger().await;
        let theirs = api.call(&stranger, "GET", "/audit", &[], "").await;
        let theirs = theirs.expect(200)["data"].as_array().unwrap().clone();
        assert_eq!(
            operations(&theirs),
            ["cli.test", "cli.test"],
            "its own organization and token"
        );
        let app = api.get("/app/a").await.field("id");
        let foreign = api
            .call(&stranger, "GET", &format!("/audit?object={app}"), &[], "")
            .await;
        assert_eq!(foreign.expect(200)["data"], json!([]));
        for role in ["operator", "viewer", "sender"] {
            let made = api.post("/token", json!({"name": "n", "role": role})).await;
            let answer = api.call(&made.field("token"), "GET", "/audit", &[], "").await;
            answer.refused(403, "insufficient access");
        }
        let portal = api.token_of("a").await;
        let answer = api.call(&portal, "GET", "/audit", &[], "").await;
        answer.refused(403, "insufficient access");
    }
);

both!(
    an_application_that_writes_in_a_loop_has_a_thousand_entries_a_day,
    async |db| {
        let api = with_application(db).await;
        let app = api.get("/app/a").await.field("id");
        let other = api.application("other").await;
        let portal = api.token_of("a").await;
        api.post("/app/a/endpoint", json!({"url": "http://127.0.0.1:9/", "uid": "e"}))
            .await
            .expect(201);
        // Of yesterday and of another application: these do not count.
        for (id, app, count) in [("01", &app, 500), ("05", &other, 500), ("05", &app, 997)] {
            let sql = "with recursive n(i) as (select 1 union all select i + 1 from n where i < $4) \
                   insert into audit (id, org_id, app_id, created_at, actor_kind, actor_id, operation, object_kind, \
                   object_id) select 'audit_' || $2 || $1 || (1000 + i), $3, $1, 0, 'portal', 'tok', 'o', 'endpoint', \
                   'ep' from n";
            let values = [app.as_str().into(), id.into(), api.org_id.as_str().into(), count.into()];
            api.rig.sql(sql, values).await;
        }
        let of_today = "update audit set id = replace(id, 'audit_05', $1) where id like 'audit_05%'";
        let begin = postrider::domain::id::Prefix::AuditEntry.first_id_at(crate::harness::START);
        api.rig.sql(of_today, [begin.as_str().into()]).await;
        let patch = async |token: &str| {
            let body = r#"{"description": "d"}"#;
            let done = api.call(token, "PATCH", "/app/a/endpoint/e", &[], body).await;
            done.expect(200);
        };
        for _ in 0..3 {
            patch(&portal).await;
        }
        let further = "operation = 'system.audit.further'";
        let own = format!("audit where app_id = '{app}' and operation = 'v1.endpoint.patch'");
        assert_eq!(api.rig.count(&own).await, 3);
        assert_eq!(api.rig.count(&format!("audit where {further}")).await, 0);
        for _ in 0..4 {
            patch(&portal).await;
        }
        assert_eq!(api.rig.count(&own).await, 3, "a thousand are enough");
        let counted = found(&api, "&operation=system.audit.further").await;
        assert_eq!(counted.len(), 1, "{counted:?}");
        assert_eq!(counted[0]["after"], json!({"furtherWrites": 4}));
        assert_eq!(counted[0]["object"], json!({"kind": "application", "id": app}));
        assert_eq!(counted[0]["timestamp"], "2026-01-01T00:00:00.000000Z", "the day");
        patch(&api.token).await;
        assert_eq!(
            api.rig.count(&own).await,
            4,
            "the organization's own writes all have entries"
        );
        api.rig.advance(DAY);
        patch(&portal).await;
        assert_eq!(api.rig.count(&own).await, 5, "a new day");
    }
);

both!(entries_are_removed_after_their_retention, async |db| {
    let mut api = with_application(db).await;
    api.rig.advance(1);
    api.patch("/app/a", json!({"name": "b"})).await.expect(200);
    api.rig.advance(400 * DAY - 1);
    api.rig.prune().await;
    assert_eq!(api.rig.count("audit").await, 4, "organization, token, two writes");
    api.rig.advance(1);
    api.rig.prune().await;
    assert_eq!(operations(&found(&api, "").await), ["v1.application.patch"]);
    api.rig.advance(1);
    api.rig.prune().await;
    assert_eq!(api.rig.count("audit").await, 0);
});

/// Returns operation, kind of actor, kind of object and organization of each entry, oldest first.
async fn stored(db: &TestDatabase) -> Vec<[String; 4]> {
    let connection = db.connect().await;
    let sql = "select operation, actor_kind, object_kind, name from audit join organization o on o.id = org_id order by audit.id";
    let text = |row: &sea_orm::QueryResult| {
        ["operation", "actor_kind", "object_kind", "name"].map(|column| row.try_get("", column).expect("a text"))
    };
    let found = rows(&connection, sql).await.iter().map(text).collect();
    connection.close().await.expect("the connection closes");
    found
}

both!(writes_of_the_command_line_leave_entries, async |db| {
    let program = Program::on(db.url());
    let create = ["token", "create", "--organization", "acme", "--name", "ci"];
    let token = program.run(&create).await.ok();
    let list = program.run(&["token", "list"]).await.ok();
    let id = list
        .split_whitespace()
        .find(|word| word.starts_with("tok_"))
        .expect("an id");
    program.run(&["token", "revoke", id]).await.ok();
    program.run(&["token", "revoke", id]).await.failed(1);
    let entry = |operation: &str, kind: &str| [operation, "cli", kind, "acme"].map(str::to_owned);
    let expected = [
        entry("cli.token.create", "organization"),
        entry("cli.token.create", "token"),
        entry("cli.token.revoke", "token"),
    ];
    assert_eq!(stored(db).await, expected);
    let shown = rows(
        &db.connect().await,
        "select coalesce(before_json, '') || coalesce(after_json, '') as t from audit",
    )
    .await;
    for row in shown {
        let text: String = row.try_get("", "t").unwrap();
        assert!(!text.contains(token.trim()) && !text.contains("hash"), "{text}");
    }
});

both!(
    seeding_leaves_entries_of_what_it_makes_and_none_the_second_time,
    async |db| {
        let program = Program::on(db.url());
        program.run(&["seed"]).await.ok();
        let first = stored(db).await;
        let kinds: BTreeSet<_> = first.iter().map(|entry| entry[2].as_str()).collect();
        assert_eq!(
            kinds,
            BTreeSet::from(["application", "endpoint", "eventType", "organization", "poller"])
        );
        assert!(first.iter().all(|entry| entry[..2] == ["cli.seed", "cli"]), "{first:?}");
        program.run(&["seed"]).await.ok();
        assert_eq!(stored(db).await.len(), first.len());
    }
);

both!(
    a_rotation_of_the_encryption_key_has_an_entry_in_each_organization,
    async |db| {
        let program = Program::on(db.url());
        for organization in ["one", "two"] {
            let create = ["token", "create", "--organization", organization];
            program.run(&create).await.ok();
        }
        program.run(&["seed"]).await.ok();
        let known = stored(db).await.len();
        let keys = format!("another key for tests, of 32 characters\n{KEY}");
        let program = program.env("POSTRIDER_ENCRYPTION_KEY", &keys);
        for _ in 0..2 {
            program.run(&["rotate-key"]).await.ok();
        }
        let entries = stored(db).await;
        let made: BTreeSet<_> = entries[known..].iter().map(|entry| entry[3].as_str()).collect();
        assert_eq!(
            (made.len(), entries.len() - known),
            (4, 4),
            "one for each, once: {made:?}"
        );
        assert!(
            entries[known..]
                .iter()
                .all(|entry| entry[..3] == ["cli.rotate-key", "cli", "encryptionKey"])
        );
    }
);
