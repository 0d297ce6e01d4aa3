//! The bodies of endpoints in requests and responses.
//!
//! Two fields have an older name beside the newer one: `filterTypes` for `eventTypes`, `rateLimit` for `throttleRate`.
//! Requests may use either name, and a rule holds for both; responses have both.
//!
//! Must not know the rules of single fields: the domain has them.

use std::collections::BTreeMap;

use poem_openapi::Object;
use poem_openapi::types::MaybeUndefined;
use serde::{Deserialize, Serialize};

use crate::api::caller::Caller;
use crate::api::wire::fields::{
    change, changed_throttle_rate, headers, identifiers, metadata, secret, text, throttle_rate, uid,
};
use crate::api::wire::values::{Instant, present};
use crate::domain::health::DisabledReason;
use crate::domain::id::Prefix;
use crate::domain::target::{CAN_BE_ALLOWED, TargetPolicy};
use crate::error::{Error, Result};
use crate::service::endpoint::New;
use crate::store::endpoint::{Change, Content};
use crate::store::entity::endpoint::Model;

/// The largest number of event types in the filter of an endpoint.
const MOST_EVENT_TYPES: usize = 1000;
const MOST_CHANNELS: usize = 10;

/// An endpoint to create.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EndpointIn {
    /// Absolute, with the scheme http or https.
    pub(crate) url: String,
    #[oai(nullable, validator(max_length = 4096))]
    pub(crate) description: Option<String>,
    /// The caller's own identifier, unique among the application's endpoints.
    #[oai(
        nullable,
        validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")
    )]
    pub(crate) uid: Option<String>,
    /// The largest number of requests per second to the endpoint: first attempts, retries and resends. A fifth of a
    /// second's worth may be sent at once; deliveries over the rate wait and are sent later. Null: no limit but the
    /// server's own.
    #[oai(nullable, validator(minimum(value = "1"), maximum(value = "65535")))]
    pub(crate) throttle_rate: Option<i64>,
    /// The older name of `throttleRate`, which takes precedence.
    #[oai(nullable, deprecated, validator(minimum(value = "1"), maximum(value = "65535")))]
    pub(crate) rate_limit: Option<i64>,
    #[oai(nullable)]
    pub(crate) disabled: Option<bool>,
    /// Only messages of these event types; null: of all.
    #[oai(nullable, validator(min_items = 1, max_items = 1000))]
    pub(crate) event_types: Option<Vec<String>>,
    /// The older name of `eventTypes`, which takes precedence.
    #[oai(nullable, deprecated, validator(min_items = 1, max_items = 1000))]
    pub(crate) filter_types: Option<Vec<String>>,
    /// Only messages on one of these channels; null: on any.
    #[oai(nullable, validator(min_items = 1, max_items = 10))]
    pub(crate) channels: Option<Vec<String>>,
    #[oai(nullable)]
    pub(crate) metadata: Option<BTreeMap<String, String>>,
    /// The signing secret: `whsec_` and base64 of 24 to 75 bytes, or `whsk_` and base64 of an Ed25519 key (seed and
    /// public key, 64 bytes). Default: `whsec_` with 24 random bytes.
    #[oai(nullable)]
    pub(crate) secret: Option<String>,
    /// Custom headers of its deliveries; names and values have at most 16384 bytes together. Names are sent in title
    /// case, `X-API-KEY` as `X-Api-Key`.
    #[oai(nullable, validator(max_properties = 50))]
    pub(crate) headers: Option<BTreeMap<String, String>>,
}

impl EndpointIn {
    /// Returns under which of its two names the caller gave the filter.
    pub fn filter_field(&self) -> FilterField {
        FilterField(self.event_types.is_some())
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    pub fn read(self, targets: &TargetPolicy, caller: &Caller) -> Result<New> {
        let secret = self.secret.map(|text| secret("secret", &text)).transpose()?;
        let headers = headers(self.headers.unwrap_or_default())?;
        let content = EndpointUpdate {
            url: self.url,
            description: self.description,
            uid: self.uid,
            throttle_rate: self.throttle_rate,
            rate_limit: self.rate_limit,
            disabled: self.disabled,
            event_types: self.event_types,
            filter_types: self.filter_types,
            channels: self.channels,
            metadata: self.metadata,
        };
        Ok(New {
            content: content.read(targets, caller)?,
            secret,
            headers,
        })
    }
}

/// The content of an endpoint, which replaces all it had before but its secret and its custom headers.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EndpointUpdate {
    /// Absolute, with the scheme http or https.
    pub(crate) url: String,
    #[oai(nullable, validator(max_length = 4096))]
    pub(crate) description: Option<String>,
    /// The caller's own identifier, unique among the application's endpoints.
    #[oai(
        nullable,
        validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")
    )]
    pub(crate) uid: Option<String>,
    /// The largest number of requests per second to the endpoint: first attempts, retries and resends. A fifth of a
    /// second's worth may be sent at once; deliveries over the rate wait and are sent later. Null: no limit but the
    /// server's own.
    #[oai(nullable, validator(minimum(value = "1"), maximum(value = "65535")))]
    pub(crate) throttle_rate: Option<i64>,
    /// The older name of `throttleRate`, which takes precedence.
    #[oai(nullable, deprecated, validator(minimum(value = "1"), maximum(value = "65535")))]
    pub(crate) rate_limit: Option<i64>,
    #[oai(nullable)]
    pub(crate) disabled: Option<bool>,
    /// Only messages of these event types; null: of all.
    #[oai(nullable, validator(min_items = 1, max_items = 1000))]
    pub(crate) event_types: Option<Vec<String>>,
    /// The older name of `eventTypes`, which takes precedence.
    #[oai(nullable, deprecated, validator(min_items = 1, max_items = 1000))]
    pub(crate) filter_types: Option<Vec<String>>,
    /// Only messages on one of these channels; null: on any.
    #[oai(nullable, validator(min_items = 1, max_items = 10))]
    pub(crate) channels: Option<Vec<String>>,
    #[oai(nullable)]
    pub(crate) metadata: Option<BTreeMap<String, String>>,
}

