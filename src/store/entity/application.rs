//! Describes the table of applications. An application is one customer of an organization.
//! Must not contain queries or rules.

use sea_orm::entity::prelude::*;

use std::collections::BTreeMap;

use super::json_text::JsonText;
use crate::domain::timestamp::Timestamp;
#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "application")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    #[sea_orm(column_type = "Text")]
    pub org_id: String,
    /// The organization's own name for the application, unique among those that are not deleted.
    #[sea_orm(column_type = "Text", nullable)]
    pub uid: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub name: String,
    /// The most requests per second to all endpoints together; `None` means no limit.
    pub throttle_rate: Option<i32>,
    #[sea_orm(column_type = "Text")]
    pub metadata: JsonText<BTreeMap<String, String>>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When the application was deleted; `None` means it was not.
    pub deleted_at: Option<Timestamp>,
    /// A random number that Postgres changes with each write of this row or of one of its endpoints or pollers. The intake
    /// compares it to know whether what it remembers still holds. Not used on SQLite.
    pub revision: i64,
    /// Whether the application has a poller that takes messages. The writes of pollers keep it.
    pub polled: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
