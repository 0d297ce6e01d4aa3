//! Compares the database's schema with this program, and changes the schema by migrations. A lock lets one process
//! migrate while the others wait.
//!
//! Must not contain a migration: the crate `migration` does. Must not decide when to migrate: `app` and `cli` do.

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

/// The number of our advisory lock, apart from those of other programs in the same database: "postride" in ASCII.
const LOCK: i64 = 0x706f_7374_7269_6465;
/// The pause between two tries for the lock. Waiting inside Postgres would deadlock with `create index concurrently`.
const LOCK_POLL: Duration = Duration::from_millis(100);
/// The table in which sea-orm-migration lists the applied migrations.
const TABLE: &str = "seaql_migrations";

/// A migration that this program or the database knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    pub name: String,
    pub state: StepState,
}

/// Whether a migration was applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StepState {
    Applied,
    Pending,
    /// The migration was applied by a newer program and is unknown to this one.
    Unknown,
}

/// A change of the schema.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Applies all pending migrations.
    Up,
    /// Reverts this many migrations, beginning with the one that was applied last.
    Down(u32),
    /// Drops every table of the schema, even those of other programs, and applies all migrations.
    Fresh,
    /// Reverts all migrations and applies them again.
    Refresh,
}

/// Applies all pending migrations. Returns whether there were any. Any number of processes may call it at once: one
/// migrates, and the others wait for it.
///
/// # Errors
/// `Config` if the database has a migration that this program does not know, and lacks one that it knows.
pub async fn up(store: &Store) -> Result<bool> {
    change(store, Change::Up).await
}

/// Changes the schema under the migration lock. Returns whether there was anything to change.
///
/// # Errors
/// `Config` if the database has a migration that this program does not know: only the program that applied it can
/// change the schema, unless the change is [`Change::Fresh`], or [`Change::Up`] and nothing is pending.
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

/// Lists the migrations: first those of this program in the order in which they are applied, then unknown ones.
pub async fn status(store: &Store) -> Result<Vec<Step>> {
    steps(store.pool()).await
}

/// Checks that this program can work with the schema as it is.
///
/// A newer schema is accepted if this program knows the migration in `installation.compatible_since`, which is the one
/// that a program must know at least. So replicas can be replaced one by one.
///
/// # Errors
/// `Config` if the schema is older than this program, or needs a newer program.
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
    let row = installation::Entity::find_by_id(1).one(store.pool()).await?;
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

/// Returns the names of the steps in this state.
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

/// Returns the names of the migrations that the database lists as applied, in order.
// Not by sea-orm-migration's `status`, which fails on a name that it does not know.
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

/// Returns whether there is anything to do for `change`. Fails if this program must not do it.
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

/// Makes a pool of exactly one connection, so that the session that takes the lock is the one that migrates. Its
/// statements may run for any time.
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
    // Looked at again, because another process may have migrated before this one got the lock.
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

/// Returns whether this session got the migration lock.
async fn try_lock(session: &DatabaseConnection) -> Result<bool> {
    let statement = format!("select pg_try_advisory_lock({LOCK})");
    let row = session
        .query_one_raw(Statement::from_string(sea_orm::DbBackend::Postgres, statement))
        .await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or(false))
}
