//! The table of results. A result is the latest state of a message at an endpoint; its row exists from the first
//! settled outcome on.

use sea_orm::entity::prelude::*;

use crate::domain::delivery::ResultState;
use crate::domain::timestamp::Timestamp;
#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "delivery_result")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub app_id: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub message_id: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub endpoint_id: String,
    pub state: ResultState,
    /// When the next attempt is due; `None` means that none is scheduled.
    pub next_at: Option<Timestamp>,
    pub updated_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
