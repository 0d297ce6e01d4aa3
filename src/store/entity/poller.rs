//! The table of pollers. A poller is a filter of an application's messages, which are kept for programs that ask.
//!
//! Must not contain queries or rules.

use sea_orm::entity::prelude::*;

use super::endpoint::StoredSecret;
use super::json_text::JsonText;
use crate::domain::poller_number::PollerNumber;
use crate::domain::timestamp::Timestamp;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "poller")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub app_id: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    /// Names the poller in the rows of its messages. Unique.
    pub number: PollerNumber,
    /// The caller's own name for the poller, unique in its application.
    #[sea_orm(column_type = "Text", nullable)]
    pub uid: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub description: String,
    /// Whether new messages are left out. Those from before can still be read.
    pub disabled: bool,
    /// The event types that the poller wants; `None` means all.
    #[sea_orm(column_type = "Text", nullable)]
    pub event_types: Option<JsonText<Vec<String>>>,
    /// The channels of which a message must have at least one; `None` means any message.
    #[sea_orm(column_type = "Text", nullable)]
    pub channels: Option<JsonText<Vec<String>>>,
    /// The signing secrets, newest first, sealed with the poller's id as context.
    #[sea_orm(column_type = "Text")]
    pub secrets: JsonText<Vec<StoredSecret>>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
