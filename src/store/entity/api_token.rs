//! The table of API tokens. A bearer token belongs to an organization or to one of its applications, and is stored as
//! its hash.
//!
//! Must not contain queries or rules.

use sea_orm::entity::prelude::*;

use super::json_text::JsonText;
use crate::domain::capability::Capability;
use crate::domain::role::Role;
use crate::domain::timestamp::Timestamp;

#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "api_token")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    #[sea_orm(column_type = "Text")]
    pub org_id: String,
    /// The application to which the token is limited; `None` means it acts for the whole organization.
    #[sea_orm(column_type = "Text", nullable)]
    pub app_id: Option<String>,
    /// SHA-256 of the token, in hex; after `limited:` if the role is not `admin`, after `poller:` if it reads a poller.
    #[sea_orm(column_type = "Text", unique)]
    pub hash: String,
    pub created_at: Timestamp,
    /// When the token expires; `None` means never.
    pub expires_at: Option<Timestamp>,
    /// When the token was revoked; `None` means it was not.
    pub revoked_at: Option<Timestamp>,
    /// The feature flags of an application's token: it sees the event types with one of them, and those without a flag.
    /// `None` means no flags.
    #[sea_orm(column_type = "Text", nullable)]
    pub feature_flags: Option<JsonText<Vec<String>>>,
    /// The capabilities of an application's token; `None` means all that such a token can have.
    #[sea_orm(column_type = "Text", nullable)]
    pub capabilities: Option<JsonText<Vec<Capability>>>,
    /// The name by which people know the token; `None` means it has none.
    #[sea_orm(column_type = "Text", nullable)]
    pub name: Option<String>,
    /// What an organization's token may do. An application's token has the default, which means nothing.
    pub role: Role,
    /// The minute in which the token was last used, as far as it is recorded; `None` means never. The record of uses
    /// writes it.
    pub last_used_at: Option<Timestamp>,
    /// Who made the token: the id of a token, `admin` for the configured one, `cli` or `system`. `None` means that a
    /// version of the program made it that did not record this.
    #[sea_orm(column_type = "Text", nullable)]
    pub created_by: Option<String>,
    /// The caller's name for the session for which an application's token was made. `console` for a token of an
    /// organization with which somebody has signed in to the console. `None` means no session.
    #[sea_orm(column_type = "Text", nullable)]
    pub session_id: Option<String>,
    /// The poller that the token reads, and nothing else. `None` means a token of another kind.
    #[sea_orm(column_type = "Text", nullable)]
    pub poller_id: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
