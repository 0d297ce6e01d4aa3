//! The first schema. Instants are UTC microseconds; every tenant's row carries its application.
//! Names of columns and states are explained at the entities in src/store/entity.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const TABLES: &str = r#"
create table installation (
    id integer not null primary key,
    key_check {text},
    compatible_since {text} not null
);
insert into installation (id, key_check, compatible_since) values (1, null, 'm20261123_000001_initial');

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
    revoked_at bigint
);
create index api_token_org on api_token (org_id, id);

create table application (
    id {text} not null primary key,
    org_id {text} not null,
    uid {text},
    name {text} not null,
    throttle_rate integer,
    metadata {text} not null,
    created_at bigint not null,
    updated_at bigint not null,
    deleted_at bigint
);
create unique index application_uid on application (org_id, uid) where uid is not null and deleted_at is null;
create index application_org on application (org_id, id) where deleted_at is null;

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
    created_at bigint not null,
    updated_at bigint not null,
    deleted_at bigint,
    primary key (app_id, id)
);
create unique index endpoint_uid on endpoint (app_id, uid) where uid is not null and deleted_at is null;

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
create unique index message_event_id on message (app_id, event_id) where event_id is not null;

create table message_content (
    app_id {text} not null,
    message_id {text} not null,
    body {text} not null,
    primary key (app_id, message_id)
);

create table delivery (
    id {text} not null primary key,
    app_id {text} not null,
    message_id {text} not null,
    endpoint_id {text} not null,
    trigger smallint not null,
    attempt integer not null,
    due_at bigint,
    owner {text},
    lease_id bigint
);
create index delivery_first on delivery (due_at, id) where due_at is not null and attempt = 0 and trigger = 0;
create index delivery_again on delivery (due_at, id) where due_at is not null and (attempt > 0 or trigger <> 0);
create index delivery_parked on delivery (endpoint_id, id) where due_at is null;
create index delivery_owner on delivery (owner, id) where owner is not null;
create index delivery_pair on delivery (message_id, endpoint_id);
{postgres} alter table delivery set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

create table delivery_result (
    app_id {text} not null,
    message_id {text} not null,
    endpoint_id {text} not null,
    state smallint not null,
    next_at bigint,
    updated_at bigint not null,
    primary key (app_id, message_id, endpoint_id)
);

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
create index attempt_endpoint on attempt (app_id, endpoint_id, id);

create table idempotency (
    scope {text} not null,
    key {text} not null,
    reply {text} not null,
    expires_at bigint not null,
    primary key (scope, key)
);
create index idempotency_expires on idempotency (expires_at);

create table process (
    owner {text} not null primary key,
    beat bigint not null,
    started_at bigint not null
);
"#;

const NAMES: [&str; 13] = [
    "process",
    "idempotency",
    "attempt",
    "delivery_result",
    "delivery",
    "message_content",
    "message",
    "endpoint",
    "event_type",
    "application",
    "api_token",
    "organization",
    "installation",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, TABLES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
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
