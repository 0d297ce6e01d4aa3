//! The SQLite file itself: one process per file whatever name it has, the end of the process once the file is gone, and
//! that removed data stands neither in the file nor in its log.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use postrider::clock::Clock;
use postrider::store::Source;
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use serde_json::json;

use crate::api::Api;
use crate::harness::{Answer, Caller, DEADLINE, Program, Receiver, Serving, TestDatabase, within};

const TOKEN: &str = "a-token-of-the-operator";

fn path(db: &TestDatabase) -> PathBuf {
    PathBuf::from(db.url().strip_prefix("sqlite://").expect("a file"))
}

fn program(path: &Path) -> Program {
    Program::on(&format!("sqlite://{}", path.display())).env("POSTRIDER_ADMIN_TOKEN", TOKEN)
}

async fn served(path: &Path) -> (Serving, Caller) {
    let serving = program(path).serve().await;
    let caller = Caller::new(TOKEN);
    caller
        .make(&serving.url(), "/app", json!({"name": "Shop", "uid": "shop"}))
        .await;
    (serving, caller)
}

sqlite_only!(
    a_process_whose_file_is_removed_or_replaced_says_so_and_ends,
    async |db| {
        let original = path(db);
        let copy = original.with_added_extension("copy");
        let lock = original.with_added_extension("lock");
        type Spoil<'a> = (&'a Path, &'a dyn Fn());
        let spoils: [Spoil; 3] = [
            (&lock, &|| fs::remove_file(&lock).expect("the file exists")),
            (&original, &|| {
                fs::copy(&original, &copy).expect("the file is copied");
                fs::rename(&copy, &original).expect("the file is replaced");
            }),
            (&original, &|| fs::remove_file(&original).expect("the file exists")),
        ];
        for (named, spoil) in spoils {
            let (mut serving, _) = served(&original).await;
            spoil();
            assert_eq!(serving.end().await, Some(1), "{}", serving.stderr());
            let said = serving.stderr();
            let reason = format!("{} was removed or replaced", named.display());
            assert!(said.lines().last().expect("a line").contains(&reason), "{said}");
        }
    }
);

sqlite_only!(no_message_is_accepted_into_a_file_that_was_removed, async |db| {
    let original = path(db);
    let (mut serving, caller) = served(&original).await;
    let removed = Arc::new(AtomicBool::new(false));
    let server = serving.url();
    let posting = tokio::spawn({
        let removed = removed.clone();
        async move {
            let message = json!({"eventType": "t", "payload": {}});
            for number in 0.. {
                let gone = removed.load(Ordering::SeqCst);
                let key = format!("key-{number}");
                match caller.post(&server, "/app/shop/msg", &key, &message).await {
                    Ok((202, _)) => assert!(!gone, "message {number} was accepted"),
                    Ok((status, answer)) => assert_eq!(status, 503, "{answer}"),
                    Err(_) => return,
                }
            }
        }
    });
    fs::remove_file(&original).expect("the file exists");
    removed.store(true, Ordering::SeqCst);
    assert_eq!(serving.end().await, Some(1), "{}", serving.stderr());
    posting.await.expect("nothing is accepted once the file is gone");
});

sqlite_only!(
    a_process_whose_file_was_removed_is_not_ready_and_refuses_writes,
    async |db| {
        let api = Api::on(db).await;
        assert_eq!(api.fetch("/readyz", &[]).await.status, 200);
        let open = api.rig.store.begin().await.expect("a transaction begins");
        fs::remove_file(path(db)).expect("the file exists");
        let refused = open.commit().await.expect_err("the file of the commit is gone");
        assert!(refused.to_string().contains("was removed or replaced"), "{refused}");
        let refused = api.post("/app", json!({"name": "Shop"})).await;
        refused.refused(503, "unavailable");
        assert_eq!(api.fetch("/readyz", &[]).await.status, 503);
        fs::write(path(db), "").expect("another file");
        assert_eq!(
            api.fetch("/readyz", &[]).await.status,
            503,
            "the process never becomes ready on another file"
        );
    }
);

