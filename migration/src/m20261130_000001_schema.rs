//! The first released schema, as one migration. Names of columns and states are explained at the entities in
//! src/store/entity. Instants are UTC microseconds; every row of a tenant carries its application.
//!
//! Why the schema is as it is, where the tables do not say it:
//!
//! - `message_event_id` begins with a part of the message's id, which changes every 2^38 µs (3.2 days). So an accepted message
//!   touches the index pages of these days, and not one page at random of the whole history. Event ids are unique in
//!   `taken_event_id`, for a time; they cannot be unique in a table of history that may be divided by time.
//! - `message_content.expires_at` is the payload's own end; a payload may go before its message.
//! - `delivery_first` and `delivery_retry` hold only what a claim may take: parked rows have no `due_at`.
//! - `delivery` is vacuumed early and at full speed, and never cut short: it grows again with the next message, and cutting takes
//!   a lock that every claim waits for, and on a standby ends queries. Its pages are filled to the end: each update changes
//!   an indexed column, so room for new versions in the same page would never be used.
//! - The tables of history are vacuumed before 1 % has changed or 0.5 % is new. Postgres' own rule is a fifth, which in a table
//!   of half a year is 36 days; until a page is vacuumed an index alone cannot tell which of its rows to count, and removed rows
//!   keep their room.
//! - `delivery_result_endpoint` leaves the application out, because every settle pays for its length. The two `statistics` tell
//!   Postgres that an endpoint determines its application; without them it takes an endpoint's rows for few, and sorts all
//!   of them for one page.
//! - `attempt_endpoint` ends with `delivered`, so that attempts are counted by the index alone.
//! - `endpoint_living` leaves deleted endpoints out; the indexes on `deleted_at` hold nothing else. A customer may create and
//!   delete endpoints without end, and what reads the living ones must not read those.
//! - `process` has the beat in its key: beats only rise, so a process that knows one of an owner's beats finds the present one
//!   without reading the dead versions that a held snapshot keeps. With the owner alone as key, each insertion into the
//!   index compared itself with every dead version.
//! - `janitor_turn` is one row, so that the turn works through a pooler as well; an advisory lock would not.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

const TABLES: &str = r#"
create table installation (
    id integer not null primary key,
    key_check {text},
    former_key_check {text},
    compatible_since {text} not null
);
insert into installation (id, compatible_since) values (1, 'm20261130_000001_schema');

create table organization (
    id {text} not null primary key,
    name {text} not null unique,
    created_at bigint not null
);

create table api_token (
    id {text} not null primary key,
    org_id {text} not null,
    app_id {text},
    hash {text} not null unique,
    created_at bigint not null,
    expires_at bigint,
    revoked_at bigint,
    feature_flags {text},
    capabilities {text}
);
create index api_token_org on api_token (org_id, id);
create index api_token_expires on api_token (expires_at) where app_id is not null;

create table application (
    id {text} not null primary key,
    org_id {text} not null,
    uid {text},
    name {text} not null,
    throttle_rate integer,
    metadata {text} not null,
    revision bigint not null default 0,
    created_at bigint not null,
    updated_at bigint not null,
    deleted_at bigint
);
create unique index application_uid on application (org_id, uid) where uid is not null and deleted_at is null;
create index application_org on application (org_id, id) where deleted_at is null;
create index application_deleted on application (deleted_at) where deleted_at is not null;

create table event_type (
    org_id {text} not null,
    name {text} not null,
    id {text} not null,
    description {text} not null,
    archived boolean not null,
    deprecated boolean not null,
    schemas {text},
    feature_flag {text},
    created_at bigint not null,
    updated_at bigint not null,
    primary key (org_id, name)
);

