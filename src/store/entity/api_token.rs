//! A bearer token, stored as its hash: of an organization, or of one application.

use sea_orm::entity::prelude::*;

use super::json_text::JsonText;
use crate::domain::capability::Capability;
use crate::domain::timestamp::Timestamp;
#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "api_token")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    #[sea_orm(column_type = "Text")]
    pub org_id: String,
    /// Set: the token may act for this application only.
    #[sea_orm(column_type = "Text", nullable)]
    pub app_id: Option<String>,
    /// SHA-256 of the token, in hex.
    #[sea_orm(column_type = "Text", unique)]
    pub hash: String,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// The flags of event types that an application's token sees.
    #[sea_orm(column_type = "Text", nullable)]
    pub feature_flags: Option<JsonText<Vec<String>>>,
    /// What an application's token may do; null: everything that one may.
    #[sea_orm(column_type = "Text", nullable)]
    pub capabilities: Option<JsonText<Vec<Capability>>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
