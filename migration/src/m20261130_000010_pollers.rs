//! Pollers: an application's messages for programs that ask for them, instead of a URL to which they are sent.
//!
//! - `poller` is a filter with signing secrets, as an endpoint is one without a URL. `application.polled` says whether the
//!   application has one that takes messages, so that accepting a message for any other application reads nothing of
//!   pollers. Each write of a poller writes that column too, and so changes the application's revision.
//! - `poller.number` is a random number above zero, and names the poller in `poll_item`: with two ids of thirty characters
//!   such a row cost the database more time than a delivery. It is random and not counted, because the rows of a deleted
//!   poller stay until their messages go: no other poller may get its number, not even in a database that was put back to
//!   an earlier state.
//! - `poll_item` is a message in a poller's order. `tx` is the number of the transaction that stored the message, with the
//!   number of an epoch in the bits above 48. The primary key is that order, so it is proven by the index that reads use.
//!   Rows are removed, and found for a message, by an index of the message's id alone.
//! - `poll_epoch` gives each history of transaction numbers a number of its own, larger than all before.
//!   `poll_identity()` names the present one on Postgres: the cluster and its timeline. `last` is the number of the last
//!   such transaction on SQLite.
//! - `poller_consumer` keeps the place of a reader that does not keep it itself.
//! - A token with `poller_id` reads that poller alone.
//!
//! The version before is safe on it, but stores messages without rows for pollers: make pollers once every process is of
//! this version. It knows no token of a poller, because it looks for another form of the hash.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: &str = r#"
create table poller (
    app_id {text} not null,
    id {text} not null,
    number bigint not null,
    uid {text},
    description {text} not null,
    disabled boolean not null,
    event_types {text},
    channels {text},
    secrets {text} not null,
    created_at bigint not null,
    updated_at bigint not null,
    primary key (app_id, id)
);
create unique index poller_uid on poller (app_id, uid) where uid is not null;
create unique index poller_number on poller (number);
create table poller_consumer (
    poller_id {text} not null,
    name {text} not null,
    app_id {text} not null,
    place {text} not null,
    created_at bigint not null,
    used_at bigint not null,
    primary key (poller_id, name)
);
create index poller_consumer_used on poller_consumer (used_at);
create table poll_item (
    poller_number bigint not null,
    tx bigint not null,
    message_id {text} not null,
    primary key (poller_number, tx, message_id)
){without rowid};
create index poll_item_message on poll_item (message_id);
{postgres} alter table poll_item set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.005, autovacuum_vacuum_insert_threshold = 50000);
create table poll_epoch (
    number bigint not null primary key check (number < 32768),
    identity {text} not null,
    last bigint not null
);
alter table application add column polled boolean not null default false;
alter table api_token add column poller_id {text};
create index api_token_poller on api_token (poller_id, id) where poller_id is not null;
"#;

const DOWN: &str = r#"
delete from api_token where poller_id is not null;
drop index api_token_poller;
alter table api_token drop column poller_id;
alter table application drop column polled;
drop table poll_epoch;
drop table poll_item;
drop table poller_consumer;
drop table poller;
"#;

/// Names the history of transaction numbers that the server writes now; null on a standby. The timeline is that of the
/// write-ahead log that is being written: `pg_control_checkpoint()` shows the one before until the first checkpoint after
/// a promotion. The session keeps the name of the cluster, which is the same for as long as the server runs: reading the
/// control file took 82 of the 218 microseconds of a statement that stored six messages.
///
/// A role that may not call `pg_control_system()` gets the ids of database and table instead, which a dump that is
/// restored does not keep. No other error is caught. `pg_control_system()` may fail on older versions while the control
/// file is being written, and another identity for that moment would begin an epoch that never was. The function finds its
/// table in the schema that it is in, whatever `search_path` a session has.
const IDENTITY: &str = "do $do$ begin execute format($f$ \
     create or replace function poll_identity() returns text language plpgsql stable \
     set search_path = pg_catalog, %1$I, pg_temp as $$ \
     declare cluster text := current_setting('postrider.cluster', true); \
     begin \
     if pg_is_in_recovery() then return null; end if; \
     if coalesce(cluster, '') = '' then \
     begin select system_identifier::text into cluster from pg_control_system(); \
     exception when insufficient_privilege then \
     select oid::text || '/' || 'poll_item'::regclass::oid::text into cluster from pg_database \
     where datname = current_database(); end; \
     perform set_config('postrider.cluster', cluster, false); \
     end if; \
     return cluster || '.' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8); end $$ $f$, \
     current_schema()); end $do$";

fn is_postgres(manager: &SchemaManager<'_>) -> bool {
    manager.get_database_backend() == DatabaseBackend::Postgres
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Without a row id the table is the primary key, and not a second copy of each row.
        let without_rowid = if is_postgres(manager) { "" } else { " without rowid" };
        crate::run(manager, &UP.replace("{without rowid}", without_rowid)).await?;
        if is_postgres(manager) {
            manager.get_connection().execute_unprepared(IDENTITY).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if is_postgres(manager) {
            let drop = "drop function if exists poll_identity()";
            manager.get_connection().execute_unprepared(drop).await?;
        }
        crate::run(manager, DOWN).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
