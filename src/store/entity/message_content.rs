//! A message's payload, byte for byte, apart from the message so that hot reads never touch it.

use sea_orm::entity::prelude::*;

use crate::domain::timestamp::Timestamp;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "message_content")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub app_id: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub message_id: String,
    #[sea_orm(column_type = "Text")]
    pub body: String,
    /// Null: `application/json`.
    #[sea_orm(column_type = "Text", nullable)]
    pub content_type: Option<String>,
    /// When it may be removed: its message's `expires_at`.
    pub expires_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
