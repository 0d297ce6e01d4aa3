//! One HTTP try: append-only.

use sea_orm::entity::prelude::*;

use crate::domain::delivery::Trigger;
use crate::domain::timestamp::Timestamp;
#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "attempt")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub app_id: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub message_id: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    #[sea_orm(column_type = "Text")]
    pub endpoint_id: String,
    #[sea_orm(column_type = "Text")]
    pub url: String,
    pub trigger: Trigger,
    pub delivered: bool,
    /// 0: no answer.
    pub response_status: i32,
    /// The answer's body, capped, or why there was none.
    #[sea_orm(column_type = "Text")]
    pub response: String,
    pub duration_ms: i64,
    pub created_at: Timestamp,
    pub next_at: Option<Timestamp>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
