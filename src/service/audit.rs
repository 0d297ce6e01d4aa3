//! Writes the audit entries of what the service creates, changes and deletes.
//!
//! Knows which fields of a thing an entry shows: those that the API shows, without instants. Must not show tokens,
//! hashes, secrets or values of custom headers.

use serde_json::value::RawValue;

use crate::domain::audit::{Fields, ObjectKind, Origin, shown_url};
use crate::domain::operational::is_operational;
use crate::domain::task::{TaskKind, TaskStatus};
use crate::error::Result;
use crate::store::Tx;
use crate::store::audit::{Written, record};
use crate::store::entity::{api_token, application, background_task, endpoint, event_type, organization, poller};

/// A thing, as an entry names and shows it.
pub(super) struct Thing<'a> {
    pub kind: ObjectKind,
    pub id: &'a str,
    /// The application that it belongs to, or that it is; `None` means that it is the organization's.
    pub app_id: Option<&'a str>,
    pub fields: Fields,
}

impl<'a> Thing<'a> {
    /// Returns a thing of an application of which no field is shown.
    pub fn of(app: &'a application::Model, kind: ObjectKind, id: &'a str) -> Self {
        Self {
            kind,
            id,
            app_id: Some(&app.id),
            fields: Fields::default(),
        }
    }

    /// Adds a field.
    pub fn with(mut self, name: &'static str, value: &impl serde::Serialize) -> Self {
        self.fields = self.fields.with(name, value);
        self
    }
}

/// Writes the entry of a thing that was created.
pub(super) async fn created(tx: &Tx, origin: &Origin<'_>, org_id: &str, made: Thing<'_>) -> Result<()> {
    write(tx, origin, org_id, &made, None, Some(made.fields.clone())).await
}

/// Writes the entry of a thing that was changed, with the fields that differ.
pub(super) async fn changed(
    tx: &Tx,
    origin: &Origin<'_>,
    org_id: &str,
    before: Thing<'_>,
    after: Thing<'_>,
) -> Result<()> {
    let (old, new) = Fields::changed(before.fields.clone(), after.fields);
    write(tx, origin, org_id, &before, Some(old), Some(new)).await
}

/// Writes the entry of a thing that was deleted.
pub(super) async fn deleted(tx: &Tx, origin: &Origin<'_>, org_id: &str, gone: Thing<'_>) -> Result<()> {
    write(tx, origin, org_id, &gone, Some(gone.fields.clone()), None).await
}

/// Writes the entry of a write that changes no field of a thing. The fields say more of the write.
pub(super) async fn noted(tx: &Tx, origin: &Origin<'_>, org_id: &str, thing: Thing<'_>) -> Result<()> {
    let more = (!thing.fields.is_empty()).then(|| thing.fields.clone());
    write(tx, origin, org_id, &thing, None, more).await
}

async fn write(
    tx: &Tx,
    origin: &Origin<'_>,
    org_id: &str,
    thing: &Thing<'_>,
    before: Option<Fields>,
    after: Option<Fields>,
) -> Result<()> {
    let written = Written {
        org_id,
        app_id: thing.app_id.filter(|app_id| !is_operational(app_id)),
        kind: thing.kind,
        id: thing.id,
        before,
        after,
    };
    record(tx, origin, written).await
}

impl<'a> From<&'a organization::Model> for Thing<'a> {
    fn from(row: &'a organization::Model) -> Self {
        Self {
            kind: ObjectKind::Organization,
            id: &row.id,
            app_id: None,
            fields: Fields::default().with("name", &row.name),
        }
    }
}

impl<'a> From<&'a application::Model> for Thing<'a> {
    fn from(row: &'a application::Model) -> Self {
        let fields = Fields::default()
            .with("uid", &row.uid)
            .with("name", &row.name)
            .with("throttleRate", &row.throttle_rate)
            .with("metadata", &row.metadata.0);
        Self {
            kind: ObjectKind::Application,
            id: &row.id,
            app_id: Some(&row.id),
            fields,
        }
    }
}

