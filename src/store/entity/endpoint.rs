//! Describes the table of endpoints, and the sealed forms of their secrets and custom headers. An endpoint is a URL at
//! which an application receives its webhooks.
//!
//! Seals and opens custom headers, so that no other file knows their stored form. Must not contain queries.

use sea_orm::entity::prelude::*;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json_text::JsonText;
use crate::domain::encryption_keys::EncryptionKeys;
use crate::domain::health::DisabledReason;
use crate::domain::secret::{Encryptor, EndpointSecret, SealError};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Result};

/// A signing secret, sealed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StoredSecret {
    /// The secret, sealed with the id of its endpoint or poller as context.
    pub sealed: String,
    /// The instant until which a rotated secret still signs, in microseconds since 1970; `None` means the secret was
    /// not rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

impl StoredSecret {
    /// Opens the secret. `context` is the id of what it belongs to.
    ///
    /// # Errors
    /// `Internal` if no key opens it.
    pub fn open(&self, keys: &EncryptionKeys, context: &str) -> Result<EndpointSecret> {
        let clear = keys.open(&self.sealed, context);
        let clear = clear.map_err(|err| Error::internal("a signing secret cannot be opened").because(err))?;
        EndpointSecret::parse(&String::from_utf8_lossy(&clear)).map_err(Error::internal)
    }

    /// Opens those of the secrets that sign at this instant: the ones that have not expired.
    ///
    /// # Errors
    /// As [`StoredSecret::open`].
    pub fn open_valid(
        secrets: &[Self],
        keys: &EncryptionKeys,
        context: &str,
        at: Timestamp,
    ) -> Result<Vec<EndpointSecret>> {
        let valid = |secret: &&Self| secret.expires_at.is_none_or(|end| end > at.0);
        secrets
            .iter()
            .filter(valid)
            .map(|secret| secret.open(keys, context))
            .collect()
    }
}

/// Custom headers with their names as written, sealed, because they often hold credentials.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct StoredHeaders {
    /// The headers as JSON, sealed with [`headers_context`]; `None` means that there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
}

impl StoredHeaders {
    /// Seals headers for the endpoint with this id.
    ///
    /// # Errors
    /// `Internal` if they cannot be written as JSON.
    pub fn seal(headers: &BTreeMap<String, String>, encryptor: &Encryptor, endpoint_id: &str) -> Result<Self> {
        if headers.is_empty() {
            return Ok(Self::default());
        }
        let clear = serde_json::to_vec(headers).map_err(|err| Error::internal("headers are no JSON").because(err))?;
        let sealed = Some(encryptor.seal(&clear, &headers_context(endpoint_id)));
        Ok(Self { sealed })
    }

    /// Returns the headers sealed with the newest key. `None` means that they are so already, or that there are none.
    ///
    /// # Errors
    /// The error of [`EncryptionKeys::reseal`] if no key opens them.
    pub fn reseal(&self, keys: &EncryptionKeys, endpoint_id: &str) -> Result<Option<Self>, SealError> {
        let Some(sealed) = &self.sealed else { return Ok(None) };
        let anew = keys.reseal(sealed, &headers_context(endpoint_id))?;
        Ok(anew.map(|sealed| Self { sealed: Some(sealed) }))
    }

    /// Returns the headers in clear.
    ///
    /// # Errors
    /// `Internal` if no key opens them.
    pub fn open(&self, keys: &EncryptionKeys, endpoint_id: &str) -> Result<BTreeMap<String, String>> {
        let Some(sealed) = &self.sealed else {
            return Ok(BTreeMap::new());
        };
        let clear = keys.open(sealed, &headers_context(endpoint_id)).ok();
        clear
            .and_then(|clear| serde_json::from_slice(&clear).ok())
            .ok_or_else(|| Error::internal(format!("the headers of {endpoint_id} cannot be opened")))
    }
}

/// Returns the context that headers are sealed with: they open neither as a secret nor at another endpoint.
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
    /// The caller's own name for the endpoint, unique among the application's endpoints that are not deleted.
    #[sea_orm(column_type = "Text", nullable)]
    pub uid: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub url: String,
    #[sea_orm(column_type = "Text")]
    pub description: String,
    pub disabled: bool,
    /// The event types that the endpoint wants; `None` means all.
    #[sea_orm(column_type = "Text", nullable)]
    pub event_types: Option<JsonText<Vec<String>>>,
    /// The channels of which a message must have at least one; `None` means any message.
    #[sea_orm(column_type = "Text", nullable)]
    pub channels: Option<JsonText<Vec<String>>>,
    /// The most requests per second; `None` means no limit of its own.
    pub throttle_rate: Option<i32>,
    #[sea_orm(column_type = "Text")]
    pub metadata: JsonText<BTreeMap<String, String>>,
    /// The custom headers.
    #[sea_orm(column_type = "Text")]
    pub headers: JsonText<StoredHeaders>,
    /// The signing secrets, newest first.
    #[sea_orm(column_type = "Text")]
    pub secrets: JsonText<Vec<StoredSecret>>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When the endpoint was deleted; `None` means it was not.
    pub deleted_at: Option<Timestamp>,
    /// The instant since which the endpoint counts as failing, without a success in between; `None` means it works.
    pub failing_since: Option<Timestamp>,
    /// When the endpoint was disabled. It means something only while `disabled` is true.
    pub disabled_at: Option<Timestamp>,
    /// Why the endpoint was disabled. It means something only while `disabled` is true.
    pub disabled_reason: Option<DisabledReason>,
}

/// When and why an endpoint was disabled.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Disabling {
    /// `None` means that it is not known: a version that did not record it has disabled the endpoint.
    pub at: Option<Timestamp>,
    pub reason: Option<DisabledReason>,
}

impl Model {
    /// Returns when and why the endpoint was disabled; `None` means that it is enabled.
    pub fn disabling(&self) -> Option<Disabling> {
        self.disabled.then_some(Disabling {
            at: self.disabled_at,
            reason: self.disabled_reason,
        })
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
