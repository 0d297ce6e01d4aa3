//! Tells Postgres to vacuum the tables that keep history before a fifth of them has changed, which is its rule: in a table
//! of half a year that is 36 days. Until a page is vacuumed, an index alone does not tell which of its rows are to be
//! counted, and what was removed keeps its place. Half a percent of new rows is less than a day of such a table.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: &str = "
{postgres} alter table message set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.005, autovacuum_vacuum_insert_threshold = 50000);
{postgres} alter table message_content set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.005, autovacuum_vacuum_insert_threshold = 50000);
{postgres} alter table attempt set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.005, autovacuum_vacuum_insert_threshold = 50000);
{postgres} alter table delivery_result set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.005, autovacuum_vacuum_insert_threshold = 50000);
";

const DOWN: &str = "
{postgres} alter table delivery_result reset (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor, autovacuum_vacuum_insert_threshold);
{postgres} alter table attempt reset (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor, autovacuum_vacuum_insert_threshold);
{postgres} alter table message_content reset (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor, autovacuum_vacuum_insert_threshold);
{postgres} alter table message reset (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor, autovacuum_vacuum_insert_threshold);
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
