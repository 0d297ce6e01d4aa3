//! The table of running processes, with their heartbeats. Each process writes its own row, four times a second, and
//! reads those of all others. Used on Postgres only.

use sea_orm::entity::prelude::*;

use crate::domain::timestamp::Timestamp;
#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "process")]
pub struct Model {
    /// The owner id under which the process leases deliveries.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub owner: String,
    /// Rises with every heartbeat. It is part of the key, so that the present version of a row is found without reading
    /// the dead ones that a held snapshot keeps.
    #[sea_orm(primary_key, auto_increment = false)]
    pub beat: i64,
    pub started_at: Timestamp,
    /// The check values of the encryption keys that the process holds, separated by spaces. `None` means that an older
    /// version wrote the row.
    #[sea_orm(column_type = "Text", nullable)]
    pub key_checks: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
