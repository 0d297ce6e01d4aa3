//! Applications over REST, one for each customer of an organization. Reads go to the store, writes to the service.
//!
//! Must not decide which applications a token may name: auth.rs does.

use std::collections::BTreeMap;
use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::rights::{AnyToken, Edit, Organization, View};
use super::wire::body::{Body, KeyedBody};
use super::wire::error::{ApiError, Read, Write};
use super::wire::fields::{change, changed_throttle_rate, metadata, name, throttle_rate, uid};
use super::wire::idempotency::IdempotencyKey;
use super::wire::paging::{Iterates, Limit, ListOut, ListQuery, Ordering, ascending};
use super::wire::response::{Answer, CreatedOrFound, CreatedOrReplaced, Empty, reply};
use super::wire::values::{Instant, present};
use super::{ApiState, Tag};
use crate::domain::id::Prefix;
use crate::error::Result;
use crate::service;
use crate::store::application::{Change, Content, list};
use crate::store::entity::application::Model;
use crate::store::idempotency::Reply;

/// An application to create, or the new content of an existing one.
#[derive(Debug, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct ApplicationIn {
    #[oai(validator(min_length = 1, max_length = 4096))]
    name: String,
    /// The caller's own identifier, unique among the organization's applications.
    #[oai(
        nullable,
        validator(min_length = 1, max_length = 256, pattern = r"^[a-zA-Z0-9\-_.]+$")
    )]
    uid: Option<String>,
    /// The largest number of requests per second to all endpoints of the application together: first attempts, retries
    /// and resends. A fifth of a second's worth may be sent at once; deliveries over the rate wait and are sent later.
    /// Null: no limit but the server's own.
    #[oai(nullable, validator(minimum(value = "1"), maximum(value = "65535")))]
    throttle_rate: Option<i64>,
    /// The older name of `throttleRate`, which takes precedence.
    #[oai(nullable, deprecated, validator(minimum(value = "1"), maximum(value = "65535")))]
    rate_limit: Option<i64>,
    #[oai(nullable)]
    metadata: Option<BTreeMap<String, String>>,
}

impl ApplicationIn {
    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    pub(super) fn read(self) -> Result<Content> {
        Ok(Content {
            name: name("name", self.name)?,
            uid: self.uid.map(|text| uid(text, Prefix::Application)).transpose()?,
            throttle_rate: throttle_rate(self.throttle_rate, self.rate_limit)?,
            metadata: metadata(self.metadata.unwrap_or_default())?,
        })
    }
}

/// Changes to an application; an absent field keeps its value.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(rename_all = "camelCase", default)]
#[oai(rename_all = "camelCase")]
pub struct ApplicationPatch {
    #[serde(deserialize_with = "present")]
    #[oai(validator(min_length = 1, max_length = 4096))]
    name: Option<String>,
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
    /// Replaces all metadata.
    #[oai(nullable)]
    metadata: MaybeUndefined<BTreeMap<String, String>>,
}

impl ApplicationPatch {
    /// Checks the fields.
    ///
    /// # Errors
    /// `Invalid` names the field.
    fn read(self) -> Result<Change> {
        Ok(Change {
            name: self.name.map(|text| name("name", text)).transpose()?,
            uid: change(self.uid, |text| uid(text, Prefix::Application))?,
            throttle_rate: changed_throttle_rate(self.throttle_rate, self.rate_limit)?,
            metadata: change(self.metadata, metadata)?.map(Option::unwrap_or_default),
        })
    }
}

/// An application.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct ApplicationOut {
    pub(crate) id: String,
    #[oai(nullable)]
    pub(crate) uid: Option<String>,
    name: String,
    #[oai(nullable)]
    throttle_rate: Option<i32>,
    /// The same as `throttleRate`, under its older name.
    #[oai(nullable, deprecated)]
    rate_limit: Option<i32>,
    metadata: BTreeMap<String, String>,
    created_at: Instant,
    updated_at: Instant,
}

