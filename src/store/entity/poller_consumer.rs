//! The table of the consumers of pollers: readers whose place the server keeps.
//!
//! Must not contain queries or rules.

use sea_orm::entity::prelude::*;

use crate::domain::timestamp::Timestamp;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "poller_consumer")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub poller_id: String,
    /// The caller's own name for the consumer.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub name: String,
    #[sea_orm(column_type = "Text")]
    pub app_id: String,
    /// The confirmed place, as the text of a `domain::cursor::Cursor`.
    #[sea_orm(column_type = "Text")]
    pub place: String,
    pub created_at: Timestamp,
    /// When the consumer was last used, not exactly: a poll that moves nothing writes it once an hour at most.
    pub used_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
