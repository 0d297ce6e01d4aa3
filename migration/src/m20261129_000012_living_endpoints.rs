//! Indexes that leave deleted endpoints out, or hold nothing but what is deleted: a customer may create and delete without
//! end, and what reads his endpoints must not read those that are gone. Deletion clears secrets and headers, and deletes
//! an application's endpoints with it; what was deleted before is made so here.
//! Safe for the version before: what it deletes keeps its secrets until it is removed.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: &str = "
create index endpoint_living on endpoint (app_id, id) where deleted_at is null;
create index endpoint_deleted on endpoint (deleted_at) where deleted_at is not null;
create index application_deleted on application (deleted_at) where deleted_at is not null;

update endpoint set deleted_at = (select deleted_at from application where application.id = endpoint.app_id)
    where deleted_at is null and app_id in (select id from application where deleted_at is not null);
update endpoint set secrets = '[]', headers = '{}' where deleted_at is not null;
";

const DOWN: &str = "
drop index application_deleted;
drop index endpoint_deleted;
drop index endpoint_living;
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
