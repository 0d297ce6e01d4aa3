//! The migrations on both databases: up, down and up again, and by several processes at once.

use postrider::clock::Clock;
use postrider::store::database::schema::{self, Change, StepState};
use sea_orm::{ConnectionTrait, DatabaseConnection};

use crate::harness::{Kind, TestDatabase, rows};

/// Returns everything that the schema consists of, as the database itself describes it, without its list of migrations.
async fn described(db: &TestDatabase) -> Vec<String> {
    let sql = match db.kind() {
        Kind::Sqlite => {
            "select type || ' ' || name || ' ' || coalesce(sql, '') as line from sqlite_master
             where tbl_name <> 'seaql_migrations' order by 1"
        }
        Kind::Postgres => {
            "with relation as (select oid, relname, relkind,
                         (select array_agg(option order by option) from unnest(reloptions) as option) as reloptions,
                         reltoastrelid from pg_class
                         where relnamespace = 'public'::regnamespace and relname not like 'seaql_migrations%')
             select table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
                    || coalesce(collation_name, '') || coalesce(' default ' || column_default, '') as line
             from information_schema.columns where table_schema = 'public' and table_name <> 'seaql_migrations'
             union all select indexdef from pg_indexes where schemaname = 'public' and tablename <> 'seaql_migrations'
             union all select relkind::text || ' ' || relname || coalesce(' with ' || reloptions::text, '')
                 from relation
             union all select 'toast of ' || relation.relname || ' with ' || toast.reloptions::text
                 from relation join pg_class toast on toast.oid = relation.reltoastrelid
                 where toast.reloptions is not null
             union all select relation.relname || ' constraint ' || conname || ' '
                 || pg_get_constraintdef(pg_constraint.oid)
                 from relation join pg_constraint on conrelid = relation.oid
             union all select tgenabled::text || ' ' || pg_get_triggerdef(pg_trigger.oid)
                 from relation join pg_trigger on tgrelid = relation.oid where not tgisinternal
             union all select pg_get_functiondef(oid) from pg_proc
                 where pronamespace = 'public'::regnamespace and prokind in ('f', 'p')
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
        "a third run has nothing to do"
    );
    schema::check(&store).await.expect("the program fits");
});

both!(each_migration_can_be_taken_back_by_itself, async |db| {
    let store = db.open(Clock::system()).await;
    let first = described(db).await;
    let steps = schema::status(&store).await.expect("a status").len();
    for _ in 0..steps {
        assert!(schema::change(&store, Change::Down(1)).await.expect("one step down"));
        assert!(schema::up(&store).await.expect("up again"));
        assert_eq!(described(db).await, first);
    }
    for down in 1..=u32::try_from(steps).expect("not so many") {
        for _ in 0..down {
            assert!(schema::change(&store, Change::Down(1)).await.expect("a step down"));
        }
        assert!(schema::up(&store).await.expect("up again"));
        assert_eq!(described(db).await, first, "the last {down} again");
    }
});

both!(a_token_from_before_roles_is_an_admin_s, async |db| {
    let store = db.open(Clock::system()).await;
    let steps = schema::status(&store).await.expect("a status");
    let at = steps.iter().position(|step| step.name.ends_with("token_roles"));
    let after = u32::try_from(steps.len() - at.expect("the step")).expect("not so many");
    schema::change(&store, Change::Down(after)).await.expect("down");
    let connection = db.connect().await;
    let insert = "insert into api_token (id, org_id, hash, created_at) values ('tok_1', 'org', 'hash', 0)";
    connection.execute_unprepared(insert).await.expect("a token");
    schema::up(&store).await.expect("up");
    let found = rows(&connection, "select name, role, created_by from api_token").await;
    let text = |column| found[0].try_get::<Option<String>>("", column).expect("a text");
    assert_eq!(found[0].try_get::<i16>("", "role").expect("a role"), 0);
    assert_eq!((text("name"), text("created_by")), (None, None));
});

