//! Which encryption keys a process holds. A column that may be null, so that a program of the version before works on.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "alter table process add column key_checks {text}").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "alter table process drop column key_checks").await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
