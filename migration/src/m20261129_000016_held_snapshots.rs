//! What a held snapshot makes dear. An older program works on this schema as it did.
//!
//! The beat is part of the key of `process`: beats only rise, so whoever knows one of an owner's beats finds the present one
//! without reading the dead versions below. With the owner alone as the key, each insertion into the index compared itself
//! with every dead version.
//!
//! `delivery` is vacuumed without being cut short: it grows again at the next message, and cutting takes a lock that every
//! claim waits for, and on a standby ends queries. Its pages are filled to the end: each update changes an indexed column,
//! so room for versions in the same page was never used.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub struct Migration;

const DELIVERY: &str = "{postgres} alter table delivery reset (fillfactor);
{postgres} alter table delivery set (vacuum_truncate = off)";
const DELIVERY_AS_BEFORE: &str = "{postgres} alter table delivery reset (vacuum_truncate);
{postgres} alter table delivery set (fillfactor = 70)";

/// SQLite cannot change a key, and its one process needs no beats: the table is empty there.
async fn set_key(manager: &SchemaManager<'_>, key: &str) -> Result<(), DbErr> {
    let sql = match manager.get_database_backend() {
        DatabaseBackend::Postgres => {
            format!("alter table process drop constraint process_pkey; alter table process add primary key ({key})")
        }
        _ => format!(
            "drop table process; create table process (owner text not null, beat bigint not null, \
             started_at bigint not null, key_checks text, primary key ({key}))"
        ),
    };
    crate::run(manager, &sql).await
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        set_key(manager, "owner, beat").await?;
        crate::run(manager, DELIVERY).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        set_key(manager, "owner").await?;
        crate::run(manager, DELIVERY_AS_BEFORE).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
