//! `app backup`: copies an SQLite database while it is served, and a program that starts on the copy. Also
//! `compose/backup.sh save`, with a `pg_dump` made for the test.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::harness::{Answer, Caller, DEADLINE, Program, Receiver, SECRET, connect, rows, within};

const TOKEN: &str = "a-token-of-the-operator";

fn program() -> Program {
    Program::bare()
        .env("POSTRIDER_LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_ADMIN_TOKEN", TOKEN)
        .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path)
        .expect("the file has a state")
        .permissions()
        .mode()
        & 0o777
}

/// Returns the names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

/// Copies the backup and its key to the places where a program that has never run looks for them.
fn restore(file: &Path, to: &Program) {
    let data = to.folder().join("data");
    std::fs::create_dir(&data).expect("a new folder");
    std::fs::copy(file, data.join("postrider.sqlite")).expect("the file is copied");
    let key = file.with_added_extension("key");
    std::fs::copy(key, data.join("postrider.sqlite.key")).expect("the file is copied");
}

#[tokio::test]
async fn a_backup_made_while_messages_come_in_is_restored_with_all_of_them_and_sends_what_was_in_flight() {
    let receiver = Receiver::start().await;
    receiver.answer(Answer::hang());
    let original = program();
    let serving = original.serve().await;
    let caller = Caller::new(TOKEN);
    let server = serving.url();
    caller
        .make(&server, "/app", json!({"name": "Shop", "uid": "shop"}))
        .await;
    let endpoint = json!({"url": receiver.url(), "secret": SECRET});
    caller.make(&server, "/app/shop/endpoint", endpoint).await;

    let answered = Arc::new(Mutex::new(Vec::new()));
    let posting = tokio::spawn({
        let (answered, caller) = (answered.clone(), caller.clone());
        async move {
            for number in 0.. {
                let message = json!({"eventType": "order.paid", "payload": {"number": number}});
                let made = caller.make(&server, "/app/shop/msg", message).await;
                let id = made["id"].as_str().expect("an id").to_owned();
                answered.lock().expect("no panic").push(id);
            }
        }
    });
    let some = async || (answered.lock().expect("no panic").len() >= 20).then_some(());
    within(DEADLINE, "messages are accepted", some).await;
    let before: Vec<String> = answered.lock().expect("no panic").clone();
    let said = original.run(&["backup", "saved/now.sqlite"]).await.ok();
    let after = answered.lock().expect("no panic").len();
    let more = async || (answered.lock().expect("no panic").len() > after).then_some(());
    within(DEADLINE, "messages are accepted after the backup as well", more).await;
    posting.abort();

    let saved = original.folder().join("saved");
    assert_eq!(names(&saved), ["now.sqlite", "now.sqlite.key"]);
    let file = saved.join("now.sqlite");
    let key = saved.join("now.sqlite.key");
    assert_eq!((mode(&saved), mode(&file), mode(&key)), (0o700, 0o600, 0o600));
    let size = std::fs::metadata(&file).expect("the file has a state").len();
    assert!(said.contains(&format!("saved/now.sqlite: {size} bytes")), "{said}");
    assert!(said.contains("saved/now.sqlite.key"), "{said}");
    let kept = original.folder().join("data/postrider.sqlite.key");
    let read = |path| std::fs::read(path).expect("a key");
    assert_eq!(read(&key), read(&kept), "byte for byte");
    drop(serving);

    let restored = program();
    restore(&file, &restored);
    let url = format!("sqlite://{}", restored.folder().join("data/postrider.sqlite").display());
    let connection = connect(&url).await.expect("the copy opens");
    let found = rows(&connection, "select id from message").await;
    let found: HashSet<String> = found.iter().map(|row| row.try_get("", "id").expect("an id")).collect();
    assert!(
        before.iter().all(|id| found.contains(id)),
        "the copy has each message that was answered before"
    );
    let queued = rows(&connection, "select id from delivery").await;
    assert_eq!(queued.len(), found.len(), "no message has been delivered");
    drop(connection);

    receiver.answer(Answer::ok());
    let sent_before = receiver.arrivals().len();
    let mut serving = restored.serve().await;
    let all = async || {
        let arrivals = receiver.arrivals().split_off(sent_before);
        let ids: HashSet<String> = arrivals.iter().map(|arrival| arrival.message_id().to_owned()).collect();
        assert!(
            arrivals.iter().all(|arrival| arrival.is_signed_with(SECRET)),
            "the same secret"
        );
        (ids == found).then_some(())
    };
    within(DEADLINE, "every message of the copy arrives", all).await;
    assert_eq!(serving.stop().await, Some(0));
}

#[tokio::test]
async fn a_backup_without_the_key_beside_the_database_says_that_the_key_is_needed_too() {
    let program = program().env("POSTRIDER_ENCRYPTION_KEY", "a key of the operator's, kept in a safe");
    assert_eq!(program.serve().await.stop().await, Some(0));
    let said = program.run(&["backup", "now.sqlite"]).await.ok();
    assert!(
        said.contains("POSTRIDER_ENCRYPTION_KEY") && said.contains("needed too"),
        "{said}"
    );
    assert!(!said.contains("in a safe"), "{said}");
    assert_eq!(names(program.folder()), ["data", "now.sqlite"]);
}

