//! Since when an endpoint fails. A column that may be null, so that a program of the version before works on.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "alter table endpoint add column failing_since bigint").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "alter table endpoint drop column failing_since").await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
