//! When and why an endpoint was disabled: by a person, because its receiver answered 410, or because it failed for too
//! long. Both columns are null while the endpoint is enabled, and for endpoints that were disabled before.
//!
//! The version before is safe on it: it lists the columns that it reads, and inserts endpoints without these. What it
//! disables has no instant and no reason; what it enables keeps both, so they count only while `disabled` is true.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

// Nullable columns without a default: Postgres adds them at once, without reading the table.
const UP: &str = "
alter table endpoint add column disabled_at bigint;
alter table endpoint add column disabled_reason smallint;
";

const DOWN: &str = "
alter table endpoint drop column disabled_reason;
alter table endpoint drop column disabled_at;
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
