//! Background tasks: a recover or replay, worked off in steps. Safe for the version before: it does not know the table.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: &str = "
create table background_task (
    id {text} not null primary key,
    org_id {text} not null,
    app_id {text} not null,
    endpoint_id {text} not null,
    kind smallint not null,
    status smallint not null,
    since_at bigint not null,
    until_at bigint not null,
    filter {text},
    reached {text} not null,
    reached_at bigint not null,
    looked bigint not null,
    queued bigint not null,
    due_at bigint,
    failure {text},
    created_at bigint not null,
    updated_at bigint not null
);
create index background_task_org on background_task (org_id, id);
create index background_task_due on background_task (due_at, id) where due_at is not null;
create index background_task_app on background_task (app_id, due_at);
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "drop table background_task").await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
