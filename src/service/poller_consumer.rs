//! Moves the consumers of pollers: by a poll that confirms what the one before has returned, and by a seek. Deletes them.
//!
//! Must not read the messages of a poller.

use super::audit::{self, Thing};
use crate::domain::audit::{ObjectKind, Origin};
use crate::domain::cursor::Cursor;
use crate::error::{Error, Kind, Result};
use crate::store::entity::application::Model as Application;
use crate::store::entity::poller::Model as Poller;
use crate::store::entity::poller_consumer::Model;
use crate::store::idempotency::{self, Key, Reply};
use crate::store::poller_consumer::{self as consumers, insert, is_use_old, update};
use crate::store::{Store, Tx, poller};

/// The most consumers of a poller.
pub const MOST_CONSUMERS: u64 = 100;

/// Returns the place of a consumer, and confirms `place` as that before; `None` confirms nothing. A consumer that does
/// not exist is made, at the beginning of the poller. Writes only if there is something to write.
///
/// # Errors
/// `LimitReached` if the poller has [`MOST_CONSUMERS`]; `NotFound` if it was deleted in the meantime.
pub async fn confirm(store: &Store, poller: &Poller, name: &str, place: Option<Cursor>) -> Result<Cursor> {
    let known = consumers::find(store, &poller.id, name).await?;
    let now = store.clock().now();
    let stored = known.as_ref().map(stored).transpose()?;
    let moves = place.as_ref().is_some_and(|place| Some(place) != stored.as_ref());
    if let (Some(row), Some(stored)) = (&known, &stored)
        && !moves
        && !is_use_old(row, now)
    {
        return Ok(stored.clone());
    }
    let tx = store.begin().await?;
    let confirmed = match (place, stored) {
        (Some(place), _) => put(&tx, poller, name, Some(&place)).await.map(|_| place),
        (None, Some(stored)) => put(&tx, poller, name, None).await.map(|_| stored),
        (None, None) => put(&tx, poller, name, Some(&Cursor::START))
            .await
            .map(|_| Cursor::START),
    }?;
    tx.commit().await?;
    Ok(confirmed)
}

/// A consumer and the place that it is to have.
pub struct Move<'a> {
    pub poller: &'a Poller,
    pub name: &'a str,
    pub place: &'a Cursor,
}

/// Moves a consumer to a place that a search has found, and makes it if it does not exist. `render` makes the reply.
///
/// # Errors
/// As [`confirm`]; `Conflict` if the idempotency key came with another body before.
pub async fn seek(
    store: &Store,
    origin: &Origin<'_>,
    app: &Application,
    target: Move<'_>,
    key: Option<&Key>,
    render: fn(&Cursor) -> Result<Reply>,
) -> Result<Reply> {
    let Move { poller, name, place } = target;
    idempotency::once(store, key, async |tx: &Tx| {
        put(tx, poller, name, Some(place)).await?;
        let moved = Thing::of(app, ObjectKind::Poller, &poller.id)
            .with("consumer", &name)
            .with("iterator", &place.to_text());
        audit::noted(tx, origin, &app.org_id, moved).await?;
        render(place)
    })
    .await
}

/// Deletes a consumer. If a program still polls as it, the next poll makes it again, at the beginning of the poller.
///
/// # Errors
/// `NotFound`.
pub async fn delete(store: &Store, origin: &Origin<'_>, app: &Application, poller: &Poller, name: &str) -> Result<()> {
    let tx = store.begin().await?;
    let place = consumers::delete(&tx, &poller.id, name).await?;
    let place = place.ok_or_else(|| Error::not_found("consumer"))?;
    let gone = Thing::of(app, ObjectKind::Poller, &poller.id)
        .with("consumer", &name)
        .with("iterator", &place);
    audit::noted(&tx, origin, &app.org_id, gone).await?;
    tx.commit().await
}

/// Reads the stored place of a consumer.
fn stored(row: &Model) -> Result<Cursor> {
    Cursor::parse(&row.place).ok_or_else(|| Error::internal("the stored place of a consumer cannot be read"))
}

/// Moves a consumer, or makes it.
async fn put(tx: &Tx, owner: &Poller, name: &str, place: Option<&Cursor>) -> Result<()> {
    if update(tx, &owner.id, name, place).await? {
        return Ok(());
    }
    // Transactions that make consumers of the same poller wait for each other here, so that together they keep the limit.
    poller::get_locked(tx, &owner.app_id, &owner.id).await?;
    if consumers::count(tx, &owner.id).await? >= MOST_CONSUMERS && consumers::find(tx, &owner.id, name).await?.is_none()
    {
        let message = format!(
            "a poller has at most {MOST_CONSUMERS} consumers; delete one, or wait until one was not used for 30 days"
        );
        return Err(Error::new(Kind::LimitReached, message));
    }
    let place = place.unwrap_or(&Cursor::START);
    if !insert(tx, &owner.app_id, &owner.id, name, place).await? {
        update(tx, &owner.id, name, Some(place)).await?;
    }
    Ok(())
}
