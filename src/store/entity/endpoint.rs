//! An endpoint: where an application receives its webhooks.

use sea_orm::entity::prelude::*;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json_text::JsonText;
use crate::domain::encryption_keys::EncryptionKeys;
use crate::domain::secret::{Encryptor, SealError};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Result};

/// A signing secret, sealed with the endpoint's id as context.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StoredSecret {
    pub sealed: String,
    /// UTC microseconds; a rotated secret signs until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

/// Own headers, names as written: sealed, for they often hold credentials. Rows that an earlier version wrote are in clear
/// until they are changed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct StoredHeaders(BTreeMap<String, String>);

/// Sealed headers are one entry with this name, which no header has. An earlier version of the program can read such a
/// row, and its attempts fail instead of going out without their headers.
const SEALED: &str = "";

impl StoredHeaders {
    pub fn seal(headers: &BTreeMap<String, String>, encryptor: &Encryptor, endpoint_id: &str) -> Result<Self> {
        if headers.is_empty() {
            return Ok(Self::default());
        }
        let clear = serde_json::to_vec(headers).map_err(|err| Error::internal("headers are no JSON").because(err))?;
        let sealed = encryptor.seal(&clear, &headers_context(endpoint_id));
        Ok(Self([(SEALED.to_owned(), sealed)].into()))
    }

    /// The same, sealed with the newest key; `None` when they are already, or in clear.
    pub fn reseal(&self, keys: &EncryptionKeys, endpoint_id: &str) -> Result<Option<Self>, SealError> {
        let Some(sealed) = self.0.get(SEALED) else {
            return Ok(None);
        };
        let anew = keys.reseal(sealed, &headers_context(endpoint_id))?;
        Ok(anew.map(|sealed| Self([(SEALED.to_owned(), sealed)].into())))
    }

    /// # Errors
    /// `Internal` when they cannot be opened.
    pub fn open(&self, keys: &EncryptionKeys, endpoint_id: &str) -> Result<BTreeMap<String, String>> {
        let Some(sealed) = self.0.get(SEALED) else {
            return Ok(self.0.clone());
        };
        let clear = keys.open(sealed, &headers_context(endpoint_id)).ok();
        clear
            .and_then(|clear| serde_json::from_slice(&clear).ok())
            .ok_or_else(|| Error::internal(format!("the headers of {endpoint_id} cannot be opened")))
    }
}

/// What is sealed as headers opens neither as a secret nor at another endpoint.
fn headers_context(endpoint_id: &str) -> String {
    format!("{endpoint_id}/headers")
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
    #[sea_orm(column_type = "Text")]
    pub headers: JsonText<StoredHeaders>,
    /// Newest first.
    #[sea_orm(column_type = "Text")]
    pub secrets: JsonText<Vec<StoredSecret>>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
    /// Since when it counts as failing, with no success in between.
    pub failing_since: Option<Timestamp>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
