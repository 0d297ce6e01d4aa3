//! Names, roles and the last use of API tokens, who made them, and for which session. Organizations' tokens have an index of their own,
//! because an organization may have very many tokens of applications. Background tasks have one by application, whose
//! tokens list them.
//!
//! The version before is safe on it. It inserts tokens without these columns, which are then tokens of admins, as all
//! of its tokens are. It does not know roles, and would give every token all rights: so the hash of a token with
//! another role is stored in a form that it never looks up (`limited` in src/domain/token.rs), and to it such a token
//! is unknown.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: &str = r#"
alter table api_token add column name {text};
alter table api_token add column role smallint not null default 0;
alter table api_token add column last_used_at bigint;
alter table api_token add column created_by {text};
alter table api_token add column session_id {text};
create index api_token_organization on api_token (org_id, id) where app_id is null;
create index api_token_app on api_token (app_id) where app_id is not null;
create index background_task_app on background_task (app_id, id);
"#;

const DOWN: &str = r#"
drop index background_task_app;
drop index api_token_app;
drop index api_token_organization;
alter table api_token drop column session_id;
alter table api_token drop column created_by;
alter table api_token drop column last_used_at;
alter table api_token drop column role;
alter table api_token drop column name;
"#;

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