impl EndpointUpdate {
    /// Returns under which of its two names the caller gave the filter.
    pub fn filter_field(&self) -> FilterField {
        FilterField(self.event_types.is_some())
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    pub fn read(self, targets: &TargetPolicy, caller: &Caller) -> Result<Content> {
        Ok(Content {
            url: url(self.url, targets, caller)?,
            description: text("description", self.description.unwrap_or_default())?,
            uid: self.uid.map(|text| uid(text, Prefix::Endpoint)).transpose()?,
            throttle_rate: throttle_rate(self.throttle_rate, self.rate_limit)?,
            disabled: self.disabled.unwrap_or_default(),
            event_types: filter(self.event_types, self.filter_types)?,
            channels: self.channels.map(channels).transpose()?,
            metadata: metadata(self.metadata.unwrap_or_default())?,
        })
    }
}

/// Changes to an endpoint; an absent field keeps its value.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(rename_all = "camelCase", default)]
#[oai(rename_all = "camelCase")]
pub struct EndpointPatch {
    #[serde(deserialize_with = "present")]
    url: Option<String>,
    #[serde(deserialize_with = "present")]
    #[oai(validator(max_length = 4096))]
    description: Option<String>,
    #[oai(
        nullable,
        validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")
    )]
    uid: MaybeUndefined<String>,
    #[oai(nullable, validator(minimum(value = "1"), maximum(value = "65535")))]
    throttle_rate: MaybeUndefined<i64>,
    /// The older name of `throttleRate`, which takes precedence.
    #[oai(nullable, deprecated, validator(minimum(value = "1"), maximum(value = "65535")))]
    rate_limit: MaybeUndefined<i64>,
    #[serde(deserialize_with = "present")]
    disabled: Option<bool>,
    #[oai(nullable, validator(min_items = 1, max_items = 1000))]
    event_types: MaybeUndefined<Vec<String>>,
    /// The older name of `eventTypes`, which takes precedence.
    #[oai(nullable, deprecated, validator(min_items = 1, max_items = 1000))]
    filter_types: MaybeUndefined<Vec<String>>,
    #[oai(nullable, validator(min_items = 1, max_items = 10))]
    channels: MaybeUndefined<Vec<String>>,
    /// Replaces all metadata.
    #[oai(nullable)]
    metadata: MaybeUndefined<BTreeMap<String, String>>,
}

impl EndpointPatch {
    /// Returns whether `disabled` is the only field that is given.
    pub fn only_switches(&self) -> bool {
        let Self {
            description,
            url,
            uid,
            throttle_rate,
            rate_limit,
            disabled,
            event_types,
            filter_types,
            channels,
            metadata,
        } = self;
        let others = [
            description.is_none(),
            url.is_none(),
            uid.is_undefined(),
            throttle_rate.is_undefined(),
            rate_limit.is_undefined(),
            event_types.is_undefined(),
            filter_types.is_undefined(),
            channels.is_undefined(),
            metadata.is_undefined(),
        ];
        disabled.is_some() && others.into_iter().all(|absent| absent)
    }

    /// Returns under which of its two names the caller gave the filter.
    pub fn filter_field(&self) -> FilterField {
        FilterField(!self.event_types.is_undefined())
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    pub fn read(self, targets: &TargetPolicy, caller: &Caller) -> Result<Change> {
        let older = change(self.filter_types, |list| event_types("filterTypes", list))?;
        let filter = change(self.event_types, |list| event_types("eventTypes", list))?;
        Ok(Change {
            url: self.url.map(|text| url(text, targets, caller)).transpose()?,
            description: self
                .description
                .map(|description| text("description", description))
                .transpose()?,
            uid: change(self.uid, |text| uid(text, Prefix::Endpoint))?,
            throttle_rate: changed_throttle_rate(self.throttle_rate, self.rate_limit)?,
            disabled: self.disabled,
            event_types: filter.or(older),
            channels: change(self.channels, channels)?,
            metadata: change(self.metadata, metadata)?.map(Option::unwrap_or_default),
            headers: None,
            secrets: None,
            failing_since: None,
            disabled_reason: None,
        })
    }
}

/// The name under which a caller gave the filter: true means `eventTypes`, false means `filterTypes`.
#[derive(Clone, Copy)]
pub struct FilterField(pub(crate) bool);

impl FilterField {
    fn name(self) -> &'static str {
        if self.0 { "eventTypes" } else { "filterTypes" }
    }

