//! A number of an application that changes with it and with each of its endpoints, whoever writes them. By it the
//! intake proves, inside the statement that stores messages, that what it remembers of them still holds. Only on
//! Postgres, where that saves a round trip, the database keeps it up to date.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

const APPLICATION: [&str; 2] = [
    "create or replace function application_changed() returns trigger language plpgsql as $$ \
     begin new.revision := old.revision + 1; return new; end $$",
    "create trigger application_changed before update on application \
     for each row execute function application_changed()",
];

/// Once a statement, however many endpoints it writes; their applications are locked in the order of their ids.
const ENDPOINT: &str = "create or replace function endpoint_changed() returns trigger language plpgsql as $$ \
     begin \
     perform from application where id in (select app_id from changed) order by id for no key update; \
     update application set revision = revision where id in (select app_id from changed); return null; end $$";

const EVENTS: [(&str, &str); 3] = [("insert", "new"), ("update", "new"), ("delete", "old")];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(
            manager,
            "alter table application add column revision bigint not null default 0",
        )
        .await?;
        if !is_postgres(manager) {
            return Ok(());
        }
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
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if is_postgres(manager) {
            let connection = manager.get_connection();
            for function in ["endpoint_changed", "application_changed"] {
                // Takes the triggers along.
                let drop = format!("drop function if exists {function}() cascade");
                connection.execute_unprepared(&drop).await?;
            }
        }
        crate::run(manager, "alter table application drop column revision").await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

fn is_postgres(manager: &SchemaManager<'_>) -> bool {
    manager.get_database_backend() == DatabaseBackend::Postgres
}
