//! `app migrate`, and how a program treats a schema that is older or newer than itself.

use postrider::clock::Clock;
use postrider::store::database::schema;
use sea_orm::ConnectionTrait;

use crate::harness::{Kind, Program, TestDatabase, rows};

async fn is_migrated(db: &TestDatabase) -> bool {
    db.connect()
        .await
        .execute_unprepared("select 1 from delivery")
        .await
        .is_ok()
}

both!(migrate_goes_down_and_up_and_shows_where_it_stands, async |db| {
    let program = Program::on(db.url());
    assert_eq!(program.run(&["migrate"]).await.ok(), "nothing to do\n");
    let status = program.run(&["migrate", "status"]).await.ok();
    let count = status.lines().count();
    assert!(
        count > 0 && status.lines().all(|line| line.ends_with("applied")),
        "{status}"
    );

    let all = count.to_string();
    assert_eq!(
        program.run(&["migrate", "down", "--steps", &all]).await.ok(),
        "migrated\n"
    );
    assert!(!is_migrated(db).await);
    let status = program.run(&["migrate", "status"]).await.ok();
    assert!(status.lines().all(|line| line.ends_with("pending")), "{status}");
    let line = program.run(&["token", "list"]).await.failed(1);
    assert!(
        line.contains("older than this program") && line.contains("app migrate"),
        "{line}"
    );

    assert_eq!(program.run(&["migrate", "up"]).await.ok(), "migrated\n");
    assert!(is_migrated(db).await);
});

both!(fresh_and_refresh_delete_everything_and_ask_first, async |db| {
    let program = Program::on(db.url());
    for action in ["fresh", "refresh"] {
        program.run(&["token", "create", "--organization", "acme"]).await.ok();
        let line = program.run(&["migrate", action]).await.failed(1);
        assert!(line.contains("--yes"), "{line}");
        let connection = db.connect().await;
        assert_eq!(
            rows(&connection, "select 1 from organization").await.len(),
            1,
            "nothing was lost"
        );
        assert_eq!(program.run(&["migrate", action, "--yes"]).await.ok(), "migrated\n");
        assert_eq!(
            rows(&connection, "select 1 from organization").await.len(),
            0,
            "{action} empties the database"
        );
    }
});

both!(five_migrate_commands_at_once_migrate_once_and_none_fails, async |db| {
    let empty = db.empty_sibling().await;
    let program = Program::on(empty.url());
    let commands: Vec<_> = (0..5).map(|_| program.start(&["migrate"])).collect();
    let mut said = Vec::new();
    for command in commands {
        let output = tokio::task::spawn_blocking(|| command.wait_with_output())
            .await
            .expect("no panic")
            .expect("output");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        said.push(String::from_utf8(output.stdout).expect("text"));
    }
    said.sort();
    assert_eq!(
        said,
        [
            "migrated\n",
            "nothing to do\n",
            "nothing to do\n",
            "nothing to do\n",
            "nothing to do\n"
        ]
    );
    assert!(is_migrated(&empty).await);
});

both!(a_newer_schema_is_worked_on_when_it_allows_this_program, async |db| {
    let newer = "insert into seaql_migrations (version, applied_at) values ('m99990101_000001_later', 0)";
    db.connect()
        .await
        .execute_unprepared(newer)
        .await
        .expect("a row of a newer program");
    let store = db.open(Clock::system()).await;
    schema::check(&store).await.expect("the schema allows this program");
    store.close().await;
    drop(store);
    let program = Program::on(db.url());
    assert_eq!(program.run(&["migrate"]).await.ok(), "nothing to do\n");
    let status = program.run(&["migrate", "status"]).await.ok();
    assert!(
        status
            .trim_end()
            .ends_with("m99990101_000001_later  applied, unknown to this program"),
        "{status}"
    );
    let line = program.run(&["migrate", "down"]).await.failed(1);
    assert!(line.contains("m99990101_000001_later"), "{line}");
});

both!(a_newer_schema_that_needs_a_newer_program_is_refused, async |db| {
    let connection = db.connect().await;
    for sql in [
        "insert into seaql_migrations (version, applied_at) values ('m99990101_000001_later', 0)",
        "update installation set compatible_since = 'm99990101_000001_later'",
    ] {
        connection
            .execute_unprepared(sql)
            .await
            .expect("a change by a newer program");
    }
    let line = Program::on(db.url()).run(&["serve"]).await.failed(1);
    assert!(
        line.contains("needs a newer program") && line.contains("m99990101_000001_later"),
        "{line}"
    );
});

both!(migrations_go_to_their_own_url_where_one_is_given, async |db| {
    let empty = db.empty_sibling().await;
    let nowhere = match db.kind() {
        Kind::Sqlite => "sqlite:///nowhere/at-all.sqlite",
        Kind::Postgres => "postgresql://127.0.0.1:1/nowhere",
    };
    let program = Program::on(nowhere).env("MIGRATE_DATABASE_URL", empty.url());
    assert_eq!(program.run(&["migrate"]).await.ok(), "migrated\n");
    assert!(is_migrated(&empty).await);
});

sqlite_only!(an_sqlite_file_that_is_served_is_not_taken_apart, async |db| {
    let program = Program::on(db.url());
    let mut serving = program.serve().await;
    assert_eq!(program.run(&["migrate"]).await.ok(), "nothing to do\n");
    let line = program.run(&["migrate", "fresh", "--yes"]).await.failed(1);
    assert!(line.contains("another process uses the SQLite file"), "{line}");
    assert_eq!(serving.stop().await, Some(0));
    program.run(&["migrate", "fresh", "--yes"]).await.ok();
});
