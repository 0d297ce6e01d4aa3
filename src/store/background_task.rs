//! Reads and writes the rows of background tasks: each recovers or replays past messages of one endpoint.
//!
//! A task that has not ended has a `due_at`. Whichever process makes its next step locks its row until the step
//! commits, so no two processes make the same step. Must not choose messages or queue deliveries: `queue/replay.rs`
//! does.

use sea_orm::sea_query::{LockBehavior, LockType};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IntoActiveModel, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, Select, Statement,
};

use super::database::page::{Page, PageRequest, fetch};
use super::database::source::Source;
use super::entity::background_task::{ActiveModel, Column, Entity, Model};
use super::entity::json_text::JsonText;
use super::retention::delete_found;
use super::{Store, Tx};
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::domain::task::{ReplayFilter, TaskKind, TaskStatus, Window};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Result};

/// A task that is to be started.
#[derive(Clone, Debug)]
pub struct NewTask<'a> {
    pub org_id: &'a str,
    pub app_id: &'a str,
    pub endpoint_id: &'a str,
    pub kind: TaskKind,
    pub window: Window,
    /// Set for a bulk replay only.
    pub filter: Option<ReplayFilter>,
}

/// The conditions that a listed task meets; `None` means any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    pub kind: Option<TaskKind>,
    pub status: Option<TaskStatus>,
}

/// Returns the prefix of the ids that a task of this kind walks through: a recovery looks at attempts, a replay at
/// messages.
pub(super) fn looks_at(kind: TaskKind) -> Prefix {
    match kind {
        TaskKind::Recover => Prefix::Attempt,
        TaskKind::ReplayMissing | TaskKind::BulkReplay => Prefix::Message,
    }
}

/// The tasks that a caller sees: those of an organization, or of one application of it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub org_id: &'a str,
    /// `None` means the tasks of all applications.
    pub app_id: Option<&'a str>,
}

impl Seen<'_> {
    fn select(self) -> Select<Entity> {
        let of_organization = Entity::find().filter(Column::OrgId.eq(self.org_id));
        match self.app_id {
            Some(app_id) => of_organization.filter(Column::AppId.eq(app_id)),
            None => of_organization,
        }
    }

    fn with_id(self, id: &str) -> Result<Select<Entity>> {
        check_identifier(id).map_err(|_| not_found())?;
        Ok(self.select().filter(Column::Id.eq(id)))
    }
}

fn not_found() -> Error {
    Error::not_found("background task")
}

/// Returns a task that the caller sees.
///
/// # Errors
/// `NotFound` if there is no such task.
pub async fn get(source: &impl Source, seen: Seen<'_>, id: &str) -> Result<Model> {
    let found = seen.with_id(id)?.one(source.source());
    found.await?.ok_or_else(not_found)
}

/// Does the same as [`get`], and locks the task's row until the transaction ends. Waits while a step of the task is
/// being made.
///
/// # Errors
/// As [`get`].
pub async fn get_locked(tx: &Tx, seen: Seen<'_>, id: &str) -> Result<Model> {
    let found = seen.with_id(id)?.lock(LockType::Update).one(tx.conn());
    found.await?.ok_or_else(not_found)
}

/// Returns a page of the tasks that the caller sees, in the order of their ids.
pub async fn list(source: &impl Source, seen: Seen<'_>, filter: &Filter, page: &PageRequest) -> Result<Page<Model>> {
    let mut query = seen.select();
    if let Some(kind) = filter.kind {
        query = query.filter(Column::Kind.eq(kind));
    }
    if let Some(status) = filter.status {
        query = query.filter(Column::Status.eq(status));
    }
    fetch(source, query, Column::Id, page).await
}

/// Counts the tasks of an application that have not ended.
pub async fn count_running(source: &impl Source, app_id: &str) -> Result<u64> {
    let running = Entity::find()
        .filter(Column::AppId.eq(app_id))
        .filter(Column::DueAt.is_not_null());
    Ok(running.count(source.source()).await?)
}

/// Inserts a task whose first step is due at once.
pub async fn insert(tx: &Tx, new: NewTask<'_>) -> Result<Model> {
    let model = Model {
        id: tx.store().clock().new_id_at(Prefix::BackgroundTask, tx.now),
        org_id: new.org_id.to_owned(),
        app_id: new.app_id.to_owned(),
        endpoint_id: new.endpoint_id.to_owned(),
        kind: new.kind,
        status: TaskStatus::Running,
        since_at: new.window.since,
        until_at: new.window.until,
        filter: new.filter.map(JsonText),
        reached: looks_at(new.kind).first_id_at(new.window.since),
        reached_at: new.window.since,
        looked: 0,
        queued: 0,
        due_at: Some(tx.now),
        failure: None,
        created_at: tx.now,
        updated_at: tx.now,
    };
    let row = model.clone().into_active_model();
    Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(model)
}

