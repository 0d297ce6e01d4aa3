//! Describes the table of event types. Within an organization each name is unique.
//! Must not contain queries or rules.

use sea_orm::entity::prelude::*;

use crate::domain::timestamp::Timestamp;
#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "event_type")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub org_id: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub name: String,
    #[sea_orm(column_type = "Text")]
    pub id: String,
    #[sea_orm(column_type = "Text")]
    pub description: String,
    pub archived: bool,
    pub deprecated: bool,
    /// A JSON object with a JSON Schema for each version, as text: parsed schemas take forty times their bytes.
    #[sea_orm(column_type = "Text", nullable)]
    pub schemas: Option<String>,
    /// The flag that an application's token needs to see the event type; `None` means none.
    #[sea_orm(column_type = "Text", nullable)]
    pub feature_flag: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