create table endpoint (
    app_id {text} not null,
    id {text} not null,
    uid {text},
    url {text} not null,
    description {text} not null,
    disabled boolean not null,
    event_types {text},
    channels {text},
    throttle_rate integer,
    metadata {text} not null,
    headers {text} not null,
    secrets {text} not null,
    failing_since bigint,
    created_at bigint not null,
    updated_at bigint not null,
    deleted_at bigint,
    primary key (app_id, id)
);
create unique index endpoint_uid on endpoint (app_id, uid) where uid is not null and deleted_at is null;
create index endpoint_living on endpoint (app_id, id) where deleted_at is null;
create index endpoint_deleted on endpoint (deleted_at) where deleted_at is not null;

create table message (
    app_id {text} not null,
    id {text} not null,
    event_type {text} not null,
    event_id {text},
    channels {text},
    created_at bigint not null,
    expires_at bigint not null,
    primary key (app_id, id)
);
create index message_event_id on message (app_id, substr(id, 1, 8), event_id) where event_id is not null;
{postgres} alter table message set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.005, autovacuum_vacuum_insert_threshold = 50000);

create table taken_event_id (
    app_id {text} not null,
    event_id {text} not null,
    expires_at bigint not null,
    primary key (app_id, event_id)
);
create index taken_event_id_expires on taken_event_id (expires_at);

create table message_content (
    app_id {text} not null,
    message_id {text} not null,
    body {text} not null,
    content_type {text},
    expires_at bigint not null,
    primary key (app_id, message_id)
);
create index message_content_expires on message_content (expires_at);
{postgres} alter table message_content set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.005, autovacuum_vacuum_insert_threshold = 50000);

create table delivery (
    id {text} not null primary key,
    app_id {text} not null,
    message_id {text} not null,
    endpoint_id {text} not null,
    trigger smallint not null,
    attempts_made integer not null,
    due_at bigint,
    owner {text},
    lease_id bigint
);
create index delivery_first on delivery (due_at, id) where due_at is not null and attempts_made = 0 and trigger = 0;
create index delivery_retry on delivery (due_at, id) where due_at is not null and (attempts_made > 0 or trigger <> 0);
create index delivery_parked on delivery (endpoint_id, id) where due_at is null;
create index delivery_owner on delivery (owner, id) where owner is not null;
create index delivery_message on delivery (message_id, endpoint_id);
{postgres} alter table delivery set (vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

create table delivery_result (
    app_id {text} not null,
    message_id {text} not null,
    endpoint_id {text} not null,
    state smallint not null,
    next_at bigint,
    updated_at bigint not null,
    primary key (app_id, message_id, endpoint_id)
);
create index delivery_result_endpoint on delivery_result (endpoint_id, state, message_id);
{postgres} alter table delivery_result set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.005, autovacuum_vacuum_insert_threshold = 50000);
{postgres} create statistics delivery_result_tenant (dependencies) on app_id, endpoint_id from delivery_result;

create table attempt (
    app_id {text} not null,
    message_id {text} not null,
    id {text} not null,
    endpoint_id {text} not null,
    url {text} not null,
    trigger smallint not null,
    delivered boolean not null,
    response_status integer not null,
    response {text} not null,
    duration_ms bigint not null,
    created_at bigint not null,
    next_at bigint,
    primary key (app_id, message_id, id)
);
create index attempt_endpoint on attempt (app_id, endpoint_id, id, delivered);
{postgres} alter table attempt set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.005, autovacuum_vacuum_insert_threshold = 50000);
{postgres} create statistics attempt_tenant (dependencies) on app_id, endpoint_id from attempt;

create table idempotency (
    scope {text} not null,
    key {text} not null,
    reply {text} not null,
    body_hash {text},
    expires_at bigint not null,
    primary key (scope, key)
);
create index idempotency_expires on idempotency (expires_at);

create table process (
    owner {text} not null,
    beat bigint not null,
    started_at bigint not null,
    key_checks {text},
    primary key (owner, beat)
);

