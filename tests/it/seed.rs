//! `app seed`: the data that it creates, that a second run changes nothing, and that nothing is sent without a URL.

use std::collections::BTreeMap;

use sea_orm::DatabaseConnection;

use crate::harness::{Kind, Program, Receiver, TestDatabase, rows};

/// The tables that a seed fills even without a URL.
const FILLED: [&str; 5] = ["organization", "application", "event_type", "endpoint", "message"];

async fn lines(connection: &DatabaseConnection, sql: &str) -> Vec<String> {
    let found = rows(connection, sql).await;
    let lines = found.iter().map(|row| row.try_get("", "line").expect("a line of text"));
    lines.collect()
}

/// Returns every row of every table, with all columns.
async fn state_of(kind: Kind, connection: &DatabaseConnection) -> BTreeMap<String, Vec<String>> {
    let tables = match kind {
        Kind::Sqlite => "select name as line from sqlite_master where type = 'table' and name not like 'sqlite_%'",
        Kind::Postgres => "select tablename::text as line from pg_tables where schemaname = 'public'",
    };
    let mut state = BTreeMap::new();
    for table in lines(connection, tables).await {
        let row = match kind {
            Kind::Sqlite => {
                let columns = format!("select name as line from pragma_table_info('{table}')");
                let columns = lines(connection, &columns).await;
                let quoted: Vec<String> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
                quoted.join(" || ', ' || ")
            }
            Kind::Postgres => format!("\"{table}\"::text"),
        };
        let content = lines(connection, &format!("select {row} as line from \"{table}\" order by 1")).await;
        state.insert(table, content);
    }
    state
}

async fn count(db: &TestDatabase, sql: &str) -> usize {
    rows(&db.connect().await, sql).await.len()
}

both!(seeding_twice_changes_nothing, async |db| {
    let program = Program::on(db.url());
    let said = program.run(&["seed"]).await.ok();
    assert!(
        said.starts_with("made 2 organizations, 6 event types, 4 applications"),
        "{said}"
    );
    let connection = db.connect().await;
    let first = state_of(db.kind(), &connection).await;
    assert!(FILLED.iter().all(|table| first[*table].len() >= 2), "{first:?}");
    assert!(first.len() >= 14, "every table is compared: {:?}", first.keys());

    let said = program.run(&["seed", "--url", "http://127.0.0.1:1/"]).await.ok();
    assert!(said.starts_with("nothing to do"), "{said}");
    assert_eq!(state_of(db.kind(), &connection).await, first);
});

both!(
    without_a_url_the_endpoints_are_disabled_and_nothing_is_due,
    async |db| {
        Program::on(db.url()).run(&["seed"]).await.ok();
        assert!(count(db, "select 1 from message").await > 0);
        assert_eq!(count(db, "select 1 from endpoint where not disabled").await, 0);
        assert_eq!(count(db, "select 1 from delivery").await, 0);
    }
);

both!(with_a_url_a_running_serve_delivers_the_messages, async |db| {
    let receiver = Receiver::start().await;
    let program = Program::on(db.url()).env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8");
    let mut serving = program.serve().await;
    program.run(&["seed", "--url", &receiver.url()]).await.ok();
    let arrivals = receiver.wait_for(9).await;
    let to = |path: &str| arrivals.iter().filter(|arrival| arrival.path.ends_with(path)).count();
    assert_eq!(to("/fjord-crm"), 4, "an endpoint without a filter gets everything");
    assert_eq!(to("/fjord-fulfilment"), 2, "by event type");
    assert_eq!(to("/pine-books"), 1, "by channel");
    assert_eq!(to("/harbour-erp"), 2);
    assert_eq!(serving.stop().await, Some(0));
    assert_eq!(receiver.count(), 9, "each message arrives once");
});

both!(what_seed_printed_makes_tokens_for_its_organizations, async |db| {
    let program = Program::on(db.url());
    let said = program.run(&["seed"]).await.ok();
    assert!(
        said.contains("app token create --organization 'Northwind Shop'"),
        "{said}"
    );
    program
        .run(&["token", "create", "--organization", "Northwind Shop"])
        .await
        .ok();
    assert_eq!(
        count(db, "select 1 from organization").await,
        2,
        "no third organization was made"
    );
});

both!(a_url_that_no_path_can_follow_is_refused, async |db| {
    for url in ["ftp://x/", "http://x/?a=b", "nonsense"] {
        let line = Program::on(db.url()).run(&["seed", "--url", url]).await.failed(2);
        assert!(line.contains("--url"), "{line}");
    }
});

#[test]
fn the_demo_event_types_have_valid_schemas_with_an_example() {
    let demo: serde_json::Value = serde_json::from_str(include_str!("../../src/cli/seed/demo.json")).expect("JSON");
    let organizations = demo["organizations"].as_array().expect("a list");
    for event_type in organizations
        .iter()
        .flat_map(|org| org["eventTypes"].as_array().expect("a list"))
    {
        let schema = &event_type["schemas"]["1"];
        assert_eq!(
            postrider::domain::json_schema::check_json_schema(schema),
            Ok(()),
            "{event_type}"
        );
        assert!(schema["examples"][0].is_object(), "{event_type}");
    }
}
