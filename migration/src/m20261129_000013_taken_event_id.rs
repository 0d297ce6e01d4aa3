//! Event ids get a table of their own in which they are unique, for a time. They were unique over all of a message's
//! history, which no table that is divided by time can hold.
//!
//! The index that finds a message by its event id has the beginning of the message's id before it, which changes every
//! 2^38 us (3.2 days): so what is accepted touches the pages of these days, and not one at random of the whole history.
//! A program that does not know the table takes no event id in it, and so would let one be used again: none may start any
//! more. One that runs already loses nothing else.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Those of the newest message's last seven days are taken.
const UP: &str = "
create table taken_event_id (
    app_id {text} not null,
    event_id {text} not null,
    expires_at bigint not null,
    primary key (app_id, event_id)
);
insert into taken_event_id (app_id, event_id, expires_at)
    select app_id, event_id, created_at + 604800000000 from message
    where event_id is not null and created_at > (select max(created_at) from message) - 604800000000;
create index taken_event_id_expires on taken_event_id (expires_at);

drop index message_event_id;
create index message_event_id on message (app_id, substr(id, 1, 8), event_id) where event_id is not null;

update installation set compatible_since = 'm20261129_000013_taken_event_id';
";

/// An event id that was used again stays with its newest message.
const DOWN: &str = "
update installation set compatible_since = 'm20261123_000007_portal';

update message set event_id = null where event_id is not null and exists (select 1 from message newer
    where newer.app_id = message.app_id and newer.event_id = message.event_id and newer.id > message.id);
drop index message_event_id;
create unique index message_event_id on message (app_id, event_id) where event_id is not null;

drop table taken_event_id;
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
