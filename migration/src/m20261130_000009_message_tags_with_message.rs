//! The tags of a message, in the message's own row too.
//!
//! A list shows the tags of each message. Reading them from `message_tag` took a statement of its own for each page, a
//! fifth of the time of the whole request. That table stays for finding messages by a tag.
//!
//! The version before is safe on it: it neither reads nor writes the column. Tags of messages that it accepts meanwhile
//! are found, and not shown.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const COLUMN: &str = r#"
alter table message add column tags text
"#;

/// Fills the column, on each database with the order in which the program writes tags.
const POSTGRES: &str = r#"
update message m
set tags = t.tags
from (
    select app_id, message_id, '[' || string_agg(to_json(tag)::text, ',' order by tag) || ']' as tags
    from message_tag
    group by app_id, message_id
) as t
where m.app_id = t.app_id and m.id = t.message_id
"#;

const SQLITE: &str = r#"
update message
set tags = (
    select json_group_array(tag)
    from (select tag from message_tag t where t.app_id = message.app_id and t.message_id = message.id order by tag)
)
where (app_id, id) in (select app_id, message_id from message_tag)
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, COLUMN).await?;
        let fill = match manager.get_database_backend() {
            sea_orm_migration::sea_orm::DatabaseBackend::Postgres => POSTGRES,
            _ => SQLITE,
        };
        crate::run(manager, fill).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "alter table message drop column tags").await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
