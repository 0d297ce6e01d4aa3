//! The rotation of the encryption key: everything stays readable before, during and after it. A process that lacks a
//! key that is needed refuses to start or to seal. A rotation that was interrupted goes on when it is run again.

use std::collections::BTreeMap;

use postrider::api::ApiState;
use postrider::clock::Clock;
use postrider::domain::secret::Encryptor;
use postrider::service::key_rotation::{Rotated, rotate};
use postrider::store::installation::begin_key_rotation;
use postrider::store::queue::process::insert_process;
use sea_orm::DatabaseConnection;
use serde_json::{Value, json};

use crate::api::{Api, BY_HAND};
use crate::harness::{Caller, DEADLINE, KEY, Program, Receiver, SECRET, START, Shape, TestDatabase, rows, within};

const NEW: &str = "another key of more than 32 characters";
const BOTH: &str = "another key of more than 32 characters\na key for tests of 32 characters";
const WRONG: &str = "is not the key that this database was written with";

fn key(text: &str) -> Encryptor {
    Encryptor::new(text).unwrap()
}

async fn holding(db: &TestDatabase, keys: &'static [&'static str]) -> Api {
    let shape = Shape {
        keys,
        ..Shape::default()
    };
    Api::shaped(db, shape, ApiState::BODY_DEADLINE).await
}

async fn texts(db: &DatabaseConnection, sql: &str) -> Vec<String> {
    let found = rows(db, sql).await;
    found.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// Returns each sealed text of the database with the context that it was sealed with.
async fn sealed(db: &DatabaseConnection) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for row in rows(db, "select id, secrets, headers from endpoint").await {
        let text = |name| row.try_get::<String>("", name).unwrap();
        let secrets: Vec<Value> = serde_json::from_str(&text("secrets")).unwrap();
        all.extend(
            secrets
                .iter()
                .map(|secret| (secret["sealed"].as_str().unwrap().to_owned(), text("id"))),
        );
        let headers: BTreeMap<String, String> = serde_json::from_str(&text("headers")).unwrap();
        all.extend(
            headers
                .get("sealed")
                .map(|sealed| (sealed.clone(), format!("{}/headers", text("id")))),
        );
    }
    for row in rows(db, "select scope, key, reply from idempotency where reply like 'v1:%'").await {
        let text = |name| row.try_get::<String>("", name).unwrap();
        all.push((text("reply"), format!("{}/{}", text("scope"), text("key"))));
    }
    all
}

/// Returns how many of the sealed texts this key opens, and how many there are.
async fn opened_by(db: &DatabaseConnection, text: &str) -> (usize, usize) {
    let all = sealed(db).await;
    let opened = all
        .iter()
        .filter(|(sealed, context)| key(text).open(sealed, context).is_ok());
    (opened.count(), all.len())
}

fn tally(rotated: &Rotated) -> (bool, u64, u64) {
    (rotated.changed, rotated.endpoints.resealed, rotated.replies.resealed)
}

/// Returns what a caller sees of the sealed texts: a secret, headers, and the reply to a repeated request.
async fn seen(api: &Api, app: &str) -> [String; 3] {
    let endpoint = format!("/app/{app}/endpoint/e");
    let new = json!({"url": "http://127.0.0.1:1/", "uid": "once"});
    let again = api.post_once(&format!("/app/{app}/endpoint"), "key", new).await;
    assert_eq!(again.status, 201, "{}", again.text);
    [
        api.get_text(&format!("{endpoint}/secret")).await,
        api.get_text(&format!("{endpoint}/headers")).await,
        again.text,
    ]
}

/// Creates an application with the endpoint `e`, whose secret and headers are known.
async fn prepared(api: &Api, receiver: &Receiver) -> String {
    let app = api.application("app").await;
    let new = json!({"url": receiver.url(), "uid": "e", "secret": SECRET, "headers": {"X-Own": "topsecret"}});
    api.post(&format!("/app/{app}/endpoint"), new).await.expect(201);
    app
}

async fn deliver(api: &mut Api, app: &str, receiver: &Receiver) {
    let body = json!({"eventType": "a", "payload": {"n": 1.10}});
    let count = receiver.count();
    api.post(&format!("/app/{app}/msg"), body).await.expect(202);
    api.rig.drain().await;
    let arrival = receiver.arrivals().pop().unwrap();
    assert_eq!(receiver.count(), count + 1);
    assert!(arrival.is_signed_with(SECRET), "the receiver's secret has not changed");
    assert_eq!(arrival.header("x-own"), Some("topsecret"));
}

