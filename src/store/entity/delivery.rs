//! The table of deliveries, which is the queue. A delivery is one message for one endpoint; its row exists as long as
//! there is something left to do.
//!
//! The intake, notices, resends and background tasks insert rows. Claims lease or park them, releases and take-overs
//! make them due again, and settlements move them to their next attempt or delete them.
//!
//! Must not contain queries or rules.

use sea_orm::entity::prelude::*;

use crate::domain::delivery::Trigger;
use crate::domain::timestamp::Timestamp;
#[derive(Clone, Debug, DeriveEntityModel, Eq, PartialEq)]
#[sea_orm(table_name = "delivery")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub id: String,
    #[sea_orm(column_type = "Text")]
    pub app_id: String,
    #[sea_orm(column_type = "Text")]
    pub message_id: String,
    #[sea_orm(column_type = "Text")]
    pub endpoint_id: String,
    pub trigger: Trigger,
    /// The number of attempts made so far. The settlement that schedules a retry raises it.
    pub attempts_made: i32,
    /// When the next attempt is due or, while the row is leased, when the lease ends. `None` means the row is parked:
    /// its endpoint has no free slot.
    pub due_at: Option<Timestamp>,
    /// The owner id of the process that holds the lease; `None` means the row is not leased.
    #[sea_orm(column_type = "Text", nullable)]
    pub owner: Option<String>,
    /// The number of the lease; `None` means the row is not leased. Each lease has another number, so a settlement
    /// under a lease that was lost does not move the schedule.
    pub lease_id: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