/// Returns the instant at which the next step of any task is due. `None` means that it is later than `horizon`, or that
/// there is none.
pub async fn find_next_due(store: &Store, horizon: Timestamp) -> Result<Option<Timestamp>> {
    let next = due_by(horizon).select_only().column(Column::DueAt);
    Ok(next.into_tuple().one(store.pool()).await?)
}

/// An application with tasks that have not ended.
#[derive(Debug, FromQueryResult)]
pub struct Turn {
    pub app_id: String,
    /// When the next step of any of its tasks is due.
    pub due_at: Timestamp,
}

/// Returns up to `most` applications with tasks that have not ended, in the order of their ids, from the first id after
/// `after`. Jumps through the index from application to application, so the number of tasks does not matter.
pub async fn list_turns(store: &Store, after: &str, most: usize) -> Result<Vec<Turn>> {
    let sql = "with recursive jump(app_id) as (\
               select * from (select app_id from background_task where due_at is not null and app_id > $1 \
               order by app_id limit 1) as first \
               union all select (select t.app_id from background_task t where t.due_at is not null \
               and t.app_id > jump.app_id order by t.app_id limit 1) from jump where jump.app_id is not null), \
               turn as (select app_id from jump where app_id is not null limit $2) \
               select app_id, (select t.due_at from background_task t where t.due_at is not null \
               and t.app_id = turn.app_id order by t.due_at limit 1) as due_at from turn";
    let values = [after.into(), (most as i64).into()];
    let statement = Statement::from_sql_and_values(store.backend().orm(), sql, values);
    let rows = store.pool().query_all_raw(statement).await?;
    Ok(rows
        .iter()
        .map(|row| Turn::from_query_result(row, ""))
        .collect::<Result<_, _>>()?)
}

/// Returns the application's task whose next step has been due longest, and locks its row until the transaction ends.
/// Leaves out tasks that other processes have locked.
pub async fn find_due_locked(tx: &Tx, app_id: &str) -> Result<Option<Model>> {
    let found = due_by(tx.now)
        .filter(Column::AppId.eq(app_id))
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    Ok(found.one(tx.conn()).await?)
}

/// Selects the task whose next step has been due longest at `at`.
fn due_by(at: Timestamp) -> Select<Entity> {
    Entity::find()
        .filter(Column::DueAt.is_not_null())
        .filter(Column::DueAt.lte(at))
        .order_by_asc(Column::DueAt)
        .order_by_asc(Column::Id)
        .limit(1)
}

/// Stores how far a task has come. The caller has locked the task's row.
pub async fn update(tx: &Tx, task: &Model) -> Result<()> {
    let row = ActiveModel {
        status: Set(task.status),
        reached: Set(task.reached.clone()),
        reached_at: Set(task.reached_at),
        looked: Set(task.looked),
        queued: Set(task.queued),
        due_at: Set(task.due_at),
        failure: Set(task.failure.clone()),
        updated_at: Set(tx.now),
        ..Default::default()
    };
    let update = Entity::update_many().set(row).filter(Column::Id.eq(&task.id));
    update.exec(tx.conn()).await?;
    Ok(())
}

/// Puts off the next step of a task until `until`. A task that has ended stays as it is.
pub async fn postpone(tx: &Tx, id: &str, until: Timestamp) -> Result<()> {
    let row = ActiveModel {
        due_at: Set(Some(until)),
        ..Default::default()
    };
    let update = Entity::update_many()
        .set(row)
        .filter(Column::Id.eq(id))
        .filter(Column::DueAt.is_not_null());
    update.exec(tx.conn()).await?;
    Ok(())
}

/// Removes up to `most` tasks that have ended and were started before `before`. Returns how many.
pub async fn prune(tx: &Tx, before: Timestamp, most: u64) -> Result<u64> {
    let lock = tx.backend().skip_locked();
    let sql = format!("select id from background_task where id < $1 and due_at is null order by id limit $2 {lock}");
    let values = [Prefix::BackgroundTask.first_id_at(before).into(), (most as i64).into()];
    let ended = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    delete_found(tx, "background_task", &["id"], ended).await
}