create table background_task (
    id {text} not null primary key,
    org_id {text} not null,
    app_id {text} not null,
    endpoint_id {text} not null,
    kind smallint not null,
    status smallint not null,
    since_at bigint not null,
    until_at bigint not null,
    filter {text},
    reached {text} not null,
    reached_at bigint not null,
    looked bigint not null,
    queued bigint not null,
    due_at bigint,
    failure {text},
    created_at bigint not null,
    updated_at bigint not null
);
create index background_task_org on background_task (org_id, id);
create index background_task_due on background_task (due_at, id) where due_at is not null;
create index background_task_turn on background_task (app_id, due_at, id) where due_at is not null;

create table janitor_turn (
    id integer not null primary key,
    owner {text} not null,
    ends_at bigint not null
);
insert into janitor_turn (id, owner, ends_at) values (1, '', 0);
"#;

/// The tables in the order in which they are dropped.
const NAMES: [&str; 16] = [
    "janitor_turn",
    "background_task",
    "process",
    "idempotency",
    "attempt",
    "delivery_result",
    "delivery",
    "taken_event_id",
    "message_content",
    "message",
    "endpoint",
    "event_type",
    "application",
    "api_token",
    "organization",
    "installation",
];

/// Postgres keeps `application.revision` up to date: it changes with each write of an application or of one of its endpoints. By
/// it the statement that stores messages proves that what a process remembers of them still holds. SQLite remembers
/// nothing. Revisions are random numbers, not counts: a database that has lost its last writes (a failover to an
/// asynchronous standby, a restore) would count up to the same number for another change.
const APPLICATION: [&str; 2] = [
    "create or replace function application_changed() returns trigger language plpgsql as $$ \
     begin new.revision := hashtextextended(gen_random_uuid()::text, 0); return new; end $$",
    "create trigger application_changed before update on application \
     for each row execute function application_changed()",
];

/// Runs once per statement, however many endpoints it writes; their applications are locked in the order of their ids.
const ENDPOINT: &str = "create or replace function endpoint_changed() returns trigger language plpgsql as $$ \
     begin \
     perform from application where id in (select app_id from changed) order by id for no key update; \
     update application set revision = revision where id in (select app_id from changed); return null; end $$";

const EVENTS: [(&str, &str); 3] = [("insert", "new"), ("update", "new"), ("delete", "old")];

/// The functions find their tables in the schema that they are in, whatever `search_path` a session has: with another
/// schema first they would write that one's tables. `pg_temp` is last, because it comes first if it is not named.
const FUNCTIONS: [&str; 2] = ["application_changed", "endpoint_changed"];
const PATH: &str = "set search_path = pg_catalog, %1$I, pg_temp";

async fn create_triggers(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    for statement in APPLICATION.into_iter().chain([ENDPOINT]) {
        connection.execute_unprepared(statement).await?;
    }
    for (event, rows) in EVENTS {
        let trigger = format!(
            "create trigger endpoint_{event} after {event} on endpoint referencing {rows} table as changed \
             for each statement execute function endpoint_changed()"
        );
        connection.execute_unprepared(&trigger).await?;
    }
    for function in FUNCTIONS {
        let sql =
            format!("do $$ begin execute format('alter function %1$I.{function}() {PATH}', current_schema()); end $$");
        connection.execute_unprepared(&sql).await?;
    }
    Ok(())
}

fn is_postgres(manager: &SchemaManager<'_>) -> bool {
    manager.get_database_backend() == DatabaseBackend::Postgres
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, TABLES).await?;
        if is_postgres(manager) {
            create_triggers(manager).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if is_postgres(manager) {
            for function in FUNCTIONS {
                // Drops the triggers too.
                let drop = format!("drop function if exists {function}() cascade");
                manager.get_connection().execute_unprepared(&drop).await?;
            }
        }
        for name in NAMES {
            manager
                .drop_table(Table::drop().table(Alias::new(name)).if_exists().to_owned())
                .await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
