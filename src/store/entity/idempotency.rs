//! The table of replies to requests that carried an idempotency key.

use sea_orm::entity::prelude::*;

use crate::domain::timestamp::Timestamp;
#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "idempotency")]
pub struct Model {
    /// The id of the request's token.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub scope: String,
    /// SHA-256, in hex, of the URI, a line feed and the value of the key's header.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub key: String,
    /// The reply. Sealed, except the reply to a message, which is `application/message/instant` in clear. Empty until
    /// the transaction that has claimed the key stores it.
    #[sea_orm(column_type = "Text")]
    pub reply: String,
    pub expires_at: Timestamp,
    /// The hash of the request's body. `None` means that the request had no body, that it was a message, or that an
    /// earlier version wrote the row.
    #[sea_orm(column_type = "Text", nullable)]
    pub body_hash: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
