//! What portal access and raw messages need: a message's own content type; what an application's token may see and do.
//! Columns that may be null, so that a program of the version before works on.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = "alter table message_content add column content_type {text}; \
                       alter table api_token add column feature_flags {text}; \
                       alter table api_token add column capabilities {text}; \
                       create index api_token_expires on api_token (expires_at) where app_id is not null";
        crate::run(manager, columns).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = "drop index api_token_expires; \
                       alter table api_token drop column capabilities; \
                       alter table api_token drop column feature_flags; \
                       alter table message_content drop column content_type";
        crate::run(manager, columns).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
