//! The table with one row for what concerns the database as a whole.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "installation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// The check value of the encryption key that seals; `None` until the first process with a key has started.
    #[sea_orm(column_type = "Text", nullable)]
    pub key_check: Option<String>,
    /// The check value of the former key, as long as something may still be sealed with it; `None` if no rotation is
    /// under way.
    #[sea_orm(column_type = "Text", nullable)]
    pub former_key_check: Option<String>,
    /// The name of the newest migration that a program must know to work on this schema.
    #[sea_orm(column_type = "Text")]
    pub compatible_since: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