both!(
    secrets_headers_and_replies_are_read_and_used_before_during_and_after_a_rotation,
    async |db| {
        let receiver = Receiver::start().await;
        let mut api = Api::on(db).await;
        let app = prepared(&api, &receiver).await;
        let before = seen(&api, &app).await;
        deliver(&mut api, &app, &receiver).await;
        let token = api.token.clone();
        api.into_rig().kill().await;

        let mut api = holding(db, &[NEW, KEY]).await;
        api.token = token.clone();
        assert_eq!(
            seen(&api, &app).await,
            before,
            "with both keys, before the rotation begins"
        );
        deliver(&mut api, &app, &receiver).await;
        let count = sealed(&api.rig.db).await.len();
        assert_eq!(
            opened_by(&api.rig.db, KEY).await,
            (count, count),
            "the former key seals"
        );

        let tx = api.rig.store.begin().await.unwrap();
        assert!(begin_key_rotation(&tx, &key(NEW), &key(KEY)).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(seen(&api, &app).await, before, "a rotation has begun");
        deliver(&mut api, &app, &receiver).await;

        let rotated = rotate(&api.rig.store, &BY_HAND).await.unwrap();
        assert_eq!(tally(&rotated), (true, 2, 1));
        assert_eq!(opened_by(&api.rig.db, NEW).await, (count, count));
        assert_eq!(seen(&api, &app).await, before, "the rotation has ended");
        deliver(&mut api, &app, &receiver).await;
        let again = rotate(&api.rig.store, &BY_HAND).await.unwrap();
        assert_eq!(tally(&again), (false, 0, 0), "there is nothing left to do");
        api.into_rig().kill().await;

        let mut api = holding(db, &[NEW]).await;
        api.token = token;
        assert_eq!(seen(&api, &app).await, before, "with the new key alone");
        deliver(&mut api, &app, &receiver).await;
    }
);

both!(
    whatever_is_written_after_the_beginning_is_sealed_with_the_new_key,
    async |db| {
        let receiver = Receiver::start().await;
        let api = holding(db, &[KEY]).await;
        let app = prepared(&api, &receiver).await;
        let token = api.token.clone();
        api.into_rig().kill().await;
        let mut api = holding(db, &[NEW, KEY]).await;
        api.token = token;
        let tx = api.rig.store.begin().await.unwrap();
        begin_key_rotation(&tx, &key(NEW), &key(KEY)).await.unwrap();
        tx.commit().await.unwrap();

        let path = format!("/app/{app}/endpoint");
        let new = json!({"url": receiver.url(), "headers": {"X-Own": "1"}});
        api.post_once(&path, "key", new).await.expect(201);
        assert_eq!(opened_by(&api.rig.db, NEW).await, (3, 5), "secret, headers and reply");
        api.put(&format!("{path}/e/headers"), json!({"headers": {"X-Own": "2"}}))
            .await
            .expect(204);
        api.post(&format!("{path}/e/secret/rotate"), json!({}))
            .await
            .expect(200);
        assert_eq!(
            opened_by(&api.rig.db, NEW).await,
            (5, 6),
            "all but the secret that was replaced"
        );
        assert_eq!(tally(&rotate(&api.rig.store, &BY_HAND).await.unwrap()), (true, 1, 0));
        assert_eq!(opened_by(&api.rig.db, NEW).await, (6, 6));
    }
);

both!(one_key_or_the_same_one_twice_is_no_rotation, async |db| {
    for keys in [KEY.to_owned(), format!("{KEY}\n{KEY}")] {
        let program = Program::on(db.url()).env("POSTRIDER_ENCRYPTION_KEY", &keys);
        let line = program.run(&["rotate-key"]).await.failed(1);
        assert!(line.contains("must hold two keys, one a line"), "{line}");
    }
    let checks = "select key_check from installation where former_key_check is null";
    assert_eq!(texts(&db.connect().await, checks).await, [key(KEY).check_value()]);
});

both!(what_neither_key_opens_stays_as_it_is_and_is_told, async |db| {
    let receiver = Receiver::start().await;
    let api = holding(db, &[KEY]).await;
    let app = prepared(&api, &receiver).await;
    let foreign = key("a key that nobody has, of 32 characters or more").seal(b"x", "row");
    let spoil = format!(r#"update endpoint set secrets = '[{{"sealed":"{foreign}"}}]'"#);
    api.rig.sql(&spoil, []).await;
    let sql = "insert into idempotency (scope, key, reply, expires_at) values ('tok_x', 'hash', $1, 0)";
    api.rig.sql(sql, [foreign.as_str().into()]).await;
    let id = texts(&api.rig.db, "select id from endpoint").await.remove(0);
    let connection = db.connect().await;
    api.into_rig().kill().await;

    let program = Program::on(db.url()).env("POSTRIDER_ENCRYPTION_KEY", BOTH);
    let line = program.run(&["rotate-key"]).await.failed(1);
    assert!(line.contains("1 endpoints and 1 idempotency replies"), "{line}");
    assert!(line.contains(&format!("{app}/{id}, tok_x/hash")), "{line}");
    assert!(texts(&connection, "select secrets from endpoint").await[0].contains(&foreign));
    assert_eq!(
        opened_by(&connection, NEW).await,
        (1, 3),
        "the endpoint's headers are re-encrypted"
    );
    let program = program.env("POSTRIDER_ENCRYPTION_KEY", NEW);
    program.run(&["seed"]).await.ok();
});

both!(a_deleted_endpoint_has_nothing_to_be_re_encrypted, async |db| {
    let api = holding(db, &[KEY]).await;
    let app = prepared(&api, &Receiver::start().await).await;
    api.delete(&format!("/app/{app}/endpoint/e")).await.expect(204);
    api.into_rig().kill().await;
    let api = holding(db, &[NEW, KEY]).await;
    let rotated = rotate(&api.rig.store, &BY_HAND).await.unwrap();
    assert_eq!(tally(&rotated), (true, 0, 0));
    assert_eq!(rotated.endpoints.unreadable, 0);
});

both!(secrets_of_pollers_are_re_encrypted_too, async |db| {
    let api = holding(db, &[KEY]).await;
    let app = api.application("app").await;
    let path = format!("/app/{app}/poller");
    api.post(&path, json!({"uid": "p"})).await.expect(201);
    let secret = api.get_text(&format!("{path}/p/secret")).await;
    let token = api.token.clone();
    api.into_rig().kill().await;
    let api = holding(db, &[NEW, KEY]).await;
    let rotated = rotate(&api.rig.store, &BY_HAND).await.unwrap();
    assert_eq!(tally(&rotated), (true, 1, 0));
    api.into_rig().kill().await;
    let mut api = holding(db, &[NEW]).await;
    api.token = token;
    assert_eq!(api.get_text(&format!("{path}/p/secret")).await, secret);
    api.get(&format!("{path}/p")).await.expect(200);
});

both!(a_killed_rotation_goes_on_when_it_is_run_again, async |db| {
    let api = holding(db, &[KEY]).await;
    let app = prepared(&api, &Receiver::start().await).await;
    let known = seen(&api, &app).await;
    let rows: Vec<String> = (0..248)
        .map(|n| {
            let sealed = api.rig.seal(&format!("ep_{n}"), SECRET);
            format!(r#"('{app}', 'ep_{n}', 'http://a.example/', '', false, '{{}}', '{{}}', '[{{"sealed":"{sealed}"}}]', 0, 0)"#)
        })
        .collect();
    let columns = "app_id, id, url, description, disabled, metadata, headers, secrets, created_at, updated_at";
    let sql = format!("insert into endpoint ({columns}) values {}", rows.join(", "));
    api.rig.sql(&sql, []).await;
    let token = api.token.clone();
    api.into_rig().kill().await;
    let connection = db.connect().await;

    let program = Program::on(db.url()).env("POSTRIDER_ENCRYPTION_KEY", BOTH);
    let crashing = program.clone().env("POSTRIDER_CRASH_POINT", "resealed_page:2");
    assert_eq!(crashing.run(&["rotate-key"]).await.code, None, "the command is killed");
    let (done, all) = opened_by(&connection, NEW).await;
    assert!((200..all).contains(&done), "two pages of {all} texts are done: {done}");
    for (keys, refusal) in [(KEY, WRONG), (NEW, "run `app rotate-key` again")] {
        let other = program.clone().env("POSTRIDER_ENCRYPTION_KEY", keys);
        let line = other.run(&["seed"]).await.failed(1);
        assert!(line.contains(refusal), "{line}");
    }
    let said = program.run(&["rotate-key"]).await.ok();
    assert!(
        said.starts_with("re-encrypted 50 endpoints and 1 idempotency replies"),
        "{said}"
    );
    assert_eq!(opened_by(&connection, NEW).await, (all, all));
    let said = program.run(&["rotate-key"]).await.ok();
    assert!(said.starts_with("nothing to do"), "{said}");

    let line = program
        .clone()
        .env("POSTRIDER_ENCRYPTION_KEY", KEY)
        .run(&["seed"])
        .await;
    assert!(line.failed(1).contains(WRONG));
    let mut api = holding(db, &[NEW]).await;
    api.token = token;
    assert_eq!(seen(&api, &app).await, known);
});

both!(
    a_process_with_the_new_key_alone_is_refused_before_a_rotation_too,
    async |db| {
        let api = holding(db, &[KEY]).await;
        api.into_rig().kill().await;
        let program = Program::on(db.url());
        let line = program
            .clone()
            .env("POSTRIDER_ENCRYPTION_KEY", NEW)
            .run(&["seed"])
            .await;
        assert!(line.failed(1).contains(WRONG));
        program.env("POSTRIDER_ENCRYPTION_KEY", BOTH).run(&["seed"]).await.ok();
        let checks = "select key_check from installation where former_key_check is null";
        assert_eq!(texts(&db.connect().await, checks).await, [key(KEY).check_value()]);
    }
);

postgres_only!(
    a_process_without_the_new_key_refuses_to_seal_and_goes_on_with_messages,
    async |db| {
        let receiver = Receiver::start().await;
        let api = holding(db, &[KEY]).await;
        let app = prepared(&api, &receiver).await;
        let program = Program::on(db.url()).env("POSTRIDER_ENCRYPTION_KEY", BOTH);
        program.run(&["rotate-key"]).await.ok();
        let path = format!("/app/{app}/endpoint");
        let new = json!({"url": receiver.url(), "uid": "second"});
        let refused = api.post(&path, new).await;
        refused.refused(503, "unavailable");
        let rotation = api.post(&format!("{path}/e/secret/rotate"), json!({})).await;
        rotation.refused(503, "unavailable");
        let headers = json!({"headers": {"X-Own": "2"}});
        let headers = api.put(&format!("{path}/e/headers"), headers).await;
        headers.refused(503, "unavailable");
        api.get(&format!("{path}/second")).await.refused(404, "not_found");
        assert_eq!(
            opened_by(&api.rig.db, NEW).await,
            (2, 2),
            "the process without the new key has sealed nothing"
        );
        let message = json!({"eventType": "a", "payload": {}});
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
    }
);

postgres_only!(
    a_rotation_is_refused_while_a_serving_process_lacks_the_new_key_and_runs_beside_those_that_have_it,
    async |db| {
        let receiver = Receiver::start().await;
        let program = Program::on(db.url())
            .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
            .env("POSTRIDER_ADMIN_TOKEN", "a-token-of-the-operator");
        let caller = Caller::new("a-token-of-the-operator");
        let both = program.clone().env("POSTRIDER_ENCRYPTION_KEY", BOTH);
        let (mut former, mut current) = (program.serve().await, both.serve().await);
        let new = json!({"url": receiver.url(), "secret": SECRET});
        caller
            .make(&former.url(), "/app", json!({"name": "Shop", "uid": "shop"}))
            .await;
        caller.make(&current.url(), "/app/shop/endpoint", new).await;
        let line = both.run(&["rotate-key"]).await.failed(1);
        assert!(line.contains("1 serving processes do not hold the new"), "{line}");
        let connection = db.connect().await;
        assert_eq!(opened_by(&connection, KEY).await, (3, 3), "nothing was changed");

        assert_eq!(former.stop().await, Some(0));
        let said = both.run(&["rotate-key"]).await.ok();
        assert!(
            said.starts_with("re-encrypted 1 endpoints and 2 idempotency replies"),
            "{said}"
        );
        let message = json!({"eventType": "a", "payload": {"n": 1.10}});
        caller.make(&current.url(), "/app/shop/msg", message).await;
        assert_eq!(current.stop().await, Some(0));
        let new = program.env("POSTRIDER_ENCRYPTION_KEY", NEW).serve().await;
        let message = json!({"eventType": "b", "payload": {"n": 1.10}});
        caller.make(&new.url(), "/app/shop/msg", message).await;
        for arrival in receiver.wait_for(2).await {
            assert!(arrival.is_signed_with(SECRET));
        }
    }
);

postgres_only!(
    a_writer_waits_for_the_beginning_and_seals_with_the_new_key,
    async |db| {
        let api = holding(db, &[KEY]).await;
        api.into_rig().kill().await;
        let api = holding(db, &[NEW, KEY]).await;
        let beginning = api.rig.store.begin().await.unwrap();
        begin_key_rotation(&beginning, &key(NEW), &key(KEY)).await.unwrap();
        let store = api.rig.store.clone();
        let writer = tokio::spawn(async move {
            let tx = store.begin().await.unwrap();
            tx.sealing_key().await.unwrap().check_value()
        });
        let waiting =
            "select pid::text from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        within(DEADLINE, "the writer waits", async || {
            (!texts(&api.rig.db, waiting).await.is_empty()).then_some(())
        })
        .await;
        beginning.commit().await.unwrap();
        assert_eq!(writer.await.unwrap(), key(NEW).check_value());
    }
);

postgres_only!(writers_beside_a_rotation_leave_nothing_behind_it, async |db| {
    let api = holding(db, &[KEY]).await;
    let app = prepared(&api, &Receiver::start().await).await;
    for n in 0..20 {
        let new = json!({"url": "http://127.0.0.1:1/", "uid": format!("e{n}")});
        api.post(&format!("/app/{app}/endpoint"), new).await.expect(201);
    }
    let token = api.token.clone();
    api.into_rig().kill().await;
    let mut api = holding(db, &[NEW, KEY]).await;
    api.token = token;
    let address = api.listen().await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (caller, app) = (Caller::new(&api.token), app.clone());
            tokio::spawn(async move {
                for n in 0..20 {
                    let path = format!("/app/{app}/endpoint/e{n}/secret/rotate");
                    let key = format!("{writer} {n}");
                    let answer = caller.post(&format!("http://{address}"), &path, &key, &json!({})).await;
                    assert_eq!(answer.unwrap().0, 200);
                }
            })
        })
        .collect();
    let rotated = rotate(&api.rig.store, &BY_HAND).await.unwrap();
    assert_eq!((rotated.endpoints.unreadable, rotated.replies.unreadable), (0, 0));
    let (done, all) = opened_by(&api.rig.db, NEW).await;
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(done, all, "at the end of the rotation");
    let (done, all) = opened_by(&api.rig.db, NEW).await;
    assert_eq!(done, all, "after all writers have ended");
    assert!(!rotate(&api.rig.store, &BY_HAND).await.unwrap().changed);
});

