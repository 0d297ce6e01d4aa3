//! The harness itself: each test has a migrated database of its own.

use sea_orm::ConnectionTrait;

use crate::harness::{Kind, rows};

both!(a_test_has_a_migrated_database_for_itself, async |db| {
    let connection = db.connect().await;
    assert!(!rows(&connection, "select 1 from seaql_migrations").await.is_empty());
    connection
        .execute_unprepared("create table mine (id integer)")
        .await
        .expect("the database can be written");
    let other = db.empty_sibling().await;
    let sibling = other.connect().await;
    sibling
        .execute_unprepared("create table mine (id integer)")
        .await
        .expect("the sibling has no such table");
});

postgres_only!(text_sorts_by_a_language_unless_a_column_says_otherwise, async |db| {
    assert_eq!(db.kind(), Kind::Postgres);
    let connection = db.connect().await;
    let found = rows(
        &connection,
        "select ('B' collate \"C\") < ('a' collate \"C\") as by_bytes, 'a' < 'B' as by_rules",
    )
    .await;
    let by_bytes: bool = found[0].try_get("", "by_bytes").expect("a boolean");
    let by_rules: bool = found[0].try_get("", "by_rules").expect("a boolean");
    assert!(by_bytes, "text under C sorts by bytes");
    if std::env::var_os("TEST_DATABASE_URL").is_none() {
        assert!(
            by_rules,
            "the harness's own server sorts by a language's rules, so that a test notices a column without C"
        );
    }
});
