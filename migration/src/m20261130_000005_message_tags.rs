//! The tags of messages, a row each, by which messages are found.
//!
//! The version before is safe on it: it knows no tags, so it neither writes nor reads the table. What the history of an
//! application still has here, the janitor of this version removes.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The primary key is for reading and removing the tags of a message, the index for finding the messages with a tag, in
/// the order of their ids.
const TABLE: &str = r#"
create table message_tag (
    app_id {text} not null,
    message_id {text} not null,
    tag {text} not null,
    primary key (app_id, message_id, tag)
);
create index message_tag_tag on message_tag (app_id, tag, message_id);
{postgres} alter table message_tag set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.005, autovacuum_vacuum_insert_threshold = 50000);
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, TABLE).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "drop table message_tag").await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
