//! One row: what the database as a whole must remember.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "installation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// The check value of the encryption key that seals; set by the first process that has one.
    #[sea_orm(column_type = "Text", nullable)]
    pub key_check: Option<String>,
    /// That of the key before it, while something may still be sealed with that one.
    #[sea_orm(column_type = "Text", nullable)]
    pub former_key_check: Option<String>,
    /// The newest migration that a program must know to work on this schema.
    #[sea_orm(column_type = "Text")]
    pub compatible_since: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