postgres_only!(
    a_rotation_and_a_process_that_starts_without_the_new_key_never_both_go_on,
    async |db| {
        let store = db.open(Clock::test(START)).await;
        store.unlock(key(KEY).into()).await.unwrap();
        let api = holding(db, &[NEW, KEY]).await;

        let starting = store.begin().await.unwrap();
        insert_process(&starting, "proc_late").await.unwrap();
        let rotation = tokio::spawn({
            let store = api.rig.store.clone();
            async move { rotate(&store, &BY_HAND).await }
        });
        let waiting =
            "select pid::text from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        within(DEADLINE, "the rotation waits", async || {
            (!texts(&api.rig.db, waiting).await.is_empty()).then_some(())
        })
        .await;
        starting.commit().await.unwrap();
        let refused = rotation.await.unwrap().unwrap_err();
        assert!(
            refused.message.starts_with("1 serving processes do not hold"),
            "{refused}"
        );
        let checks = "select key_check from installation where former_key_check is null";
        assert_eq!(texts(&api.rig.db, checks).await, [key(KEY).check_value()]);

        api.rig.sql("delete from process where owner = 'proc_late'", []).await;
        assert!(rotate(&api.rig.store, &BY_HAND).await.unwrap().changed);
        let starting = store.begin().await.unwrap();
        let refused = insert_process(&starting, "proc_later").await.unwrap_err();
        assert!(refused.message.contains("does not hold the new one"), "{refused}");
    }
);

