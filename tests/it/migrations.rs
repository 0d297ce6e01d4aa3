//! The migrations on both databases: there and back and there again, and by several processes at once.

use postrider::clock::Clock;
use postrider::store::schema::{self, Change, StepState};
use sea_orm::{ConnectionTrait, DatabaseConnection};

use crate::harness::{Kind, TestDatabase, rows};

/// Everything that the schema consists of, as the database itself describes it, but for its list of migrations.
async fn described(db: &TestDatabase) -> Vec<String> {
    let sql = match db.kind() {
        Kind::Sqlite => {
            "select type || ' ' || name || ' ' || coalesce(sql, '') as line from sqlite_master
             where tbl_name <> 'seaql_migrations' order by 1"
        }
        Kind::Postgres => {
            "select table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
                    || coalesce(collation_name, '') as line
             from information_schema.columns where table_schema = 'public' and table_name <> 'seaql_migrations'
             union all select indexdef from pg_indexes where schemaname = 'public' and tablename <> 'seaql_migrations'
             order by 1"
        }
    };
    let connection = db.connect().await;
    let found = rows(&connection, sql).await;
    found
        .iter()
        .map(|row| row.try_get("", "line").expect("a line of text"))
        .collect()
}

async fn is_ready(connection: &DatabaseConnection) -> bool {
    let answer = connection.execute_unprepared("select 1 from delivery").await;
    answer.is_ok()
}

both!(migrations_run_up_down_and_up_again, async |db| {
    let store = db.open(Clock::system()).await;
    let first = described(db).await;
    assert!(first.len() > 20, "the template is migrated");
    schema::check(&store).await.expect("the program fits its own schema");

    let steps = schema::status(&store).await.expect("a status");
    assert!(steps.iter().all(|step| step.state == StepState::Applied));
    let all = u32::try_from(steps.len()).expect("not so many");
    assert!(schema::change(&store, Change::Down(all)).await.expect("down runs"));
    assert_eq!(described(db).await, Vec::<String>::new(), "down leaves nothing behind");
    schema::check(&store).await.expect_err("an empty database is refused");

    assert!(schema::up(&store).await.expect("up runs"));
    assert_eq!(described(db).await, first, "up again makes the same schema");
    assert!(
        !schema::up(&store).await.expect("up runs once more"),
        "and then has nothing to do"
    );
    schema::check(&store).await.expect("the program fits");
});

both!(each_migration_can_be_taken_back_by_itself, async |db| {
    let store = db.open(Clock::system()).await;
    let first = described(db).await;
    let steps = schema::status(&store).await.expect("a status").len();
    for _ in 0..steps {
        assert!(schema::change(&store, Change::Down(1)).await.expect("one step down"));
        assert!(schema::up(&store).await.expect("and up again"));
        assert_eq!(described(db).await, first);
    }
});

postgres_only!(five_migrators_at_once_migrate_once, async |db| {
    let empty = db.empty_sibling().await;
    let mut stores = Vec::new();
    for _ in 0..5 {
        stores.push(empty.open(Clock::system()).await);
    }
    let migrating = stores.iter().map(|store| {
        let store = store.clone();
        tokio::spawn(async move { schema::up(&store).await })
    });
    let mut changed = 0;
    for one in migrating.collect::<Vec<_>>() {
        changed += usize::from(one.await.expect("no migrator panics").expect("no migrator fails"));
    }
    assert_eq!(changed, 1, "one migrates, four find it done");
    assert!(is_ready(&empty.connect().await).await);
    assert_eq!(described(&empty).await, described(db).await);
});
