//! The table of background tasks. A task recovers or replays past messages of one endpoint; its row holds the choice of
//! messages and how far the task has come.
//!
//! Must not contain queries or rules.

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
    /// The start of the task's window, inclusive.
    pub since_at: Timestamp,
    /// The end of the task's window, exclusive.
    pub until_at: Timestamp,
    /// The filter of a bulk replay; `None` for other kinds.
    #[sea_orm(column_type = "Text", nullable)]
    pub filter: Option<JsonText<ReplayFilter>>,
    /// The id of the last attempt (of a recovery) or message (of a replay) that was looked at. At the start the first
    /// id that the window can have.
    #[sea_orm(column_type = "Text")]
    pub reached: String,
    /// The instant of that attempt or message.
    pub reached_at: Timestamp,
    /// The number of attempts or messages that were looked at.
    pub looked: i64,
    /// The number of messages that were queued.
    pub queued: i64,
    /// When the next step is due; `None` means the task has ended.
    pub due_at: Option<Timestamp>,
    /// Why the task failed; `None` means it did not.
    #[sea_orm(column_type = "Text", nullable)]
    pub failure: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
