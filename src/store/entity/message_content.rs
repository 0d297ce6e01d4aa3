//! The table of payloads. It is apart from the messages, so that frequent reads never touch a payload.

use sea_orm::entity::prelude::*;

use crate::domain::timestamp::Timestamp;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "message_content")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub app_id: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub message_id: String,
    /// The payload, byte for byte.
    #[sea_orm(column_type = "Text")]
    pub body: String,
    /// The payload's media type; `None` means `application/json`.
    #[sea_orm(column_type = "Text", nullable)]
    pub content_type: Option<String>,
    /// When the payload may be removed: the message's `expires_at`.
    pub expires_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
