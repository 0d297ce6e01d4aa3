//! Whose turn it is to remove what is kept no longer. A row, so that it works through a pooler as well.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: &str = "
create table janitor_turn (
    id integer not null primary key,
    owner {text} not null,
    ends_at bigint not null
);
insert into janitor_turn (id, owner, ends_at) values (1, '', 0);
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "drop table janitor_turn").await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