both!(a_message_from_before_shows_the_tags_that_it_has, async |db| {
    let store = db.open(Clock::system()).await;
    let steps = schema::status(&store).await.expect("a status");
    let at = steps
        .iter()
        .position(|step| step.name.ends_with("message_tags_with_message"));
    let after = u32::try_from(steps.len() - at.expect("the step")).expect("not so many");
    schema::change(&store, Change::Down(after)).await.expect("down");
    let connection = db.connect().await;
    for insert in [
        "insert into message (app_id, id, event_type, created_at, expires_at)
         values ('app', 'msg_1', 'a', 0, 1), ('app', 'msg_2', 'a', 0, 1)",
        r#"insert into message_tag (app_id, message_id, tag)
           values ('app', 'msg_1', 'z'), ('app', 'msg_1', 'A "b" é'), ('other', 'msg_2', 'x')"#,
    ] {
        connection.execute_unprepared(insert).await.expect(insert);
    }
    schema::up(&store).await.expect("up");
    let found = rows(&connection, "select tags from message order by id").await;
    let tags = |row: usize| found[row].try_get::<Option<String>>("", "tags").expect("a text");
    assert_eq!(tags(0).as_deref(), Some(r#"["A \"b\" é","z"]"#));
    assert_eq!(tags(1), None);
});

postgres_only!(triggers_functions_defaults_and_storage_are_compared, async |db| {
    let connection = db.connect().await;
    for (change, back) in [
        (
            "alter table endpoint disable trigger endpoint_insert",
            "alter table endpoint enable trigger endpoint_insert",
        ),
        (
            "alter table application alter column revision drop default",
            "alter table application alter column revision set default 0",
        ),
        (
            "alter table delivery reset (autovacuum_vacuum_cost_delay)",
            "alter table delivery set (autovacuum_vacuum_cost_delay = 0)",
        ),
        (
            "create function more() returns int language sql as 'select 1'",
            "drop function more()",
        ),
        ("drop trigger application_changed on application", ""),
        ("drop function endpoint_changed() cascade", ""),
    ] {
        let before = described(db).await;
        connection.execute_unprepared(change).await.expect(change);
        assert_ne!(described(db).await, before, "{change}");
        if !back.is_empty() {
            connection.execute_unprepared(back).await.expect(back);
            assert_eq!(described(db).await, before, "{back}");
        }
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
    for migrator in migrating.collect::<Vec<_>>() {
        changed += usize::from(migrator.await.expect("no migrator panics").expect("no migrator fails"));
    }
    assert_eq!(changed, 1, "one migrates, four find it done");
    assert!(is_ready(&empty.connect().await).await);
    assert_eq!(described(&empty).await, described(db).await);
});

postgres_only!(history_is_vacuumed_before_much_of_it_is_new_or_gone, async |db| {
    let sql = "select relname from pg_class where relnamespace = 'public'::regnamespace \
               and 'autovacuum_vacuum_scale_factor=0.01' = any(reloptions) \
               and 'autovacuum_vacuum_insert_scale_factor=0.005' = any(reloptions) order by 1";
    let found = rows(&db.connect().await, sql).await;
    let found: Vec<String> = found.iter().map(|row| row.try_get("", "relname").unwrap()).collect();
    assert_eq!(
        found,
        [
            "attempt",
            "delivery_result",
            "message",
            "message_content",
            "message_tag",
            "poll_item"
        ]
    );
});

postgres_only!(
    functions_find_their_tables_whatever_schema_a_session_puts_first,
    async |db| {
        let connection = db.connect().await;
        let open = "select proname from pg_proc where pronamespace = 'public'::regnamespace
            and not coalesce('search_path=pg_catalog, public, pg_temp' = any(proconfig), false)";
        assert_eq!(
            rows(&connection, open).await.len(),
            0,
            "each function sets its search_path"
        );
        for sql in [
            "create schema strange",
            "create table strange.application (id text, revision bigint)",
            "insert into strange.application values ('app_1', 7)",
            "set search_path = strange, public",
            "create temporary table application (id text, revision bigint)",
            "insert into public.application (id, org_id, name, metadata, created_at, updated_at)
                values ('app_1', 'org', '', '{}', 0, 0)",
            "insert into public.endpoint (app_id, id, url, description, disabled, metadata, headers, secrets, created_at,
                updated_at) values ('app_1', 'ep_1', '', '', false, '{}', '{}', '[]', 0, 0)",
        ] {
            connection.execute_unprepared(sql).await.expect(sql);
        }
        let revisions =
            "select (select revision from public.application) as own, revision as strange from strange.application";
        let found = rows(&connection, revisions).await;
        let revision = |name| found[0].try_get::<i64>("", name).expect("a number");
        assert_ne!(
            revision("own"),
            0,
            "the endpoint's trigger has changed its application's revision"
        );
        assert_eq!(revision("strange"), 7);
    }
);
