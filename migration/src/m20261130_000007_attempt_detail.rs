//! What is kept of failed attempts beside their answer, as JSON.
//!
//! A column and no table: it goes with its row, by the same janitor. It is null for what was written before, and for each
//! attempt that delivered its message, so that such a row takes no more bytes on Postgres, and one more on SQLite.
//!
//! The version before is safe on it: it lists the columns that it reads, and inserts rows without this one.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

// A nullable column without a default: Postgres adds it at once, without reading the table.
const UP: &str = "
alter table attempt add column detail {text};
";

const DOWN: &str = "
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