#[tokio::test]
async fn nothing_is_written_over_and_nothing_is_left_by_a_backup_that_is_refused() {
    let program = program();
    let line = program.run(&["backup", "now.sqlite"]).await.failed(1);
    let database = program.folder().join("data/postrider.sqlite");
    let missing = format!("there is no database at {}", database.display());
    assert!(line.contains(&missing), "{line}");
    assert!(names(program.folder()).is_empty());

    assert_eq!(program.serve().await.stop().await, Some(0));
    for taken in ["now.sqlite", "now.sqlite.key"] {
        let path = program.folder().join(taken);
        std::fs::write(&path, "precious").expect("the file is written");
        let line = program.run(&["backup", "now.sqlite"]).await.failed(1);
        assert!(line.contains(&format!("{taken} exists")), "{line}");
        assert_eq!(std::fs::read_to_string(&path).expect("the file exists"), "precious");
        assert_eq!(names(program.folder()), ["data", taken]);
        std::fs::remove_file(path).expect("the file can be removed");
    }
    std::fs::write(program.folder().join("now.sqlite.part"), "half").expect("the file is written");
    let line = program.run(&["backup", "now.sqlite"]).await.failed(1);
    assert!(line.contains("now.sqlite.part is there"), "{line}");
    let line = program.run(&["backup", "no/such/now.sqlite"]).await.failed(1);
    let refused = format!("cannot make the folder {}", program.folder().join("no/such").display());
    assert!(line.contains(&refused), "{line}");
    assert_eq!(names(program.folder()), ["data", "now.sqlite.part"]);
}

postgres_only!(a_backup_of_postgres_is_refused_with_the_way_to_make_one, async |db| {
    let program = Program::on(db.url());
    let line = program.run(&["backup", "now.sqlite"]).await.failed(1);
    assert!(
        line.contains("pg_dump") && line.contains("docker compose run --rm backup"),
        "{line}"
    );
    assert!(names(program.folder()).is_empty());
});

#[tokio::test]
async fn an_interrupted_backup_leaves_nothing_behind() {
    let program = program();
    assert_eq!(program.serve().await.stop().await, Some(0));
    let url = format!("sqlite://{}", program.folder().join("data/postrider.sqlite").display());
    let connection = connect(&url).await.expect("the database opens");
    rows(&connection, "pragma journal_mode = delete").await;
    rows(&connection, "begin exclusive").await;
    let mut command = program.start(&["backup", "now.sqlite"]);
    let part = program.folder().join("now.sqlite.part");
    within(DEADLINE, "the backup has begun and waits", async || {
        part.exists().then_some(())
    })
    .await;
    let interrupt = ["-INT", &command.id().to_string()].map(str::to_owned);
    let sent = std::process::Command::new("kill").args(interrupt).status();
    assert!(sent.expect("kill runs").success());
    let status = within(DEADLINE, "the backup ends", async || {
        command.try_wait().expect("the process has a state")
    })
    .await;
    assert_eq!(status.code(), Some(1));
    assert_eq!(names(program.folder()), ["data"]);
}

/// Runs `compose/backup.sh save` in subfolders of `scratch`, with a `pg_dump` that is this shell script.
fn save_with(scratch: &Path, pg_dump: &str) -> Output {
    let write = |name: &str, content: &str| std::fs::write(scratch.join(name), content).expect("the file is written");
    write("bin/pg_dump", &format!("#!/bin/sh\nset -eu\n{pg_dump}\n"));
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(scratch.join("bin/pg_dump"), executable).expect("the mode is set");
    let path = std::env::var("PATH").expect("a path");
    Command::new("bash")
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/compose/backup.sh"), "save"])
        .env("PATH", format!("{}:{path}", scratch.join("bin").display()))
        .env("SECRETS_FOLDER", scratch.join("secrets"))
        .env("BACKUPS_FOLDER", scratch.join("backups"))
        .output()
        .expect("bash runs")
}

#[test]
fn a_dump_of_the_stack_is_kept_only_with_the_key_that_was_there_from_its_beginning_to_its_end() {
    let scratch = program();
    let scratch = scratch.folder();
    for folder in ["bin", "backups", "secrets", "secrets/app", "secrets/database"] {
        std::fs::create_dir(scratch.join(folder)).expect("a new folder");
    }
    std::fs::write(scratch.join("secrets/database/password"), "secret").expect("the file is written");
    std::fs::write(scratch.join("secrets/app/encryption_key"), "newest\nformer\n").expect("the file is written");
    let backups = scratch.join("backups");
    let dump = r#"echo dumped >"${2#--file=}""#;

    let refused = save_with(
        scratch,
        &format!("{dump}; echo newest >$SECRETS_FOLDER/app/encryption_key"),
    );
    assert_eq!((refused.status.success(), names(&backups)), (false, Vec::new()));
    let said = String::from_utf8(refused.stderr).expect("text");
    assert!(said.contains("the encryption key was replaced meanwhile"), "{said}");

    let failed = save_with(scratch, &format!("{dump}; exit 1"));
    assert_eq!((failed.status.success(), names(&backups)), (false, Vec::new()));

    let saved = save_with(scratch, dump);
    let name = String::from_utf8(saved.stdout).expect("text");
    let [file, key] = ["dump", "key"].map(|kind| format!("{}.{kind}", name.trim()));
    assert_eq!(names(&backups), [file.as_str(), key.as_str()]);
    for (name, content) in [(file, "dumped\n"), (key, "newest\n")] {
        let path = backups.join(name);
        assert_eq!(
            (
                std::fs::read_to_string(&path).expect("the file exists").as_str(),
                mode(&path)
            ),
            (content, 0o600)
        );
    }
}
