//! Which encryption key is being replaced. A column that may be null, so that a program of the version before works on.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "alter table installation add column former_key_check {text}").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "alter table installation drop column former_key_check").await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