sqlite_only!(a_second_serve_by_another_name_of_the_file_is_refused, async |db| {
    let original = path(db);
    let links = original.with_file_name("links");
    fs::create_dir(&links).expect("a new folder");
    let (relative, chained, hard) = (links.join("relative"), links.join("chained"), links.join("hard"));
    symlink("../postrider.sqlite", &relative).expect("a link");
    symlink(&relative, &chained).expect("a link");
    let (mut serving, _) = served(&original).await;
    for name in [&relative, &chained] {
        let line = program(name).run(&["serve"]).await.failed(1);
        assert!(line.contains("another process uses the SQLite file"), "{line}");
        program(name).run(&["token", "list"]).await.ok();
    }
    fs::hard_link(&original, &hard).expect("a link");
    for command in ["serve", "backup copy.sqlite", "token list"] {
        let command: Vec<&str> = command.split(' ').collect();
        let line = program(&hard).run(&command).await.failed(1);
        assert!(line.contains("has more than one name"), "{line}");
    }
    fs::remove_file(&hard).expect("the file exists");
    assert_eq!(serving.stop().await, Some(0), "{}", serving.stderr());
    let mut names: Vec<_> = fs::read_dir(&links)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["chained", "relative"], "nothing is kept beside a link");
});

#[tokio::test]
async fn a_file_that_is_named_by_a_link_has_its_key_beside_itself() {
    let first = Program::bare()
        .env("POSTRIDER_LISTEN", "127.0.0.1:0")
        .env("DATABASE_URL", "sqlite://link.sqlite");
    fs::create_dir(first.folder().join("data")).expect("a new folder");
    symlink("data/real.sqlite", first.folder().join("link.sqlite")).expect("a link");
    assert_eq!(
        first.serve().await.stop().await,
        Some(0),
        "the link leads to nothing yet"
    );
    first.run(&["token", "create", "--organization", "default"]).await.ok();
    let direct = first.env("DATABASE_URL", "sqlite://data/real.sqlite");
    let key = fs::read(direct.folder().join("data/real.sqlite.key")).expect("a key file");
    assert_eq!(direct.serve().await.stop().await, Some(0));
    assert_eq!(
        direct.run(&["token", "list"]).await.ok().lines().count(),
        2,
        "the same database"
    );
    let linked = direct.env("DATABASE_URL", "sqlite://link.sqlite");
    linked.run(&["backup", "now.sqlite"]).await.ok();
    assert_eq!(fs::read(linked.folder().join("now.sqlite.key")).expect("a copy"), key);
}

async fn log_limit(connection: &impl ConnectionTrait) -> i64 {
    let statement = Statement::from_string(DbBackend::Sqlite, "pragma journal_size_limit");
    let row = connection.query_one_raw(statement).await.expect("an answer");
    row.expect("a row").try_get_by_index(0).expect("a number")
}

sqlite_only!(a_log_that_has_grown_shrinks_to_64_mib, async |db| {
    let store = db.open(Clock::system()).await;
    let tx = store.begin().await.expect("a transaction begins");
    assert_eq!(log_limit(tx.source()).await, 64 << 20);
    assert_eq!(log_limit(store.source()).await, 64 << 20);
});

/// Returns the texts that stand in the database's file or in its log.
fn standing<'t>(db: &TestDatabase, texts: &'t [String]) -> Vec<&'t str> {
    let file = path(db);
    let log = PathBuf::from(format!("{}-wal", file.display()));
    let bytes = [fs::read(file).expect("a file"), fs::read(log).unwrap_or_default()].concat();
    let all = String::from_utf8_lossy(&bytes);
    texts
        .iter()
        .map(String::as_str)
        .filter(|text| all.contains(text))
        .collect()
}

