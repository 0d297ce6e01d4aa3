//! The table of messages in the order of pollers: a row for each message that a poller wants. The intake adds rows with
//! their messages; retention removes them with their messages.
//!
//! Must not contain queries or rules.

use sea_orm::entity::prelude::*;

use crate::domain::poller_number::PollerNumber;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "poll_item")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub poller_number: PollerNumber,
    /// The number of the transaction that stored the message, with the number of its epoch in the bits above 48.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tx: i64,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub message_id: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
