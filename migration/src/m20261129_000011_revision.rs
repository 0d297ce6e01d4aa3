//! Revisions of applications are random numbers, no counts: a database that has lost its last writes (a failover to an
//! asynchronous replica, a restore) would count up to the same number for another change, and what a process remembers of
//! the lost one would pass for current. Safe for the version before: it compares revisions, and nothing else.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The trigger function, with the new revision that it gives.
fn application_changed(revision: &str) -> String {
    format!(
        "create or replace function application_changed() returns trigger language plpgsql as $$ \
         begin new.revision := {revision}; return new; end $$"
    )
}

/// The revision is an integer, so of the random id there are 64 bits.
const RANDOM: &str = "hashtextextended(gen_random_uuid()::text, 0)";
const COUNTED: &str = "old.revision + 1";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        replace(manager, RANDOM).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        replace(manager, COUNTED).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// SQLite has no revisions: there nothing is remembered.
async fn replace(manager: &SchemaManager<'_>, revision: &str) -> Result<(), DbErr> {
    if manager.get_database_backend() == DatabaseBackend::Postgres {
        let function = application_changed(revision);
        manager.get_connection().execute_unprepared(&function).await?;
    }
    Ok(())
}
