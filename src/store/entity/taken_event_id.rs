//! The table of event ids that no other message of their application may have until they expire.

use sea_orm::entity::prelude::*;

use crate::domain::timestamp::Timestamp;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "taken_event_id")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub app_id: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub event_id: String,
    pub expires_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
