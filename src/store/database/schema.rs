//! Which schema the database has, and the only way to change it: migrations one at a time under a lock.
//! Must not hold a migration (the crate `migration` does) or decide when to migrate. Called by app and cli.

use std::collections::HashSet;
use std::time::Duration;

use migration::Migrator;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, EntityTrait, SqliteTransactionMode, SqlxPostgresConnector, Statement,
    TransactionOptions, TransactionTrait,
};
use sea_orm_migration::{IntoSchemaManagerConnection, MigratorTrait};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::store::Pools;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::entity::installation;

/// Names our advisory lock among those of others in the same database: "postride" in ASCII.
const LOCK: i64 = 0x706f_7374_7269_6465;
/// Between two tries for the lock. Waiting inside Postgres would deadlock with `create index concurrently`.
const LOCK_POLL: Duration = Duration::from_millis(100);
const TABLE: &str = "seaql_migrations";

/// One migration that this program or the database knows, in the order in which they are applied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    pub name: String,
    pub state: StepState,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StepState {
    Applied,
    Pending,
    /// Applied by a newer program; this one does not know it.
    Unknown,
}

/// A change of the schema.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Everything that is pending.
    Up,
    /// The last so many applied ones.
    Down(u32),
    /// Drops every table of the schema, also those that are not ours, and migrates up.
    Fresh,
    /// All down and all up again.
    Refresh,
}

/// Applies everything that is pending. Safe to call from any number of processes at once: one migrates, the others
/// wait for it. Answers whether it changed anything.
///
/// # Errors
/// `Config` when the database knows migrations that this program does not know and lacks others that it does.
pub async fn up(store: &Store) -> Result<bool> {
    change(store, Change::Up).await
}

/// Changes the schema under the migration lock; answers whether it changed anything.
///
/// # Errors
/// `Config` when the schema was made by a newer program, which alone knows how to change it.
pub async fn change(store: &Store, change: Change) -> Result<bool> {
    match store.pools() {
        Pools::Sqlite { writer, .. } => {
            let immediate = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..Default::default()
            };
            let transaction = writer.pool().inner().begin_with_options(immediate).await?;
            if !has_work(&transaction, change).await? {
                return Ok(false);
            }
            apply(&transaction, change).await?;
            transaction.commit().await?;
            Ok(true)
        }
        Pools::Postgres { options, .. } => {
            let session = lone_session((**options).clone()).await?;
            let changed = change_locked(&session, change).await;
            let _ = session.close().await;
            changed
        }
    }
}

/// What stands where, oldest first.
pub async fn status(store: &Store) -> Result<Vec<Step>> {
    steps(store.reader()).await
}

/// Proves that this program can work on the schema as it is.
///
/// A newer schema is fine as long as `installation.compatible_since`, the oldest migration that a program must
/// know, is one of ours: that is what lets replicas be replaced one by one.
///
/// # Errors
/// `Config` when the schema is older than this program, or needs a newer one.
pub async fn check(store: &Store) -> Result<()> {
    let steps = status(store).await?;
    let pending = named(&steps, StepState::Pending);
    let unknown = named(&steps, StepState::Unknown);
    if let Some(oldest) = pending.first() {
        return Err(Error::config(format!(
            "the database's schema is older than this program ({} of its migrations not applied, first {oldest}): \
             run `app migrate`",
            pending.len()
        )));
    }
    let Some(newest) = unknown.last() else {
        return Ok(());
    };
    let row = installation::Entity::find_by_id(1).one(store.reader()).await?;
    let since = row.map(|row| row.compatible_since).unwrap_or_default();
    if steps
        .iter()
        .any(|step| step.name == since && step.state == StepState::Applied)
    {
        tracing::info!(newest, "the database's schema is newer than this program and allows it");
        return Ok(());
    }
    Err(Error::config(format!(
        "the database's schema ({newest}) needs a newer program than this one: it must know the migration {since}"
    )))
}

fn named(steps: &[Step], state: StepState) -> Vec<&str> {
    steps
        .iter()
        .filter(|step| step.state == state)
        .map(|step| step.name.as_str())
        .collect()
}

