//! Describes the table of the janitor's turn. Its only row names the janitor that may remove what is past its
//! retention, and says when its turn ends.
//! Must not contain queries or rules.

use sea_orm::entity::prelude::*;

use crate::domain::timestamp::Timestamp;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "janitor_turn")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// The random name of the process' janitor; empty before the first turn.
    #[sea_orm(column_type = "Text")]
    pub owner: String,
    /// When the turn ends unless it is renewed.
    pub ends_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
