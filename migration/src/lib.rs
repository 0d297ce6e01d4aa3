//! Every step of the schema, for SQLite and Postgres from the same code. Must not know the program's types.
//! Called by store/schema.rs, which holds the lock and decides what may run.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseBackend};

mod m20261123_000001_initial;
mod m20261123_000002_history;
mod m20261123_000003_background_task;
mod m20261123_000004_standing;
mod m20261123_000007_portal;
mod m20261123_000008_application_revision;
mod m20261123_000009_key_rotation;
mod m20261123_000010_process_keys;
mod m20261129_000011_revision;
mod m20261129_000012_living_endpoints;
mod m20261129_000013_taken_event_id;
mod m20261129_000014_janitor_turn;
mod m20261129_000015_history_vacuum;
mod m20261129_000016_held_snapshots;
mod m20261129_000017_task_turns;
mod m20261130_000018_function_search_path;
mod m20261130_000019_request_body;

pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_initial::Migration),
            Box::new(m20261123_000002_history::Migration),
            Box::new(m20261123_000003_background_task::Migration),
            Box::new(m20261123_000004_standing::Migration),
            Box::new(m20261123_000007_portal::Migration),
            Box::new(m20261123_000008_application_revision::Migration),
            Box::new(m20261123_000009_key_rotation::Migration),
            Box::new(m20261123_000010_process_keys::Migration),
            Box::new(m20261129_000011_revision::Migration),
            Box::new(m20261129_000012_living_endpoints::Migration),
            Box::new(m20261129_000013_taken_event_id::Migration),
            Box::new(m20261129_000014_janitor_turn::Migration),
            Box::new(m20261129_000015_history_vacuum::Migration),
            Box::new(m20261129_000016_held_snapshots::Migration),
            Box::new(m20261129_000017_task_turns::Migration),
            Box::new(m20261130_000018_function_search_path::Migration),
            Box::new(m20261130_000019_request_body::Migration),
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
