//! Which body a request with an idempotency key had, so that another one under the same key is refused. Safe for the version
//! before: it writes no hash, and what has none is compared with nothing.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "alter table idempotency add column body_hash {text}").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "alter table idempotency drop column body_hash").await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
