//! Leases: the right of one process to send a delivery until an instant, with everything that sending needs.
//!
//! Releases and extends leases of this process. Must not make them: claims and the intake do. Must not free those of
//! dead processes: `process.rs` does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sea_orm::{ConnectionTrait, FromQueryResult};

use crate::domain::delivery::Trigger;
use crate::domain::throttle::Throttle;
use crate::domain::timestamp::Timestamp;
use crate::domain::typed_id::{AppId, DeliveryId, EndpointId, MessageId};
use crate::error::Result;
use crate::slots::Slot;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::entity::endpoint::{StoredHeaders, StoredSecret};
use crate::store::entity::json_text::JsonText;
use crate::store::{Backend, Store, Tx};
use crate::telemetry::log_fields::{DeliveryIds, LogFields};

/// The endpoint that a delivery goes to, as it was when the lease was made.
#[derive(Debug)]
pub struct Target {
    pub endpoint_id: EndpointId,
    pub app_id: AppId,
    pub url: String,
    /// The custom headers.
    pub headers: StoredHeaders,
    /// The signing secrets, newest first.
    pub secrets: Vec<StoredSecret>,
    /// The rates of the endpoint and of its application.
    pub throttle: Throttle,
    /// The instant since which the endpoint counts as failing; `None` means it works.
    pub failing_since: Option<Timestamp>,
}

/// The columns of a [`TargetRow`] without `headers`, of the endpoint `e` and its application `a`.
pub const TARGET_BUT_HEADERS: &str =
    "e.id, e.app_id, e.url, e.secrets, e.failing_since, e.throttle_rate, a.throttle_rate as app_throttle_rate";

/// The columns of an endpoint that sending needs.
#[derive(FromQueryResult)]
pub struct TargetRow {
    id: EndpointId,
    app_id: AppId,
    url: String,
    headers: JsonText<StoredHeaders>,
    secrets: JsonText<Vec<StoredSecret>>,
    failing_since: Option<Timestamp>,
    throttle_rate: Option<i32>,
    app_throttle_rate: Option<i32>,
}

impl From<TargetRow> for Target {
    fn from(row: TargetRow) -> Self {
        Self {
            throttle: Throttle {
                endpoint: row.throttle_rate.map(i32::unsigned_abs),
                app: row.app_throttle_rate.map(i32::unsigned_abs),
            },
            endpoint_id: row.id,
            app_id: row.app_id,
            url: row.url,
            headers: row.headers.0,
            secrets: row.secrets.0,
            failing_since: row.failing_since,
        }
    }
}

/// A delivery that this process may send.
pub struct Lease {
    pub delivery_id: DeliveryId,
    pub message_id: MessageId,
    pub trigger: Trigger,
    /// The number of attempts made so far.
    pub attempts_made: i32,
    /// The number that tells this lease of the row from all others.
    pub lease_id: i64,
    /// When the lease ends, by [`crate::clock::Clock::monotonic`].
    pub ends_at: Duration,
    /// `None` means that the endpoint is deleted or disabled, or its application is deleted.
    pub target: Option<Arc<Target>>,
    pub content: Content,
    /// The payload's media type; `None` means `application/json`.
    pub content_type: Option<Arc<str>>,
    /// Whether another row has delivered the message to the endpoint in the meantime: there is nothing left to send.
    /// Always false for a manual delivery.
    pub delivered_already: bool,
    /// The slot that this delivery takes, which knows its endpoint and application. It is free again when this is
    /// dropped.
    pub slot: Slot,
}

impl Lease {
    pub fn endpoint_id(&self) -> &EndpointId {
        self.slot.endpoint_id()
    }

    pub fn app_id(&self) -> &AppId {
        self.slot.app_id()
    }

    pub fn key(&self) -> LeaseKey {
        LeaseKey {
            delivery_id: self.delivery_id.clone(),
            lease_id: self.lease_id,
        }
    }

    /// Returns the fields of log lines about this delivery.
    pub fn log_fields(&self) -> LogFields {
        LogFields::of_delivery(&DeliveryIds {
            app_id: self.app_id(),
            endpoint_id: Some(self.endpoint_id()),
            message_id: Some(&self.message_id),
            delivery_id: &self.delivery_id,
        })
    }
}

/// Names one lease of one row.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LeaseKey {
    pub delivery_id: DeliveryId,
    pub lease_id: i64,
}

