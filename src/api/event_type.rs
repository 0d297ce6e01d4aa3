//! Event types over REST. Reads go to the store, writes to the service.
//!
//! Schemas are documentation: they are checked to be JSON Schemas, and no message is ever checked against one.
//!
//! Must not decide what a JSON Schema is: domain/json_schema.rs does.

use std::collections::BTreeMap;
use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::rights::{AnyToken, Edit, Organization, View};
use super::wire::body::{Body, KeyedBody};
use super::wire::error::{ApiError, Read, Write};
use super::wire::fields::{change, identifier, text};
use super::wire::idempotency::IdempotencyKey;
use super::wire::paging::{Iterates, Limit, ListOut, ListQuery, Ordering};
use super::wire::response::{Answer, Created, CreatedOrReplaced, Empty, reply};
use super::wire::values::{Instant, JsonText, present};
use super::{ApiState, Tag};
use crate::domain::json_schema::check_json_schema;
use crate::domain::payload::check_depth;
use crate::error::{Error, Result};
use crate::service;
use crate::store::entity::event_type::Model;
use crate::store::event_type::{self, Change, Content};
use crate::store::idempotency::Reply;

/// The largest size of all schemas of one event type together, in bytes of JSON.
const MOST_SCHEMAS: usize = 256 << 10;

/// An event type to create.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EventTypeIn {
    #[oai(validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$"))]
    name: String,
    #[oai(validator(max_length = 4096))]
    description: String,
    /// Whether it is hidden from lists and refused in the filter of an endpoint. Default: false.
    #[oai(nullable)]
    archived: Option<bool>,
    #[oai(nullable)]
    deprecated: Option<bool>,
    /// JSON Schemas by version; at most 262144 bytes as JSON in all.
    #[oai(nullable)]
    schemas: Option<JsonText>,
    /// Tokens of applications see the event type only if they have this flag; null: all of them see it.
    #[oai(nullable)]
    feature_flag: Option<String>,
}

/// The content of an event type, which replaces all it had before.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EventTypeUpdate {
    #[oai(validator(max_length = 4096))]
    description: String,
    #[oai(nullable)]
    archived: Option<bool>,
    #[oai(nullable)]
    deprecated: Option<bool>,
    /// JSON Schemas by version; at most 262144 bytes as JSON in all.
    #[oai(nullable)]
    schemas: Option<JsonText>,
    /// Tokens of applications see the event type only if they have this flag; null: all of them see it.
    #[oai(nullable)]
    feature_flag: Option<String>,
}

impl EventTypeUpdate {
    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    fn read(self) -> Result<Content> {
        Ok(Content {
            description: text("description", self.description)?,
            archived: self.archived.unwrap_or_default(),
            deprecated: self.deprecated.unwrap_or_default(),
            schemas: self.schemas.map(schemas).transpose()?,
            feature_flag: self.feature_flag.map(feature_flag).transpose()?,
        })
    }
}

impl EventTypeIn {
    /// Checks the fields. Returns the name and the rest.
    ///
    /// # Errors
    /// `Invalid` names the field.
    fn read(self) -> Result<(String, Content)> {
        let name = identifier("name", self.name)?;
        let content = EventTypeUpdate {
            description: self.description,
            archived: self.archived,
            deprecated: self.deprecated,
            schemas: self.schemas,
            feature_flag: self.feature_flag,
        };
        Ok((name, content.read()?))
    }
}

/// Changes to an event type; an absent field keeps its value.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(rename_all = "camelCase", default)]
#[oai(rename_all = "camelCase")]
pub struct EventTypePatch {
    #[serde(deserialize_with = "present")]
    #[oai(validator(max_length = 4096))]
    description: Option<String>,
    #[serde(deserialize_with = "present")]
    archived: Option<bool>,
    #[serde(deserialize_with = "present")]
    deprecated: Option<bool>,
    /// JSON Schemas by version; at most 262144 bytes as JSON in all.
    #[oai(nullable)]
    schemas: MaybeUndefined<JsonText>,
    #[oai(nullable)]
    feature_flag: MaybeUndefined<String>,
}

impl EventTypePatch {
    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    fn read(self) -> Result<Change> {
        Ok(Change {
            description: self
                .description
                .map(|description| text("description", description))
                .transpose()?,
            archived: self.archived,
            deprecated: self.deprecated,
            schemas: change(self.schemas, schemas)?,
            feature_flag: change(self.feature_flag, feature_flag)?,
        })
    }
}

/// Checks the schemas of an event type and returns them as they came: a number of an example keeps its digits.
///
/// # Errors
/// `Invalid` if they are not an object, are too large together, or one is nested too deeply or is not a JSON Schema.
fn schemas(by_version: JsonText) -> Result<String> {
    let text = by_version.0.get();
    if text.len() > MOST_SCHEMAS {
        let rule = format!("must be at most {MOST_SCHEMAS} bytes as JSON, is {}", text.len());
        return Err(Error::invalid("schemas", rule));
    }
    let by_version: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|_| Error::invalid("schemas", "must be an object"))?;
    for (version, schema) in by_version {
        check_schema(schema.get())
            .map_err(|rule| Error::invalid("schemas", rule).at(["body", "schemas", version.as_str()]))?;
    }
    Ok(text.to_owned())
}

/// Returns the rule that a JSON Schema breaks, as an error.
fn check_schema(text: &str) -> Result<(), String> {
    check_depth(text)?;
    let schema = serde_json::from_str(text).map_err(|err| err.to_string())?;
    check_json_schema(&schema)
}

fn feature_flag(value: String) -> Result<String> {
    identifier("featureFlag", value)
}

