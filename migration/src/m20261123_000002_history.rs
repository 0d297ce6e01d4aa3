//! What reading and cleaning the history needs: a payload's own end of keeping, messages by endpoint and state, attempts
//! counted by the index alone. The index of results leaves the application out, as every settle pays for its length. The
//! statistics tell Postgres that an endpoint says which application it is of: without them it takes an endpoint's rows for
//! few, and sorts them all for one page.
//! Safe for the version before: what it inserts without an end is kept as long as its message.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: &str = "
alter table message_content add column expires_at bigint not null default 9223372036854775807;
update message_content set expires_at = coalesce((select message.expires_at from message
    where message.app_id = message_content.app_id and message.id = message_content.message_id), expires_at);
create index message_content_expires on message_content (expires_at);

create index delivery_result_endpoint on delivery_result (endpoint_id, state, message_id);

drop index attempt_endpoint;
create index attempt_endpoint on attempt (app_id, endpoint_id, id, delivered);

{postgres} create statistics delivery_result_tenant (dependencies) on app_id, endpoint_id from delivery_result;
{postgres} create statistics attempt_tenant (dependencies) on app_id, endpoint_id from attempt;
";

const DOWN: &str = "
{postgres} drop statistics attempt_tenant;
{postgres} drop statistics delivery_result_tenant;
drop index attempt_endpoint;
create index attempt_endpoint on attempt (app_id, endpoint_id, id);
drop index delivery_result_endpoint;
drop index message_content_expires;
alter table message_content drop column expires_at;
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
