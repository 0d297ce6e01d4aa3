//! The table of links that sign in to the console and were not used yet. The code of a link is stored as its hash.
//!
//! Must not contain queries or rules.

use sea_orm::entity::prelude::*;

use crate::domain::role::Role;
use crate::domain::timestamp::Timestamp;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "console_link")]
pub struct Model {
    /// SHA-256 of the link's code, in hex.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub hash: String,
    #[sea_orm(column_type = "Text")]
    pub org_id: String,
    /// The role of the token that the link is changed for.
    pub role: Role,
    /// How long that token lives.
    pub minutes: i32,
    /// Who made the link, as in the table of tokens.
    #[sea_orm(column_type = "Text")]
    pub created_by: String,
    /// When the link can be used no more.
    pub expires_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