/// Returns texts that stand nowhere else.
fn marks(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("mark-{number:04}-of-what-is-removed"))
        .collect()
}

/// Returns a payload that repeats the mark. It has some kilobytes at most, so that it is stored in the row itself or in
/// pages of its own.
fn payload(mark: &str, number: usize) -> serde_json::Value {
    json!({ "text": mark.repeat([1, 20, 400][number % 3]) })
}

sqlite_only!(
    what_is_removed_for_good_stands_neither_in_the_file_nor_in_its_log,
    async |db| {
        let mut api = Api::on(db).await;
        let marks = marks(150);
        // The applications take turns, so that rows are inserted between others and pages are split.
        for app in 0..5 {
            let app = json!({"name": "app", "uid": format!("a{app}")});
            api.post("/app", app).await.expect(201);
        }
        let messages = |number: usize| format!("/app/a{}/msg", number % 5);
        for (number, mark) in marks.iter().enumerate() {
            let body = json!({
                "eventType": "t", "eventId": format!("m{number}"), "payload": payload(mark, number),
                "payloadRetentionPeriod": if number % 4 == 1 { 5 } else { 90 },
            });
            api.post(&messages(number), body).await.expect(202);
        }
        assert_eq!(standing(db, &marks).len(), marks.len());
        for number in (0..marks.len()).step_by(2) {
            let content = format!("{}/m{number}/content", messages(number));
            api.delete(&content).await.expect(204);
            api.rig.advance(1);
        }
        let left: Vec<&str> = marks.iter().skip(1).step_by(2).map(String::as_str).collect();
        assert_eq!(standing(db, &marks), left, "after they were expunged");

        api.rig.advance(5 * 86_400);
        api.rig.prune().await;
        let left: Vec<&str> = marks.iter().skip(3).step_by(4).map(String::as_str).collect();
        assert_eq!(standing(db, &marks), left, "after their time was over");
    }
);

sqlite_only!(
    an_answer_that_is_expunged_stands_neither_in_the_file_nor_in_its_log,
    async |db| {
        let mut api = Api::on(db).await;
        let receiver = Receiver::start().await;
        let marks = marks(1);
        receiver.answer(Answer::ok().body(marks[0].clone()));
        let app = api.application("app").await;
        let endpoint = json!({"url": receiver.url(), "uid": "e"});
        api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
        let message = json!({"eventType": "t", "eventId": "m", "payload": {}});
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
        api.rig.drain().await;
        let attempts = api.get(&format!("/app/{app}/attempt/msg/m")).await;
        let id = attempts.expect(200)["data"][0]["id"]
            .as_str()
            .expect("an id")
            .to_owned();
        assert_eq!(standing(db, &marks).len(), 1);
        api.delete(&format!("/app/{app}/msg/m/attempt/{id}/content"))
            .await
            .expect(204);
        assert_eq!(standing(db, &marks).len(), 0);
    }
);

sqlite_only!(
    a_reader_delays_neither_an_expunge_nor_writes_and_the_log_is_cut_after_it,
    async |db| {
        let api = Api::on(db).await;
        let marks = marks(1);
        let app = api.application("app").await;
        let message = json!({"eventType": "t", "eventId": "m", "payload": {"text": marks[0]}});
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
        let reading = api.rig.db.begin().await.expect("a transaction");
        reading
            .execute_unprepared("select count(*) from message")
            .await
            .expect("a snapshot");
        api.delete(&format!("/app/{app}/msg/m/content")).await.expect(204);
        assert_eq!(standing(db, &marks).len(), 1, "the reader may still read the payload");
        api.application("another").await;
        reading.commit().await.expect("the reader ends");
        api.rig.advance(1);
        let store = api.rig.store.clone();
        let watch = tokio::spawn(async move { store.watch_file().await });
        within(DEADLINE, "the log is cut", async || {
            standing(db, &marks).is_empty().then_some(())
        })
        .await;
        watch.abort();
    }
);
