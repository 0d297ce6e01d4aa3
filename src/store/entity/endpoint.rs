//! An endpoint: where an application receives its webhooks.

use sea_orm::entity::prelude::*;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json_text::JsonText;
use crate::domain::timestamp::Timestamp;

/// A signing secret, sealed with the endpoint's id as context.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StoredSecret {
    pub sealed: String,
    /// UTC microseconds; a rotated secret signs until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "endpoint")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub app_id: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub uid: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub url: String,
    #[sea_orm(column_type = "Text")]
    pub description: String,
    pub disabled: bool,
    /// Event types it wants; none: all.
    #[sea_orm(column_type = "Text", nullable)]
    pub event_types: Option<JsonText<Vec<String>>>,
    #[sea_orm(column_type = "Text", nullable)]
    pub channels: Option<JsonText<Vec<String>>>,
    /// Requests a second.
    pub throttle_rate: Option<i32>,
    #[sea_orm(column_type = "Text")]
    pub metadata: JsonText<BTreeMap<String, String>>,
    /// Own headers, names as written.
    #[sea_orm(column_type = "Text")]
    pub headers: JsonText<BTreeMap<String, String>>,
    /// Newest first.
    #[sea_orm(column_type = "Text")]
    pub secrets: JsonText<Vec<StoredSecret>>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
