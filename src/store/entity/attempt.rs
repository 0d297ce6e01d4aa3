//! The table of attempts. An attempt is one HTTP request to an endpoint; rows are only added, and removed when their
//! retention ends. The answer's text can be removed before.
//!
//! Must not contain queries or rules.

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
    /// The URL that was called.
    #[sea_orm(column_type = "Text")]
    pub url: String,
    pub trigger: Trigger,
    pub delivered: bool,
    /// The status of the answer; 0 means there was no answer.
    pub response_status: i32,
    /// The answer's body, cut to a maximum, or the reason why there was no answer.
    #[sea_orm(column_type = "Text")]
    pub response: String,
    pub duration_ms: i64,
    /// When the attempt began.
    pub created_at: Timestamp,
    /// When the next attempt of the delivery is due; `None` means there is none.
    pub next_at: Option<Timestamp>,
    /// What is kept of a failed attempt, as [`crate::domain::failure::Failure`]; `None` for one that delivered the
    /// message, and for those from before this was kept.
    #[sea_orm(column_type = "Text", nullable)]
    pub detail: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
