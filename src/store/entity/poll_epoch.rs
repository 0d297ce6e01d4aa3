//! The table of epochs: the histories of transaction numbers that the database has had, oldest first.
//!
//! Must not contain queries or rules.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "poll_epoch")]
pub struct Model {
    /// At most 32,767, because it stands in the bits of a place above 48.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// On Postgres what `poll_identity()` returns in this epoch; on SQLite always the same text. Several epochs have the
    /// same one if a database has come back to a cluster.
    #[sea_orm(column_type = "Text")]
    pub identity: String,
    /// SQLite: the number of the last transaction that stored rows for pollers. 0 on Postgres.
    pub last: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
