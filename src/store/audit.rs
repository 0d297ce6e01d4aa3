//! Writes, lists and removes the entries of the audit log.
//!
//! An entry is written in the transaction of its write, as its last statement, so that neither exists without the
//! other. What an application's tokens write has at most [`MOST_A_DAY`] entries of its own a day, and one more that
//! counts the rest: a customer that writes in a loop must not fill the disk. Transactions at once do not see each
//! other's entries, so there may be a few more.
//!
//! Must not decide which writes have an entry: the service does, and the settlement for endpoints that it disables.

use std::time::Duration;

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveEnum, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, Statement};

use super::database::page::{Between, Page, PageRequest, fetch_within};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::audit::{Column, Entity, Model};
use super::organization;
use super::retention::delete_found;
use crate::domain::audit::{ActorKind, Fields, ObjectKind, Origin};
use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::telemetry::log_fields::request_id;

/// The entries that what one application's tokens write has in a day (UTC), before the rest is only counted. A day of
/// these takes some 1 MB, and at most 16 MB.
pub const MOST_A_DAY: u64 = 1_000;
const DAY: Duration = Duration::from_hours(24);
/// The operation of an entry that counts further writes.
const FURTHER: &str = "system.audit.further";
/// Organizations that one statement reads.
const ORGANIZATIONS: u64 = 1_000;
/// SQL for the bytes of an entry that are read to show it. Columns that are always small are left out.
const SHOWN_BYTES: &str = "coalesce(octet_length(before_json), 0) + coalesce(octet_length(after_json), 0)";

/// A write, as its entry describes it.
#[derive(Clone, Debug)]
pub struct Written<'a> {
    pub org_id: &'a str,
    /// The application that the write concerns; `None` means it concerns the organization.
    pub app_id: Option<&'a str>,
    pub kind: ObjectKind,
    /// The id of the thing that was written; the name of an event type.
    pub id: &'a str,
    /// The changed fields before the write; `None` means there was nothing before.
    pub before: Option<Fields>,
    /// The changed fields after the write; `None` means there is nothing after it.
    pub after: Option<Fields>,
}

/// The conditions that a listed entry meets; `None` means any.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub between: Between,
    pub actor: Option<String>,
    pub operation: Option<String>,
    pub object: Option<String>,
}

/// Writes the entry of a write. The caller does it last in its transaction: the entry that counts an application's
/// further writes is locked until the commit.
pub async fn record(tx: &Tx, origin: &Origin<'_>, written: Written<'_>) -> Result<()> {
    if origin.actor.kind == ActorKind::Portal
        && let Some(app_id) = written.app_id
        && has_enough(tx, app_id).await?
    {
        return count_further(tx, written.org_id, app_id).await;
    }
    let row = entry(tx, origin, written);
    let insert = Entity::insert(row.into_active_model());
    insert.exec_without_returning(tx.conn()).await?;
    Ok(())
}

/// Makes the entry of a write.
fn entry(tx: &Tx, origin: &Origin<'_>, written: Written<'_>) -> Model {
    Model {
        id: tx.store().clock().new_id_at(Prefix::AuditEntry, tx.now),
        org_id: written.org_id.to_owned(),
        app_id: written.app_id.map(str::to_owned),
        created_at: tx.now,
        actor_kind: origin.actor.kind,
        actor_id: origin.actor.id.to_owned(),
        actor_name: origin.actor.name.map(str::to_owned),
        operation: origin.operation.to_owned(),
        object_kind: written.kind,
        object_id: written.id.to_owned(),
        before_json: written.before.map(Fields::written),
        after_json: written.after.map(Fields::written),
        request_id: request_id(),
        further: None,
    }
}

/// Returns whether the tokens of an application have as many entries today as they may have. Reads that many entries of
/// an index at most.
async fn has_enough(tx: &Tx, app_id: &str) -> Result<bool> {
    let portal = ActorKind::Portal.to_value();
    // A literal, because Postgres matches partial indexes against constants only.
    let sql = format!(
        "select id from audit where actor_kind = '{portal}' and app_id = $1 and id >= $2 order by id limit 1 offset $3"
    );
    let today = Prefix::AuditEntry.first_id_at(tx.now.begin_of(DAY));
    let values = [app_id.into(), today.into(), (MOST_A_DAY as i64 - 1).into()];
    let last = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    Ok(tx.conn().query_one_raw(last).await?.is_some())
}

/// Counts a write in the entry for all those of today that have no entry of their own. It stands at the beginning of
/// the day, and its id is made of the day and the application, so that there is only one.
async fn count_further(tx: &Tx, org_id: &str, app_id: &str) -> Result<()> {
    let day = tx.now.begin_of(DAY);
    let written = Written {
        org_id,
        app_id: Some(app_id),
        kind: ObjectKind::Application,
        id: app_id,
        before: None,
        after: None,
    };
    let row = Model {
        id: Prefix::AuditEntry.named_id_at(day, app_id),
        created_at: day,
        request_id: None,
        further: Some(1),
        ..entry(tx, &Origin::system(FURTHER), written)
    };
    let one_more = OnConflict::column(Column::Id)
        .value(Column::Further, Expr::col((Entity, Column::Further)).add(1))
        .to_owned();
    let insert = Entity::insert(row.into_active_model()).on_conflict(one_more);
    insert.exec_without_returning(tx.conn()).await?;
    Ok(())
}

/// Writes an entry for each organization: of a write that concerns the whole database.
pub async fn record_for_all(tx: &Tx, origin: &Origin<'_>, kind: ObjectKind, id: &str) -> Result<()> {
    let mut after = String::new();
    loop {
        let organizations = organization::list(tx, &after, ORGANIZATIONS).await?;
        let Some(last) = organizations.last() else {
            return Ok(());
        };
        after.clone_from(&last.id);
        let entries = organizations.iter().map(|organization| {
            let written = Written {
                org_id: &organization.id,
                app_id: None,
                kind,
                id,
                before: None,
                after: None,
            };
            entry(tx, origin, written).into_active_model()
        });
        Entity::insert_many(entries).exec_without_returning(tx.conn()).await?;
    }
}

/// Returns a page of an organization's entries, in the order of their ids. The page may end early, so that it takes no
/// more than 4 MiB.
pub async fn list(source: &impl Source, org_id: &str, filter: &Filter, page: &PageRequest) -> Result<Page<Model>> {
    let mut query = Entity::find().filter(Column::OrgId.eq(org_id));
    let equal = [
        (Column::ActorId, &filter.actor),
        (Column::Operation, &filter.operation),
        (Column::ObjectId, &filter.object),
    ];
    for (column, wanted) in equal {
        if let Some(wanted) = wanted {
            query = query.filter(column.eq(wanted));
        }
    }
    let query = filter.between.apply(query, Column::Id, Prefix::AuditEntry);
    fetch_within(source, query, Column::Id, page, SHOWN_BYTES, |query| query).await
}

/// Removes up to `most` entries from before `before`. Returns how many.
pub async fn prune(tx: &Tx, before: Timestamp, most: u64) -> Result<u64> {
    let lock = tx.backend().skip_locked();
    let sql = format!("select id from audit where id < $1 order by id limit $2 {lock}");
    let values = [Prefix::AuditEntry.first_id_at(before).into(), (most as i64).into()];
    let old = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    delete_found(tx, "audit", &["id"], old).await
}
