//! A running process, by its heartbeat.

use sea_orm::entity::prelude::*;

use crate::domain::timestamp::Timestamp;
#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "process")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub owner: String,
    /// Rises with every sign of life. Part of the key, so that the living version of a row is found without the dead ones.
    #[sea_orm(primary_key, auto_increment = false)]
    pub beat: i64,
    pub started_at: Timestamp,
    /// The check values of the encryption keys that it holds, separated by spaces; null: an older version's.
    #[sea_orm(column_type = "Text", nullable)]
    pub key_checks: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
