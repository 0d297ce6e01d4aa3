//! The table of the audit log: an entry for each write of the API and of the command line.
//!
//! Must not contain queries or rules.

use sea_orm::entity::prelude::*;

use crate::domain::audit::{ActorKind, ObjectKind};
use crate::domain::timestamp::Timestamp;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    #[sea_orm(column_type = "Text")]
    pub org_id: String,
    /// The application that the write concerns; `None` means it concerns the organization.
    #[sea_orm(column_type = "Text", nullable)]
    pub app_id: Option<String>,
    pub created_at: Timestamp,
    pub actor_kind: ActorKind,
    /// The id of the token; `admin` for the configured one, `cli` for the command line, `system` for the program.
    #[sea_orm(column_type = "Text")]
    pub actor_id: String,
    /// The name that the token had; `None` means it had none.
    #[sea_orm(column_type = "Text", nullable)]
    pub actor_name: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub operation: String,
    pub object_kind: ObjectKind,
    #[sea_orm(column_type = "Text")]
    pub object_id: String,
    /// The changed fields before the write, as a JSON object; `None` means there was nothing before.
    #[sea_orm(column_type = "Text", nullable)]
    pub before_json: Option<String>,
    /// The changed fields after the write, as a JSON object; `None` means there is nothing after it.
    #[sea_orm(column_type = "Text", nullable)]
    pub after_json: Option<String>,
    /// The id of the request; `None` means that no request made the write.
    #[sea_orm(column_type = "Text", nullable)]
    pub request_id: Option<String>,
    /// The number of writes that have no entry of their own, in the entry that counts them; `None` in any other.
    pub further: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