impl From<Model> for ApplicationOut {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            uid: row.uid,
            name: row.name,
            throttle_rate: row.throttle_rate,
            rate_limit: row.throttle_rate,
            metadata: row.metadata.0,
            created_at: Instant(row.created_at),
            updated_at: Instant(row.updated_at),
        }
    }
}

/// Returns the reply to a creation, which is also stored for the idempotency key. `new` is false if the application
/// existed already.
fn created(row: &Model, new: bool) -> Result<Reply> {
    reply(if new { 201 } else { 200 }, &ApplicationOut::from(row.clone()))
}

pub(super) struct Applications;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Application")]
impl Applications {
    /// List applications
    #[oai(path = "/app", method = "get", operation_id = "v1.application.list")]
    async fn list(
        &self,
        caller: Organization<View>,
        state: Data<&Arc<ApiState>>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        order: Query<Option<Ordering>>,
    ) -> Result<Answer<ListOut<ApplicationOut>>, ApiError<Read>> {
        let upwards = ascending(order.0, Ordering::Ascending);
        let request = ListQuery { limit, iterator }.request(&Iterates::Over(Prefix::Application), upwards)?;
        let page = list(&state.store, &caller.0.org_id, &request).await?;
        let out = |row| Ok(ApplicationOut::from(row));
        Ok(ListOut::answer(page, &request, |row| &row.id, out)?)
    }

    /// Create an application
    #[oai(path = "/app", method = "post", operation_id = "v1.application.create")]
    async fn create(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        /// Whether to return the application with the same uid, if there is one, instead of 409. Default: false.
        get_if_exists: Query<Option<bool>>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<ApplicationIn>,
    ) -> Result<Answer<ApplicationOut, CreatedOrFound>, ApiError<Write>> {
        let (key, content) = (key.of(&caller.0, body.1), body.0.read()?);
        let get = get_if_exists.0.unwrap_or_default();
        let (origin, org_id) = (caller.0.origin("v1.application.create"), &caller.0.org_id);
        let made =
            service::application::create(&state.store, &origin, org_id, content, get, key.as_ref(), created).await?;
        Ok(made.into())
    }

    /// Get an application
    #[oai(path = "/app/:app_id", method = "get", operation_id = "v1.application.get")]
    async fn get(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
    ) -> Result<Answer<ApplicationOut>, ApiError<Read>> {
        let found = caller.application(&state.store, &app_id.0).await?;
        Ok(Answer::ok(&found.into())?)
    }

    /// Replace or create an application
    #[oai(path = "/app/:app_id", method = "put", operation_id = "v1.application.update")]
    async fn update(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        body: Body<ApplicationIn>,
    ) -> Result<Answer<ApplicationOut, CreatedOrReplaced>, ApiError<Write>> {
        let content = body.0.read()?;
        let origin = caller.0.origin("v1.application.update");
        let (row, new) = service::application::put(&state.store, &origin, &caller.0.org_id, &app_id.0, content).await?;
        let status = if new { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Answer::new(status, &row.into())?)
    }

    /// Change an application
    #[oai(path = "/app/:app_id", method = "patch", operation_id = "v1.application.patch")]
    async fn patch(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        body: Body<ApplicationPatch>,
    ) -> Result<Answer<ApplicationOut>, ApiError<Write>> {
        let change = body.0.read()?;
        let origin = caller.0.origin("v1.application.patch");
        let row = service::application::patch(&state.store, &origin, &caller.0.org_id, &app_id.0, change).await?;
        Ok(Answer::ok(&row.into())?)
    }

    /// Delete an application
    ///
    /// Its endpoints and messages can no longer be reached, and its uid is free again.
    #[oai(path = "/app/:app_id", method = "delete", operation_id = "v1.application.delete")]
    async fn delete(
        &self,
        caller: Organization<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
    ) -> Result<Empty, ApiError<Write>> {
        let origin = caller.0.origin("v1.application.delete");
        service::application::delete(&state.store, &origin, &caller.0.org_id, &app_id.0).await?;
        Ok(Empty)
    }
}
