//! Trigger functions find their tables in the schema that they are in, whatever `search_path` the session has that fires
//! them: of a session that puts another schema first they would write that one's tables, or fail. Safe for the version
//! before.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `pg_temp` last: if it is not named, temporary tables come first.
const PATH: &str = "set search_path = pg_catalog, %1$I, pg_temp";
const NONE: &str = "reset search_path";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        alter(manager, PATH).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        alter(manager, NONE).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// SQLite has neither functions nor schemas.
async fn alter(manager: &SchemaManager<'_>, change: &str) -> Result<(), DbErr> {
    if manager.get_database_backend() != DatabaseBackend::Postgres {
        return Ok(());
    }
    for function in ["application_changed", "endpoint_changed"] {
        let sql = format!(
            "do $$ begin execute format('alter function %1$I.{function}() {change}', current_schema()); end $$"
        );
        manager.get_connection().execute_unprepared(&sql).await?;
    }
    Ok(())
}
