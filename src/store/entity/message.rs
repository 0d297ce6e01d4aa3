//! The table of messages. Rows are only added, and removed when their retention ends. The payload is in
//! `message_content`.

use sea_orm::entity::prelude::*;

use super::json_text::JsonText;
use crate::domain::timestamp::Timestamp;
#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "message")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub app_id: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    #[sea_orm(column_type = "Text")]
    pub event_type: String,
    /// The sender's own name for the message; no other message of the application has it for seven days.
    #[sea_orm(column_type = "Text", nullable)]
    pub event_id: Option<String>,
    /// The channels that the message is on; `None` means none.
    #[sea_orm(column_type = "Text", nullable)]
    pub channels: Option<JsonText<Vec<String>>>,
    /// The message's tags in alphabetical order; `None` means none. `message_tag` has them too, for finding messages.
    #[sea_orm(column_type = "Text", nullable)]
    pub tags: Option<JsonText<Vec<String>>>,
    pub created_at: Timestamp,
    /// When its payload may be removed.
    pub expires_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
