//! Whose turn it is to remove what is kept no longer. One row.

use sea_orm::entity::prelude::*;

use crate::domain::timestamp::Timestamp;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "janitor_turn")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// A name that the process's janitor gave itself; empty before the first turn.
    #[sea_orm(column_type = "Text")]
    pub owner: String,
    pub ends_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
