//! A lease: one delivery that this process may send until the lease ends, with all that sending needs.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, FromQueryResult};

use crate::domain::delivery::Trigger;
use crate::domain::throttle::Throttle;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::slots::Slot;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::entity::endpoint::{StoredHeaders, StoredSecret};
use crate::store::entity::json_text::JsonText;
use crate::store::{Backend, Store, Tx};

/// Where to send: the endpoint as it was when the lease was made.
#[derive(Debug)]
pub struct Target {
    pub endpoint_id: Arc<str>,
    pub app_id: Arc<str>,
    pub url: String,
    pub headers: StoredHeaders,
    /// Newest first.
    pub secrets: Vec<StoredSecret>,
    pub throttle: Throttle,
    /// Since when the endpoint counts as failing.
    pub failing_since: Option<Timestamp>,
}

/// The columns of a [`TargetRow`] but `headers`, of the endpoint `e` and its application `a`.
pub const TARGET_BUT_HEADERS: &str =
    "e.id, e.app_id, e.url, e.secrets, e.failing_since, e.throttle_rate, a.throttle_rate as app_throttle_rate";

/// An endpoint, as far as sending needs it.
#[derive(FromQueryResult)]
pub struct TargetRow {
    id: String,
    app_id: String,
    url: String,
    headers: JsonText<StoredHeaders>,
    secrets: JsonText<Vec<StoredSecret>>,
    failing_since: Option<Timestamp>,
    throttle_rate: Option<i32>,
    app_throttle_rate: Option<i32>,
}

impl From<TargetRow> for Target {
    fn from(row: TargetRow) -> Self {
        let endpoint_id: Arc<str> = row.id.into();
        let rates = [(&*endpoint_id, row.throttle_rate), (&row.app_id, row.app_throttle_rate)];
        let rates = rates.iter().filter_map(|(id, rate)| Some((*id, (*rate)?)));
        Self {
            throttle: rates.map(|(id, rate)| (id.into(), rate.unsigned_abs())).collect(),
            endpoint_id,
            app_id: row.app_id.into(),
            url: row.url,
            headers: row.headers.0,
            secrets: row.secrets.0,
            failing_since: row.failing_since,
        }
    }
}

pub struct Lease {
    pub delivery_id: String,
    pub app_id: String,
    pub message_id: String,
    pub endpoint_id: Arc<str>,
    pub trigger: Trigger,
    /// Attempts made before this one.
    pub attempt: i32,
    pub lease_id: i64,
    /// When the lease ends, by [`crate::clock::Clock::monotonic`].
    pub ends_at: Duration,
    /// None: endpoint or application is deleted or disabled.
    pub target: Option<Arc<Target>>,
    pub content: Content,
    /// None: `application/json`.
    pub content_type: Option<Arc<str>>,
    /// The pair has been delivered by another row meanwhile: there is nothing left to send.
    pub delivered_already: bool,
    /// Frees the place in flight when it is dropped.
    pub slot: Slot,
}

/// A message's payload.
#[derive(Clone, Debug)]
pub enum Content {
    Body(Arc<str>),
    /// Larger than [`LARGE_BODY`], in bytes: the sender reads it just before it sends.
    Large(usize),
    /// Expired or expunged.
    Gone,
}

/// Bytes. Bodies up to here travel with their lease; larger ones stay in the database until they are sent, so that
/// what is in flight fits in memory.
pub const LARGE_BODY: usize = 64 * 1024;

/// Who leases, and until when.
#[derive(Clone, Debug)]
pub struct LeaseTerms {
    pub owner: Arc<str>,
    pub lease_id: i64,
    /// How long the lease lasts: the whole attempt's deadline and what may pass before it begins.
    pub lasts: Duration,
}

/// Gives leases back unsent: due now, attempts not counted. Rows whose lease has changed hands are left alone.
pub async fn release(tx: &Tx, leases: impl IntoIterator<Item = (&str, i64)>) -> Result<()> {
    let (ids, lease_ids): (Vec<_>, Vec<_>) = leases.into_iter().unzip();
    let given = Rows::new([("id", Column::Text(ids)), ("lease", Column::Int(lease_ids))]);
    let sql = "update delivery set due_at = $1, owner = null, lease_id = null from {given} \
               where delivery.id = given.id and delivery.lease_id = given.lease";
    let now: Timestamp = tx.now;
    tx.conn()
        .execute_raw(statement(tx.backend(), sql, &[("given", &given)], [now.0.into()]))
        .await?;
    tx.wake_on_commit();
    Ok(())
}

/// Puts the end of leases off: they last as long as if they were made now, by `owner`; `None` leaves the one that they have.
/// Leaves out rows that are locked, such as those of a settle that is under way, and rows whose lease has changed hands.
/// Returns the ids of the others.
pub async fn extend(tx: &Tx, leases: &[(String, i64)], owner: Option<&str>, lasts: Duration) -> Result<Vec<String>> {
    let held = Rows::new([
        ("id", Column::Text(leases.iter().map(|(id, _)| id.as_str()).collect())),
        ("lease", Column::Int(leases.iter().map(|(_, lease)| *lease).collect())),
    ]);
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

/// The payload of a message, `None` when it has expired or was expunged.
pub async fn find_body(store: &Store, app_id: &str, message_id: &str) -> Result<Option<String>> {
    use sea_orm::EntityTrait;

    use crate::store::entity::message_content;
    let key = (app_id.to_owned(), message_id.to_owned());
    let row = message_content::Entity::find_by_id(key).one(store.reader()).await?;
    Ok(row.map(|row| row.body))
}
