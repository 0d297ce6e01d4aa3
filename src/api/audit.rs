//! The audit log over REST: a list of the writes of an organization. Reads only.
//!
//! Must not write entries: each write does so, in its own transaction.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::rights::{Administer, Organization};
use super::wire::error::{ApiError, Read};
use super::wire::paging::{Iterates, Limit, ListOut, ListQuery, bad_query};
use super::wire::response::Answer;
use super::wire::values::{Instant, JsonText};
use super::{ApiState, Tag};
use crate::domain::audit::{ActorKind, ObjectKind};
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::error::Result;
use crate::store::Between;
use crate::store::audit::{Filter, list};
use crate::store::entity::audit::Model;

/// The party that made a write.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct AuditActorOut {
    /// `token`: a token of the organization; `portal`: a token of an application; `cli`: the command line; `system`:
    /// the server itself.
    kind: ActorKind,
    /// The id of the token; `admin` for the configured one, `cli` for the command line, `system` for the server.
    id: String,
    /// The name that the token had; null: it had none.
    #[oai(nullable)]
    name: Option<String>,
}

/// The thing that was written.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct AuditObjectOut {
    kind: ObjectKind,
    /// Its id; the name of an event type.
    id: String,
}

/// A write.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct AuditEntryOut {
    id: String,
    timestamp: Instant,
    actor: AuditActorOut,
    /// The id of the operation in this document. For the command line `cli.` and the command, for the server itself
    /// `system.` and what it did.
    operation: String,
    /// The application that the write concerns; absent if it concerns the organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<String>,
    object: AuditObjectOut,
    /// The changed fields before the write, as an object; null if there was nothing before. A value that is too large
    /// is replaced by `{"cut": true, "bytes": N}`.
    #[oai(nullable)]
    before: Option<JsonText>,
    /// The changed fields after the write, as an object; null if there is nothing after it.
    #[oai(nullable)]
    after: Option<JsonText>,
    /// The `x-request-id` of the request; null if no request made the write.
    #[oai(nullable)]
    request_id: Option<String>,
}

impl AuditEntryOut {
    fn new(row: Model) -> Result<Self> {
        let after = match row.further {
            Some(count) => Some(format!(r#"{{"furtherWrites":{count}}}"#)),
            None => row.after_json,
        };
        Ok(Self {
            id: row.id,
            timestamp: Instant(row.created_at),
            actor: AuditActorOut {
                kind: row.actor_kind,
                id: row.actor_id,
                name: row.actor_name,
            },
            operation: row.operation,
            app_id: row.app_id,
            object: AuditObjectOut {
                kind: row.object_kind,
                id: row.object_id,
            },
            before: row.before_json.map(JsonText::new).transpose()?,
            after: after.map(JsonText::new).transpose()?,
            request_id: row.request_id,
        })
    }
}

pub(super) struct AuditLog;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Audit")]
impl AuditLog {
    /// List the audit log
    ///
    /// The writes of the organization, newest first: by its tokens, by those of its applications, by the command line
    /// and by the server itself. Messages have no entry.
    #[oai(path = "/audit", method = "get", operation_id = "v1.audit.list")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        caller: Organization<Administer>,
        state: Data<&Arc<ApiState>>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        /// Only writes by the actor with this id.
        actor: Query<Option<String>>,
        /// Only writes by this operation.
        operation: Query<Option<String>>,
        /// Only writes of the thing with this id; of an event type by its name.
        object: Query<Option<String>>,
        /// Only writes from before this instant.
        before: Query<Option<Instant>>,
        /// Only writes from after this instant.
        after: Query<Option<Instant>>,
    ) -> Result<Answer<ListOut<AuditEntryOut>>, ApiError<Read>> {
        let mut request = ListQuery { limit, iterator }.request(&Iterates::Over(Prefix::AuditEntry), false)?;
        for (name, value) in [("actor", &actor.0), ("operation", &operation.0), ("object", &object.0)] {
            let text = value.as_deref();
            text.map_or(Ok(()), check_identifier)
                .map_err(|rule| bad_query(name, rule))?;
        }
        let between = Between {
            after: after.0.map(|instant| instant.0),
            before: before.0.map(|instant| instant.0),
        };
        // With `after` alone the list begins at that instant and goes on towards the present.
        if request.after.is_none() && between.after.is_some() && between.before.is_none() {
            request.backwards = true;
        }
        let filter = Filter {
            between,
            actor: actor.0,
            operation: operation.0,
            object: object.0,
        };
        let page = list(&state.store, &caller.0.org_id, &filter, &request).await?;
        Ok(ListOut::answer(page, &request, |row| &row.id, AuditEntryOut::new)?)
    }
}
