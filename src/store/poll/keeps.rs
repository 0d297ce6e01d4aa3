//! Finds the pollers that have a message.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::error::Result;
use crate::store::database::source::Source;
use crate::store::entity::poll_item::{Column, Entity, Model};

/// Returns the rows of a message, one for each poller that has it. The caller has found the message in its application.
pub async fn list_keeps(source: &impl Source, message_id: &str) -> Result<Vec<Model>> {
    let rows = Entity::find().filter(Column::MessageId.eq(message_id));
    Ok(rows.all(source.source()).await?)
}
