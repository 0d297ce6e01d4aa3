//! Queues a resend: a delivery that a caller asks for. It gets a row of its own, is due at once and is tried once.
//!
//! Must not check that message and endpoint exist: the service does.

use sea_orm::ActiveValue::Set;
use sea_orm::EntityTrait;

use crate::domain::delivery::Trigger;
use crate::domain::id::Prefix;
use crate::error::Result;
use crate::store::Tx;
use crate::store::entity::application::Model as Application;
use crate::store::entity::delivery::{ActiveModel, Entity};
use crate::store::entity::endpoint::Model as Endpoint;
use crate::store::entity::message::Model as Message;

/// Queues one manual attempt to send a message to an endpoint, both of this application.
pub async fn insert_manual(tx: &Tx, app: &Application, message: &Message, endpoint: &Endpoint) -> Result<()> {
    let row = ActiveModel {
        id: Set(tx.store().clock().new_id_at(Prefix::Delivery, tx.now)),
        app_id: Set(app.id.clone()),
        message_id: Set(message.id.clone()),
        endpoint_id: Set(endpoint.id.clone()),
        trigger: Set(Trigger::Manual),
        attempts_made: Set(0),
        due_at: Set(Some(tx.now)),
        owner: Set(None),
        lease_id: Set(None),
    };
    Entity::insert(row).exec_without_returning(tx.conn()).await?;
    tx.wake_on_commit();
    Ok(())
}
