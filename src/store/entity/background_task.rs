//! A recover or replay: what it is to queue again, and how far it has come.

use sea_orm::entity::prelude::*;

use super::json_text::JsonText;
use crate::domain::task::{ReplayFilter, TaskKind, TaskStatus};
use crate::domain::timestamp::Timestamp;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "background_task")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    #[sea_orm(column_type = "Text")]
    pub org_id: String,
    #[sea_orm(column_type = "Text")]
    pub app_id: String,
    #[sea_orm(column_type = "Text")]
    pub endpoint_id: String,
    pub kind: TaskKind,
    pub status: TaskStatus,
    pub since_at: Timestamp,
    /// Exclusive.
    pub until_at: Timestamp,
    #[sea_orm(column_type = "Text", nullable)]
    pub filter: Option<JsonText<ReplayFilter>>,
    /// The id of the last attempt (recover) or message that was looked at.
    #[sea_orm(column_type = "Text")]
    pub reached: String,
    /// Its instant.
    pub reached_at: Timestamp,
    /// How many were looked at.
    pub looked: i64,
    /// How many messages were queued.
    pub queued: i64,
    /// When the next step is due; none: the task has ended.
    pub due_at: Option<Timestamp>,
    /// Why it failed.
    #[sea_orm(column_type = "Text", nullable)]
    pub failure: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
