//! The audit log: a row for each write of the API and of the command line.
//!
//! The version before is safe on it: it knows no audit log, and leaves no rows for what it writes.
//!
//! - The primary key is in order of time, and the janitor removes the oldest rows by it. The other indexes are for the
//!   list of an organization and its three filters.
//! - `audit_portal` holds what tokens of applications have written, so that it can be counted by application and day.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const TABLE: &str = r#"
create table audit (
    id {text} primary key not null,
    org_id {text} not null,
    app_id {text},
    created_at bigint not null,
    actor_kind {text} not null,
    actor_id {text} not null,
    actor_name {text},
    operation {text} not null,
    object_kind {text} not null,
    object_id {text} not null,
    before_json {text},
    after_json {text},
    request_id {text},
    further bigint
);
create index audit_organization on audit (org_id, id);
create index audit_actor on audit (org_id, actor_id, id);
create index audit_operation on audit (org_id, operation, id);
create index audit_object on audit (org_id, object_id, id);
create index audit_portal on audit (app_id, id) where actor_kind = 'portal';
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, TABLE).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "drop table audit").await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