/// An event type.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct EventTypeOut {
    name: String,
    description: String,
    archived: bool,
    deprecated: bool,
    /// JSON Schemas by version; null if there are none, and in a list without `with_content`.
    #[oai(nullable)]
    schemas: Option<JsonText>,
    #[oai(nullable)]
    feature_flag: Option<String>,
    created_at: Instant,
    updated_at: Instant,
}

impl EventTypeOut {
    fn new(row: Model) -> Result<Self> {
        Ok(Self {
            name: row.name,
            description: row.description,
            archived: row.archived,
            deprecated: row.deprecated,
            schemas: row.schemas.map(JsonText::new).transpose()?,
            feature_flag: row.feature_flag,
            created_at: Instant(row.created_at),
            updated_at: Instant(row.updated_at),
        })
    }
}

/// Returns the reply to a creation, which is also stored for the idempotency key.
fn created(row: Model) -> Result<Reply> {
    reply(201, &EventTypeOut::new(row)?)
}

pub(super) struct EventTypes;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::EventType")]
impl EventTypes {
    /// List event types
    ///
    /// If descriptions and schemas are large, a page may hold fewer event types than `limit`; `done` says whether it is
    /// the last page.
    #[oai(path = "/event-type", method = "get", operation_id = "v1.event-type.list")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        /// Accepted and ignored: the list is always sorted by name, ascending.
        #[oai(name = "order")]
        _order: Query<Option<Ordering>>,
        /// Whether archived event types are listed too. Default: false.
        include_archived: Query<Option<bool>>,
        /// Whether the response contains schemas. Default: false.
        with_content: Query<Option<bool>>,
    ) -> Result<Answer<ListOut<EventTypeOut>>, ApiError<Read>> {
        let request = ListQuery { limit, iterator }.request(&Iterates::Names, true)?;
        caller.check_application(&state.store).await?;
        let archived_too = include_archived.0.unwrap_or_default();
        let with_schemas = with_content.0.unwrap_or_default();
        let (store, flags) = (&state.store, caller.flags());
        let page = event_type::list(store, &caller.org_id, archived_too, flags, with_schemas, &request).await?;
        Ok(ListOut::answer(page, &request, |row| &row.name, EventTypeOut::new)?)
    }

    /// Create an event type
    ///
    /// If an archived event type has the same name, it is restored with the new content.
    #[oai(path = "/event-type", method = "post", operation_id = "v1.event-type.create")]
    async fn create(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<EventTypeIn>,
    ) -> Result<Answer<EventTypeOut, Created>, ApiError<Write>> {
        let key = key.of(&caller.0, body.1);
        let (name, content) = body.0.read()?;
        let (origin, org_id) = (caller.0.origin("v1.event-type.create"), &caller.0.org_id);
        let made =
            service::event_type::create(&state.store, &origin, org_id, name, content, key.as_ref(), created).await?;
        Ok(made.into())
    }

    /// Get an event type
    #[oai(
        path = "/event-type/:event_type_name",
        method = "get",
        operation_id = "v1.event-type.get"
    )]
    async fn get(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        event_type_name: Path<String>,
    ) -> Result<Answer<EventTypeOut>, ApiError<Read>> {
        caller.check_application(&state.store).await?;
        let found = event_type::get(&state.store, &caller.org_id, &event_type_name.0, caller.flags()).await?;
        Ok(Answer::ok(&EventTypeOut::new(found)?)?)
    }

    /// Replace or create an event type
    #[oai(
        path = "/event-type/:event_type_name",
        method = "put",
        operation_id = "v1.event-type.update"
    )]
    async fn update(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        event_type_name: Path<String>,
        body: Body<EventTypeUpdate>,
    ) -> Result<Answer<EventTypeOut, CreatedOrReplaced>, ApiError<Write>> {
        let content = body.0.read()?;
        let name =
            identifier("event_type_name", event_type_name.0).map_err(|err| err.at(["path", "event_type_name"]))?;
        let origin = caller.0.origin("v1.event-type.update");
        let (row, new) = service::event_type::put(&state.store, &origin, &caller.0.org_id, name, content).await?;
        let status = if new { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Answer::new(status, &EventTypeOut::new(row)?)?)
    }

    /// Change an event type
    #[oai(
        path = "/event-type/:event_type_name",
        method = "patch",
        operation_id = "v1.event-type.patch"
    )]
    async fn patch(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        event_type_name: Path<String>,
        body: Body<EventTypePatch>,
    ) -> Result<Answer<EventTypeOut>, ApiError<Write>> {
        let change = body.0.read()?;
        let (origin, org_id) = (caller.0.origin("v1.event-type.patch"), &caller.0.org_id);
        let row = service::event_type::patch(&state.store, &origin, org_id, &event_type_name.0, change).await?;
        Ok(Answer::ok(&EventTypeOut::new(row)?)?)
    }

    /// Archive or delete an event type
    #[oai(
        path = "/event-type/:event_type_name",
        method = "delete",
        operation_id = "v1.event-type.delete"
    )]
    async fn delete(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        event_type_name: Path<String>,
        /// Whether to remove it permanently instead of archiving it. Default: false.
        expunge: Query<Option<bool>>,
    ) -> Result<Empty, ApiError<Write>> {
        let expunge = expunge.0.unwrap_or_default();
        let (origin, org_id) = (caller.0.origin("v1.event-type.delete"), &caller.0.org_id);
        service::event_type::delete(&state.store, &origin, org_id, &event_type_name.0, expunge).await?;
        Ok(Empty)
    }
}
