//! Links that sign in to the console once, each as the hash of its code. Tokens that come of them are marked by
//! `session_id`, and removed after their end, for which they have an index of their own.
//!
//! The version before is safe on it: it knows neither the table nor the index. To it such a token is one of the
//! organization's, with its role and its end.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: &str = r#"
create table console_link (
    hash {text} not null primary key,
    org_id {text} not null,
    role smallint not null,
    minutes integer not null,
    created_by {text} not null,
    expires_at bigint not null
);
create index console_link_expires on console_link (expires_at);
create index api_token_session on api_token (expires_at) where app_id is null and session_id is not null;
"#;

const DOWN: &str = r#"
drop index api_token_session;
drop table console_link;
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