both!(of_two_rotations_to_different_keys_one_is_refused, async |db| {
    let api = holding(db, &[KEY]).await;
    let third = "a third key that has 32 characters or more";
    let begin = async |newest: &str| {
        let tx = api.rig.store.begin().await.unwrap();
        let begun = begin_key_rotation(&tx, &key(newest), &key(KEY)).await;
        tx.commit().await.unwrap();
        begun
    };
    assert!(begin(NEW).await.unwrap());
    assert!(!begin(NEW).await.unwrap(), "the same rotation goes on");
    let refused = begin(third).await.unwrap_err();
    assert!(refused.message.starts_with("another rotation"), "{refused}");
    let checks = "select key_check from installation";
    assert_eq!(texts(&api.rig.db, checks).await, [key(NEW).check_value()]);
});

#[tokio::test]
async fn on_sqlite_one_command_makes_the_new_key_and_drops_the_former_one() {
    let receiver = Receiver::start().await;
    let program = Program::bare()
        .env("POSTRIDER_LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
        .env("POSTRIDER_ADMIN_TOKEN", "a-token-of-the-operator");
    let caller = Caller::new("a-token-of-the-operator");
    let file = program.folder().join("data/postrider.sqlite.key");
    let line = program.run(&["rotate-key"]).await.failed(1);
    let database = program.folder().join("data/postrider.sqlite");
    let missing = format!("there is no database at {}", database.display());
    assert!(line.contains(&missing), "{line}");

    let mut serving = program.serve().await;
    let new = json!({"url": receiver.url(), "secret": SECRET, "headers": {"X-Own": "1"}});
    for (path, body) in [
        ("/app", json!({"name": "Shop", "uid": "shop"})),
        ("/app/shop/endpoint", new),
    ] {
        caller.make(&serving.url(), path, body).await;
    }
    let line = program.run(&["rotate-key"]).await.failed(1);
    assert!(line.contains("another process uses the SQLite file"), "{line}");
    assert_eq!(serving.stop().await, Some(0));

    let before = std::fs::read_to_string(&file).unwrap();
    let crashing = program.clone().env("POSTRIDER_CRASH_POINT", "resealed_page:1");
    assert_eq!(crashing.run(&["rotate-key"]).await.code, None, "the command is killed");
    let between = std::fs::read_to_string(&file).unwrap();
    let (made, former) = between.split_once('\n').unwrap();
    assert!(former == before && made != before && made.len() >= 32);
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions()) & 0o777,
        0o600
    );
    let mut serving = program.serve().await;
    assert_eq!(serving.stop().await, Some(0), "both keys stand in the file");

    let said = program.run(&["rotate-key"]).await.ok();
    assert!(
        said.starts_with("re-encrypted 0 endpoints and 2 idempotency replies"),
        "{said}"
    );
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        made,
        "the key with which the rotation began"
    );
    let said = program.run(&["rotate-key"]).await.ok();
    assert!(
        said.starts_with("re-encrypted 1 endpoints and 2 idempotency replies"),
        "{said}"
    );
    assert_ne!(
        std::fs::read_to_string(&file).unwrap(),
        made,
        "another rotation makes another key"
    );
    let left = std::fs::read_dir(program.folder().join("data")).unwrap();
    let names: Vec<_> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        names.iter().filter(|name| name.contains(".key")).count(),
        1,
        "{names:?}"
    );

    let serving = program.serve().await;
    let message = json!({"eventType": "a", "payload": {"n": 1.10}});
    caller.make(&serving.url(), "/app/shop/msg", message).await;
    let arrival = receiver.wait_for(1).await.remove(0);
    assert!(arrival.is_signed_with(SECRET));
    assert_eq!(arrival.header("x-own"), Some("1"));
}

sqlite_only!(
    what_the_former_key_sealed_stands_neither_in_the_file_nor_in_its_log,
    async |db| {
        let receiver = Receiver::start().await;
        let api = Api::on(db).await;
        let app = prepared(&api, &receiver).await;
        seen(&api, &app).await;
        let former = sealed(&api.rig.db).await;
        assert!(former.len() >= 4, "secrets, headers and a reply");
        api.into_rig().kill().await;
        let api = holding(db, &[NEW, KEY]).await;
        let file = db.url().strip_prefix("sqlite://").expect("a file");
        let stand = || {
            let log = std::fs::read(format!("{file}-wal")).unwrap_or_default();
            let bytes = [std::fs::read(file).expect("a file"), log].concat();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            former.iter().filter(|(sealed, _)| text.contains(sealed)).count()
        };
        assert_eq!(stand(), former.len());
        rotate(&api.rig.store, &BY_HAND).await.unwrap();
        assert_eq!(stand(), 0);
        assert_eq!(sealed(&api.rig.db).await.len(), former.len());
    }
);
