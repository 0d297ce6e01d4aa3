//! What is kept of failed attempts beside their answer, as JSON, and the last success of an endpoint in an hour.
//!
//! Columns and no tables: both go with their rows, by the same janitor. Both are null for what was written before, and
//! `detail` for each attempt that delivered its message, so that such a row takes no more bytes on Postgres, and one
//! more on SQLite.
//!
//! The version before is safe on it: it lists the columns that it reads, and inserts rows without these. When it merges
//! sums of several processes or hours, their last success is lost.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

// Nullable columns without a default: Postgres adds them at once, without reading the table.
const UP: &str = "
alter table attempt add column detail {text};
alter table endpoint_hour add column last_success bigint;
";

const DOWN: &str = "
alter table endpoint_hour drop column last_success;
alter table attempt drop column detail;
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
