//! The entities against the migrations: the table that SeaORM would create for an entity is the one that the migrations
//! make.

use std::collections::{BTreeMap, BTreeSet};

use postrider::store::entity;
use sea_orm::{ConnectionTrait, DatabaseConnection, EntityTrait, Schema};

use crate::harness::{Kind, TestDatabase, rows};

/// Column -> type, nullability and place in the primary key.
type Columns = BTreeMap<String, String>;

async fn create<E: EntityTrait>(on: &DatabaseConnection, entity: E) {
    let table = Schema::new(on.get_database_backend()).create_table_from_entity(entity);
    on.execute(&table).await.expect("an entity's table can be created");
}

async fn create_all(on: &DatabaseConnection) {
    create(on, entity::api_token::Entity).await;
    create(on, entity::application::Entity).await;
    create(on, entity::attempt::Entity).await;
    create(on, entity::audit::Entity).await;
    create(on, entity::background_task::Entity).await;
    create(on, entity::console_link::Entity).await;
    create(on, entity::delivery::Entity).await;
    create(on, entity::delivery_result::Entity).await;
    create(on, entity::endpoint::Entity).await;
    create(on, entity::endpoint_hour::Entity).await;
    create(on, entity::event_type::Entity).await;
    create(on, entity::idempotency::Entity).await;
    create(on, entity::installation::Entity).await;
    create(on, entity::janitor_turn::Entity).await;
    create(on, entity::message::Entity).await;
    create(on, entity::message_content::Entity).await;
    create(on, entity::message_tag::Entity).await;
    create(on, entity::organization::Entity).await;
    create(on, entity::poll_epoch::Entity).await;
    create(on, entity::poll_item::Entity).await;
    create(on, entity::poller::Entity).await;
    create(on, entity::poller_consumer::Entity).await;
    create(on, entity::process::Entity).await;
    create(on, entity::taken_event_id::Entity).await;
}

/// Returns table -> columns, as the database describes them.
async fn described(db: &TestDatabase) -> BTreeMap<String, Columns> {
    let sql = match db.kind() {
        Kind::Sqlite => {
            "select m.name as table_name, c.name as column_name,
                    lower(c.type) || ' nullable=' || (c.\"notnull\" = 0) || ' key=' || c.pk as description
             from sqlite_master m, pragma_table_info(m.name) c where m.type = 'table'"
        }
        Kind::Postgres => {
            "select c.table_name::text, c.column_name::text,
                    c.data_type || ' nullable=' || (c.is_nullable = 'YES') || ' key=' || coalesce(k.ordinal_position, 0)
                    as description
             from information_schema.columns c
             left join information_schema.table_constraints t on t.table_schema = c.table_schema
                  and t.table_name = c.table_name and t.constraint_type = 'PRIMARY KEY'
             left join information_schema.key_column_usage k on k.constraint_schema = t.constraint_schema
                  and k.constraint_name = t.constraint_name and k.table_name = c.table_name
                  and k.column_name = c.column_name
             where c.table_schema = 'public'"
        }
    };
    let connection = db.connect().await;
    let mut tables: BTreeMap<String, Columns> = BTreeMap::new();
    for row in rows(&connection, sql).await {
        let text = |name| row.try_get::<String>("", name).expect("a text");
        let columns = tables.entry(text("table_name")).or_default();
        columns.insert(text("column_name"), affinity(db.kind(), &text("description")));
    }
    tables.remove("seaql_migrations");
    tables
}

/// Returns the description with all integer types of SQLite made equal: SQLite keeps a type's name as it was written
/// and treats all integers alike (SQLite documentation, "Datatypes").
fn affinity(kind: Kind, description: &str) -> String {
    match description.split_once(' ') {
        Some((name, rest)) if kind == Kind::Sqlite && name.contains("int") => format!("integer {rest}"),
        _ => description.to_owned(),
    }
}

both!(entities_and_migrations_describe_the_same_tables, async |db| {
    let other = db.empty_sibling().await;
    create_all(&other.connect().await).await;
    let by_entities = described(&other).await;
    let by_migrations = described(db).await;
    let names = |tables: &BTreeMap<String, Columns>| tables.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        names(&by_entities),
        names(&by_migrations),
        "each table has an entity, listed in this test"
    );
    for (table, columns) in by_migrations {
        assert_eq!(
            by_entities[&table], columns,
            "entity (left) and migration (right) of {table}"
        );
    }
});
