//! Every step of the schema, for SQLite and Postgres from the same code. Must not know the program's types, hold the
//! migration lock or decide which steps may run: src/store/database/schema.rs of the program does both.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseBackend};

mod m20261130_000001_schema;
mod m20261130_000002_token_roles;
mod m20261130_000003_disabled_reason;
mod m20261130_000004_endpoint_hour;
mod m20261130_000005_message_tags;
mod m20261130_000006_audit;
mod m20261130_000007_attempt_detail;
mod m20261130_000008_console_link;
mod m20261130_000009_message_tags_with_message;
mod m20261130_000010_pollers;
mod m20261130_000011_result_index;

pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261130_000001_schema::Migration),
            Box::new(m20261130_000002_token_roles::Migration),
            Box::new(m20261130_000003_disabled_reason::Migration),
            Box::new(m20261130_000004_endpoint_hour::Migration),
            Box::new(m20261130_000005_message_tags::Migration),
            Box::new(m20261130_000006_audit::Migration),
            Box::new(m20261130_000007_attempt_detail::Migration),
            Box::new(m20261130_000008_console_link::Migration),
            Box::new(m20261130_000009_message_tags_with_message::Migration),
            Box::new(m20261130_000010_pollers::Migration),
            Box::new(m20261130_000011_result_index::Migration),
        ]
    }
}

/// Runs statements separated by `;`. `{text}` stands for a text column that sorts byte by byte: Postgres would
/// sort by locale. What stands between `{postgres}` and the end of its line is left out on SQLite.
async fn run(manager: &SchemaManager<'_>, statements: &str) -> Result<(), DbErr> {
    let postgres = manager.get_database_backend() == DatabaseBackend::Postgres;
    for statement in statements.split(';').map(str::trim).filter(|text| !text.is_empty()) {
        let sql: Vec<&str> = statement
            .lines()
            .map(|line| match line.split_once("{postgres}") {
                Some((shared, only)) if postgres => {
                    debug_assert!(shared.trim().is_empty());
                    only
                }
                Some((shared, _)) => shared,
                None => line,
            })
            .collect();
        let sql = sql
            .join("\n")
            .replace("{text}", if postgres { "text collate \"C\"" } else { "text" });
        if !sql.trim().is_empty() {
            manager.get_connection().execute_unprepared(&sql).await?;
        }
    }
    Ok(())
}