impl<'a> From<&'a endpoint::Model> for Thing<'a> {
    fn from(row: &'a endpoint::Model) -> Self {
        let disabling = row.disabling().unwrap_or_default();
        let fields = Fields::default()
            .with("uid", &row.uid)
            .with("url", &shown_url(&row.url))
            .with("description", &row.description)
            .with("disabled", &row.disabled)
            .with("disabledReason", &disabling.reason)
            .with("eventTypes", &row.event_types.as_ref().map(|list| &list.0))
            .with("channels", &row.channels.as_ref().map(|list| &list.0))
            .with("throttleRate", &row.throttle_rate)
            .with("metadata", &row.metadata.0);
        Self {
            kind: ObjectKind::Endpoint,
            id: &row.id,
            app_id: Some(&row.app_id),
            fields,
        }
    }
}

impl<'a> From<&'a poller::Model> for Thing<'a> {
    fn from(row: &'a poller::Model) -> Self {
        let fields = Fields::default()
            .with("uid", &row.uid)
            .with("description", &row.description)
            .with("disabled", &row.disabled)
            .with("eventTypes", &row.event_types.as_ref().map(|list| &list.0))
            .with("channels", &row.channels.as_ref().map(|list| &list.0));
        Self {
            kind: ObjectKind::Poller,
            id: &row.id,
            app_id: Some(&row.app_id),
            fields,
        }
    }
}

impl<'a> From<&'a event_type::Model> for Thing<'a> {
    fn from(row: &'a event_type::Model) -> Self {
        let schemas = row.schemas.as_deref();
        let schemas = schemas.and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        let fields = Fields::default()
            .with("description", &row.description)
            .with("archived", &row.archived)
            .with("deprecated", &row.deprecated)
            .with("schemas", &schemas)
            .with("featureFlag", &row.feature_flag);
        Self {
            kind: ObjectKind::EventType,
            id: &row.name,
            app_id: None,
            fields,
        }
    }
}

impl<'a> From<&'a api_token::Model> for Thing<'a> {
    fn from(row: &'a api_token::Model) -> Self {
        let expires_at = row.expires_at.map(|end| end.to_rfc3339());
        let fields = Fields::default().with("name", &row.name).with("expiresAt", &expires_at);
        let fields = match (&row.app_id, &row.poller_id) {
            (None, _) => fields.with("role", &row.role),
            (_, Some(poller)) => fields.with("pollerId", poller),
            (Some(_), None) => fields
                .with("sessionId", &row.session_id)
                .with("featureFlags", &row.feature_flags.as_ref().map(|list| &list.0))
                .with("capabilities", &row.capabilities.as_ref().map(|list| &list.0)),
        };
        Self {
            kind: ObjectKind::Token,
            id: &row.id,
            app_id: row.app_id.as_deref(),
            fields,
        }
    }
}

impl<'a> From<&'a background_task::Model> for Thing<'a> {
    fn from(row: &'a background_task::Model) -> Self {
        let kind = match row.kind {
            TaskKind::Recover => "endpoint.recover",
            TaskKind::ReplayMissing => "endpoint.replay",
            TaskKind::BulkReplay => "endpoint.bulk-replay",
        };
        let status = match row.status {
            TaskStatus::Running => "running",
            TaskStatus::Finished => "finished",
            TaskStatus::Failed => "failed",
        };
        let fields = Fields::default()
            .with("task", &kind)
            .with("status", &status)
            .with("endpointId", &row.endpoint_id)
            .with("since", &row.since_at.to_rfc3339())
            .with("until", &row.until_at.to_rfc3339())
            .with("filter", &row.filter.as_ref().map(|filter| &filter.0))
            .with("error", &row.failure);
        Self {
            kind: ObjectKind::Task,
            id: &row.id,
            app_id: Some(&row.app_id),
            fields,
        }
    }
}
