//! The reply to a request that carried an idempotency key.

use sea_orm::entity::prelude::*;

use crate::domain::timestamp::Timestamp;
#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "idempotency")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub scope: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub key: String,
    /// Sealed.
    #[sea_orm(column_type = "Text")]
    pub reply: String,
    pub expires_at: Timestamp,
    /// The request's. None: it had no body, or was a message's, or an earlier version's.
    #[sea_orm(column_type = "Text", nullable)]
    pub body_hash: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
