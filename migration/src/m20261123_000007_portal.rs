//! What portal access and raw messages need: a message's own content type; what an application's token may see and do.
//! A program that does not know these columns would give a limited token every right, so none may serve any more.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = "alter table message_content add column content_type {text}; \
                       alter table api_token add column feature_flags {text}; \
                       alter table api_token add column capabilities {text}; \
                       create index api_token_expires on api_token (expires_at) where app_id is not null; \
                       update installation set compatible_since = 'm20261123_000007_portal'";
        crate::run(manager, columns).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = "update installation set compatible_since = 'm20261123_000001_initial'; \
                       drop index api_token_expires; \
                       alter table api_token drop column capabilities; \
                       alter table api_token drop column feature_flags; \
                       alter table message_content drop column content_type";
        crate::run(manager, columns).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
