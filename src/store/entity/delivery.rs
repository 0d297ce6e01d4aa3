//! One message for one endpoint, as long as there is something left to do: the queue.

use sea_orm::entity::prelude::*;

use crate::domain::delivery::Trigger;
use crate::domain::timestamp::Timestamp;
#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "delivery")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    #[sea_orm(column_type = "Text")]
    pub app_id: String,
    #[sea_orm(column_type = "Text")]
    pub message_id: String,
    #[sea_orm(column_type = "Text")]
    pub endpoint_id: String,
    pub trigger: Trigger,
    /// Attempts made; raised by settle.
    pub attempt: i32,
    /// When to send, or when the lease ends; none: parked.
    pub due_at: Option<Timestamp>,
    /// The process that holds the lease.
    #[sea_orm(column_type = "Text", nullable)]
    pub owner: Option<String>,
    /// Fences a settle: another lease, another number.
    pub lease_id: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
