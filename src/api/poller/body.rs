//! The bodies of pollers in requests and responses.
//!
//! The filter has an older name, `filterTypes`, as that of endpoints has. Must not know the rules of single fields: the
//! domain has them.

use poem_openapi::Object;
use poem_openapi::types::MaybeUndefined;
use serde::{Deserialize, Serialize};

use crate::api::endpoint::body::{FilterField, channels, event_types, filter};
use crate::api::wire::fields::{change, text, uid};
use crate::api::wire::values::{Instant, present};
use crate::domain::id::Prefix;
use crate::error::Result;
use crate::store::entity::api_token::Model as Token;
use crate::store::entity::poller::Model;
use crate::store::poller::{Change, Content};

/// The content of a poller. A PUT replaces all that it had before but its secret.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct PollerIn {
    /// The caller's own identifier, unique among the application's pollers.
    #[oai(
        nullable,
        validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")
    )]
    uid: Option<String>,
    #[oai(nullable, validator(max_length = 4096))]
    description: Option<String>,
    /// Whether new messages are left out. Those from before can still be read.
    #[oai(nullable)]
    disabled: Option<bool>,
    /// Only messages of these event types; null: of all.
    #[oai(nullable, validator(min_items = 1, max_items = 1000))]
    event_types: Option<Vec<String>>,
    /// The older name of `eventTypes`, which takes precedence.
    #[oai(nullable, deprecated, validator(min_items = 1, max_items = 1000))]
    filter_types: Option<Vec<String>>,
    /// Only messages on one of these channels; null: on any.
    #[oai(nullable, validator(min_items = 1, max_items = 10))]
    channels: Option<Vec<String>>,
}

impl PollerIn {
    /// Returns under which of its two names the caller gave the filter.
    pub fn filter_field(&self) -> FilterField {
        FilterField(self.event_types.is_some())
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    pub fn read(self) -> Result<Content> {
        Ok(Content {
            uid: self.uid.map(|text| uid(text, Prefix::Poller)).transpose()?,
            description: text("description", self.description.unwrap_or_default())?,
            disabled: self.disabled.unwrap_or_default(),
            event_types: filter(self.event_types, self.filter_types)?,
            channels: self.channels.map(channels).transpose()?,
        })
    }
}

/// Changes to a poller; an absent field keeps its value.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(rename_all = "camelCase", default)]
#[oai(rename_all = "camelCase")]
pub struct PollerPatch {
    #[oai(
        nullable,
        validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")
    )]
    uid: MaybeUndefined<String>,
    #[serde(deserialize_with = "present")]
    #[oai(validator(max_length = 4096))]
    description: Option<String>,
    #[serde(deserialize_with = "present")]
    disabled: Option<bool>,
    #[oai(nullable, validator(min_items = 1, max_items = 1000))]
    event_types: MaybeUndefined<Vec<String>>,
    /// The older name of `eventTypes`, which takes precedence.
    #[oai(nullable, deprecated, validator(min_items = 1, max_items = 1000))]
    filter_types: MaybeUndefined<Vec<String>>,
    #[oai(nullable, validator(min_items = 1, max_items = 10))]
    channels: MaybeUndefined<Vec<String>>,
}

impl PollerPatch {
    /// Returns under which of its two names the caller gave the filter.
    pub fn filter_field(&self) -> FilterField {
        FilterField(!self.event_types.is_undefined())
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    pub fn read(self) -> Result<Change> {
        let older = change(self.filter_types, |list| event_types("filterTypes", list))?;
        let filter = change(self.event_types, |list| event_types("eventTypes", list))?;
        Ok(Change {
            uid: change(self.uid, |text| uid(text, Prefix::Poller))?,
            description: self
                .description
                .map(|description| text("description", description))
                .transpose()?,
            disabled: self.disabled,
            event_types: filter.or(older),
            channels: change(self.channels, channels)?,
            secrets: None,
        })
    }
}

/// A poller: messages of an application that are kept for a program that asks for them.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct PollerOut {
    id: String,
    #[oai(nullable)]
    uid: Option<String>,
    description: String,
    disabled: bool,
    #[oai(nullable)]
    event_types: Option<Vec<String>>,
    /// The same as `eventTypes`, under its older name.
    #[oai(nullable, deprecated)]
    filter_types: Option<Vec<String>>,
    #[oai(nullable)]
    channels: Option<Vec<String>>,
    created_at: Instant,
    updated_at: Instant,
}

impl From<Model> for PollerOut {
    fn from(row: Model) -> Self {
        let event_types = row.event_types.map(|list| list.0);
        Self {
            id: row.id,
            uid: row.uid,
            description: row.description,
            disabled: row.disabled,
            event_types: event_types.clone(),
            filter_types: event_types,
            channels: row.channels.map(|list| list.0),
            created_at: Instant(row.created_at),
            updated_at: Instant(row.updated_at),
        }
    }
}

/// A token to make, which reads the messages of one poller.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct PollerTokenIn {
    /// The name by which people know the token; no control characters.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub name: String,
    /// When the token ends. Default: never.
    #[oai(nullable)]
    pub expires_at: Option<Instant>,
}

/// A token of a poller, without the token itself.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct PollerTokenOut {
    id: String,
    #[oai(nullable)]
    name: Option<String>,
    created_at: Instant,
    /// When the token ends; null: never.
    #[oai(nullable)]
    expires_at: Option<Instant>,
    /// The minute in which the token was last used; a use is shown after a minute. Null: never.
    #[oai(nullable)]
    last_used_at: Option<Instant>,
    /// The id of the token that made it, or `admin` for the configured one.
    #[oai(nullable)]
    created_by: Option<String>,
}

impl From<Token> for PollerTokenOut {
    fn from(row: Token) -> Self {
        Self {
            id: row.id,
            name: row.name,
            created_at: Instant(row.created_at),
            expires_at: row.expires_at.map(Instant),
            last_used_at: row.last_used_at.map(Instant),
            created_by: row.created_by,
        }
    }
}

/// A token of a poller that was just made.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct PollerTokenCreatedOut {
    #[serde(flatten)]
    #[oai(flatten)]
    pub row: PollerTokenOut,
    /// The token. It is shown only once.
    pub token: String,
}
