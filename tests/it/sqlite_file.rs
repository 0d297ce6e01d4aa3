//! The SQLite file itself: one process a file whatever name it is given, and an end once the file is gone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use postrider::clock::Clock;
use postrider::store::Source;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::json;

use crate::api::Api;
use crate::harness::{Caller, Program, Serving, TestDatabase};

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
            (&lock, &|| fs::remove_file(&lock).expect("it is there")),
            (&original, &|| {
                fs::copy(&original, &copy).expect("it is copied");
                fs::rename(&copy, &original).expect("it is replaced");
            }),
            (&original, &|| fs::remove_file(&original).expect("it is there")),
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
    fs::remove_file(&original).expect("it is there");
    removed.store(true, Ordering::SeqCst);
    assert_eq!(serving.end().await, Some(1), "{}", serving.stderr());
    posting.await.expect("nothing is accepted once it is gone");
});

sqlite_only!(
    a_process_whose_file_was_removed_is_not_ready_and_refuses_writes,
    async |db| {
        let api = Api::on(db).await;
        assert_eq!(api.fetch("/readyz", &[]).await.status, 200);
        let open = api.rig.store.begin().await.expect("a transaction begins");
        fs::remove_file(path(db)).expect("it is there");
        let refused = open.commit().await.expect_err("it goes nowhere");
        assert!(refused.to_string().contains("was removed or replaced"), "{refused}");
        let refused = api.post("/app", json!({"name": "Shop"})).await;
        refused.refused(503, "unavailable");
        assert_eq!(api.fetch("/readyz", &[]).await.status, 503);
        fs::write(path(db), "").expect("another file");
        assert_eq!(api.fetch("/readyz", &[]).await.status, 503, "for ever");
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
    fs::remove_file(&hard).expect("it is there");
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