    /// Returns the service's error with the field name that the caller used, if the error is about the filter.
    pub fn named_in(self, error: Error) -> Error {
        match error.loc.get(1).map(String::as_str) {
            Some("eventTypes") => error.at(["body", self.name()]),
            _ => error,
        }
    }
}

/// Checks a URL. A caller of an application does not hear of the setting that allows more: it is the operator's.
fn url(value: String, targets: &TargetPolicy, caller: &Caller) -> Result<String> {
    match targets.check_url(&value) {
        Ok(_) => Ok(value),
        Err(rule) if caller.app_id.is_some() => Err(Error::invalid("url", rule.trim_end_matches(CAN_BE_ALLOWED))),
        Err(rule) => Err(Error::invalid("url", rule)),
    }
}

pub(crate) fn event_types(field: &str, list: Vec<String>) -> Result<Vec<String>> {
    identifiers(field, list, MOST_EVENT_TYPES)
}

/// Returns the filter under its newer or its older name, after checking both.
pub(crate) fn filter(list: Option<Vec<String>>, older: Option<Vec<String>>) -> Result<Option<Vec<String>>> {
    let older = older.map(|list| event_types("filterTypes", list)).transpose()?;
    Ok(list.map(|list| event_types("eventTypes", list)).transpose()?.or(older))
}

pub(crate) fn channels(list: Vec<String>) -> Result<Vec<String>> {
    identifiers("channels", list, MOST_CHANNELS)
}

/// An endpoint.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EndpointOut {
    pub(crate) id: String,
    #[oai(nullable)]
    pub(crate) uid: Option<String>,
    pub(crate) url: String,
    description: String,
    disabled: bool,
    /// When the endpoint was disabled; null if it is enabled.
    #[oai(nullable)]
    disabled_at: Option<Instant>,
    /// Why the endpoint is disabled: `manual` through this API, `gone` since its receiver answered 410, `failing`
    /// since it failed for too long. Null if it is enabled.
    #[oai(nullable)]
    disabled_reason: Option<DisabledReason>,
    /// Since when the endpoint has been failing, with no success in between; null if it works.
    #[oai(nullable)]
    failing_since: Option<Instant>,
    #[oai(nullable)]
    event_types: Option<Vec<String>>,
    /// The same as `eventTypes`, under its older name.
    #[oai(nullable, deprecated)]
    filter_types: Option<Vec<String>>,
    #[oai(nullable)]
    channels: Option<Vec<String>>,
    #[oai(nullable)]
    throttle_rate: Option<i32>,
    /// The same as `throttleRate`, under its older name.
    #[oai(nullable, deprecated)]
    rate_limit: Option<i32>,
    metadata: BTreeMap<String, String>,
    /// Always 1; older clients require it.
    #[oai(deprecated)]
    version: i32,
    created_at: Instant,
    updated_at: Instant,
}

impl EndpointOut {
    /// Returns in words that the endpoint is disabled or fails, with the reason and since when; `None` means it works.
    pub(crate) fn trouble(&self) -> Option<String> {
        let since = |at: Option<Instant>| at.map_or_else(String::new, |at| format!(" since {}", at.0));
        let reason = match self.disabled_reason {
            Some(DisabledReason::Manual) => " (manual)",
            Some(DisabledReason::Gone) => " (gone)",
            Some(DisabledReason::Failing) => " (failing)",
            None => "",
        };
        match self.disabled {
            true => Some(format!("disabled{reason}{}", since(self.disabled_at))),
            false => self.failing_since.map(|at| format!("failing{}", since(Some(at)))),
        }
    }
}

impl From<Model> for EndpointOut {
    fn from(row: Model) -> Self {
        let disabling = row.disabling().unwrap_or_default();
        let event_types = row.event_types.map(|list| list.0);
        Self {
            id: row.id,
            uid: row.uid,
            url: row.url,
            description: row.description,
            disabled: row.disabled,
            disabled_at: disabling.at.map(Instant),
            disabled_reason: disabling.reason,
            failing_since: row.failing_since.map(Instant),
            event_types: event_types.clone(),
            filter_types: event_types,
            channels: row.channels.map(|list| list.0),
            throttle_rate: row.throttle_rate,
            rate_limit: row.throttle_rate,
            metadata: row.metadata.0,
            version: 1,
            created_at: Instant(row.created_at),
            updated_at: Instant(row.updated_at),
        }
    }
}