async fn steps(db: &impl ConnectionTrait) -> Result<Vec<Step>> {
    let applied = applied(db).await?;
    let own: Vec<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    let known: HashSet<&String> = own.iter().collect();
    let unknown: Vec<Step> = applied
        .iter()
        .filter(|name| !known.contains(name))
        .map(|name| Step {
            name: name.clone(),
            state: StepState::Unknown,
        })
        .collect();
    let state = |name| {
        if applied.contains(name) {
            StepState::Applied
        } else {
            StepState::Pending
        }
    };
    Ok(own
        .iter()
        .map(|name| Step {
            name: name.clone(),
            state: state(name),
        })
        .chain(unknown)
        .collect())
}

/// The names in the database's own list. Not sea-orm-migration's `status`, which fails on a name it does not know.
async fn applied(db: &impl ConnectionTrait) -> Result<Vec<String>> {
    let backend = db.get_database_backend();
    let exists = match backend {
        sea_orm::DbBackend::Sqlite => format!("select 1 from sqlite_master where name = '{TABLE}'"),
        _ => format!("select 1 where to_regclass('{TABLE}') is not null"),
    };
    if db
        .query_one_raw(Statement::from_string(backend, exists))
        .await?
        .is_none()
    {
        return Ok(Vec::new());
    }
    let names = Statement::from_string(backend, format!("select version from {TABLE} order by version"));
    db.query_all_raw(names)
        .await?
        .iter()
        .map(|row| row.try_get_by_index(0).map_err(Error::from))
        .collect()
}

/// Whether `change` would do anything, and may.
async fn has_work(db: &impl ConnectionTrait, change: Change) -> Result<bool> {
    let steps = steps(db).await?;
    let pending = steps.iter().any(|step| step.state == StepState::Pending);
    let unknown = named(&steps, StepState::Unknown);
    match change {
        Change::Fresh => Ok(true),
        Change::Up if !pending => Ok(false),
        _ if !unknown.is_empty() => Err(Error::config(format!(
            "the database knows a migration that this program does not ({}): use the program that applied it",
            unknown.join(", ")
        ))),
        Change::Up | Change::Refresh => Ok(true),
        Change::Down(wanted) => Ok(wanted > 0 && steps.iter().any(|step| step.state == StepState::Applied)),
    }
}

/// A pool of exactly one connection, so that the lock's session is the one that migrates; no statement timeout.
async fn lone_session(options: PgConnectOptions) -> Result<DatabaseConnection> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(super::pool::TURN_DEADLINE)
        .connect_lazy_with(options.options([("statement_timeout", "0"), ("idle_in_transaction_session_timeout", "0")]));
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}

async fn change_locked(session: &DatabaseConnection, change: Change) -> Result<bool> {
    let mut waiting = false;
    loop {
        if !has_work(session, change).await? {
            return Ok(false);
        }
        if try_lock(session).await? {
            break;
        }
        if !waiting {
            tracing::info!("waiting for another process that migrates this database");
            waiting = true;
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
    // Another process may have done the work between the look and the lock.
    let changed = match has_work(session, change).await {
        Ok(true) => apply(session, change).await.map(|()| true),
        other => other,
    };
    let unlock = format!("select pg_advisory_unlock({LOCK})");
    session
        .query_one_raw(Statement::from_string(sea_orm::DbBackend::Postgres, unlock))
        .await?;
    changed
}

async fn apply<'c>(db: impl IntoSchemaManagerConnection<'c>, change: Change) -> Result<()> {
    match change {
        Change::Up => Migrator::up(db, None).await?,
        Change::Down(steps) => Migrator::down(db, Some(steps)).await?,
        Change::Fresh => Migrator::fresh(db).await?,
        Change::Refresh => Migrator::refresh(db).await?,
    }
    Ok(())
}

async fn try_lock(session: &DatabaseConnection) -> Result<bool> {
    let statement = format!("select pg_try_advisory_lock({LOCK})");
    let row = session
        .query_one_raw(Statement::from_string(sea_orm::DbBackend::Postgres, statement))
        .await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or(false))
}
