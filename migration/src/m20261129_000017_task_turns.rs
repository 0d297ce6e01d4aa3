//! Background tasks that have not ended, by application: applications take turns. Replaces an index that has those that
//! ended too. Safe for the version before: what it asks for is in the new index.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: &str = "
create index background_task_turn on background_task (app_id, due_at, id) where due_at is not null;
drop index background_task_app;
";

const DOWN: &str = "
create index background_task_app on background_task (app_id, due_at);
drop index background_task_turn;
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