impl LeaseKey {
    /// Returns the names of many leases as a table with the columns `id` and `lease`.
    fn rows(leases: &[Self]) -> Rows<'_> {
        let ids = leases.iter().map(|key| key.delivery_id.as_str());
        let lease_ids = leases.iter().map(|key| key.lease_id);
        Rows::new([
            ("id", Column::Text(ids.collect())),
            ("lease", Column::Int(lease_ids.collect())),
        ])
    }
}

/// A message's payload.
#[derive(Clone, Debug)]
pub enum Content {
    /// The leases of a message that its intake has made, and their requests, share one copy.
    Body(Bytes),
    /// A body of this many bytes, more than [`LARGE_BODY`]: the sender reads it just before it sends.
    Large(usize),
    /// The payload has expired or was removed.
    Gone,
}

/// The most bytes of a body that is read with its lease. Larger ones stay in the database until they are sent, so that
/// the deliveries in flight fit in memory.
pub const LARGE_BODY: usize = 64 * 1024;

/// The terms of new leases.
#[derive(Clone, Debug)]
pub struct LeaseTerms {
    /// The owner id of this process.
    pub owner: Arc<str>,
    /// The number of the leases; all of one claim have the same.
    pub lease_id: i64,
    /// How long a lease lasts: the deadline of an attempt, and the time that may pass before it begins and until it is
    /// settled.
    pub lasts: Duration,
}

/// Gives back leases that were not sent: their rows are due now, and no attempt is counted. Leaves out
/// rows that have another lease by now.
pub async fn release(tx: &Tx, leases: &[LeaseKey]) -> Result<()> {
    let given = LeaseKey::rows(leases);
    let sql = "update delivery set due_at = $1, owner = null, lease_id = null from {given} \
               where delivery.id = given.id and delivery.lease_id = given.lease";
    let now: Timestamp = tx.now;
    tx.conn()
        .execute_raw(statement(tx.backend(), sql, &[("given", &given)], [now.0.into()]))
        .await?;
    tx.wake_on_commit();
    Ok(())
}

/// Makes rows due again that a claim has leased whose commit was not answered: no process sends them. Leaves out rows
/// that another transaction has locked. Returns the ids of those that were made due. A lease that is not among them may
/// still come: its commit may be under way.
pub async fn release_lost(tx: &Tx, leases: &[LeaseKey]) -> Result<Vec<DeliveryId>> {
    let lost = LeaseKey::rows(leases);
    let lock = match tx.backend() {
        Backend::Sqlite => "",
        Backend::Postgres => "for update of d skip locked",
    };
    let which =
        format!("select d.id from {{lost}} join delivery d on d.id = lost.id and d.lease_id = lost.lease {lock}");
    let sql = format!(
        "update delivery set due_at = $1, owner = null, lease_id = null where {} returning id",
        tx.backend().is_among("id", &which)
    );
    let released = tx
        .conn()
        .query_all_raw(statement(tx.backend(), &sql, &[("lost", &lost)], [tx.now.0.into()]))
        .await?;
    released.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Extends leases: they end `lasts` from now. Their owner becomes `owner`; `None` leaves it as it is. Leaves out rows
/// that are locked, such as those of a running settlement, and rows that have another lease by now. Returns the
/// delivery ids of the leases that were extended.
pub async fn extend(tx: &Tx, leases: &[LeaseKey], owner: Option<&str>, lasts: Duration) -> Result<Vec<DeliveryId>> {
    let held = LeaseKey::rows(leases);
    let lock = match tx.backend() {
        Backend::Postgres => "order by delivery.id for update of delivery skip locked",
        Backend::Sqlite => "",
    };
    let which = tx.backend().is_among(
        "id",
        &format!(
            "select delivery.id from {{held}} join delivery on delivery.id = held.id and delivery.lease_id = held.lease {lock}"
        ),
    );
    let sql = format!("update delivery set due_at = $1, owner = coalesce($2, owner) where {which} returning id");
    let values = [tx.now.plus(lasts).0.into(), owner.into()];
    let rows = tx
        .conn()
        .query_all_raw(statement(tx.backend(), &sql, &[("held", &held)], values))
        .await?;
    rows.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Returns the payload of a message; `None` means that it has expired or was removed.
pub async fn find_body(store: &Store, app_id: &AppId, message_id: &MessageId) -> Result<Option<String>> {
    use sea_orm::EntityTrait;

    use crate::store::entity::message_content;
    let key = (app_id.to_string(), message_id.to_string());
    let row = message_content::Entity::find_by_id(key).one(store.pool()).await?;
    Ok(row.map(|row| row.body))
}
