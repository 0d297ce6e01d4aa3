//! Seals the database again during a key rotation, page by page: each text that the former key has sealed is sealed
//! with the newest key.
//!
//! All other writes seal with the newest key by then, so one walk through each table is enough. A text that no key of
//! this process opens is left as it is and reported. Must not begin or end a rotation.

use sea_orm::sea_query::{Expr, ExprTrait, LockType};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::database::tx::Tx;
use super::entity::endpoint::StoredSecret;
use super::entity::json_text::JsonText;
use super::entity::{endpoint, idempotency, poller};
use super::idempotency::resealed;
use crate::domain::encryption_keys::EncryptionKeys;
use crate::error::Result;

/// Endpoints, or pollers, in a page. They are locked until the page commits, a few milliseconds.
const ENDPOINTS: u64 = 100;
/// Replies in a page. Most of them belong to messages; those are not sealed, and are only read.
const REPLIES: u64 = 1_000;

/// The row at which a page ends, as both columns of its primary key. Two empty texts mean before the first row.
pub type Place = (String, String);

/// The result for a page of rows.
#[derive(Debug, Default)]
pub struct Page {
    /// Rows that were sealed with the newest key.
    pub resealed: u64,
    /// Rows with a text that no key of this process opens. The text is left as it is.
    pub unreadable: Vec<Place>,
    /// The row after which the next page begins; `None` means that this page was the last one.
    pub next: Option<Place>,
}

/// Seals the secrets and custom headers of the next endpoints after `after` with the newest key, those of deleted
/// endpoints too.
pub async fn reseal_endpoints(tx: &Tx, after: &Place) -> Result<Page> {
    use endpoint::{ActiveModel, Column, Entity};
    let keys = tx.store().keys()?;
    // The rows are locked, because another writer reads the list of secrets and writes it back with one more: it would
    // write back texts that are sealed with the former key.
    let rows = Entity::find()
        .filter(is_behind([Column::AppId, Column::Id], after))
        .order_by_asc(Column::AppId)
        .order_by_asc(Column::Id)
        .limit(ENDPOINTS)
        .lock(LockType::NoKeyUpdate)
        .all(tx.conn())
        .await?;
    let mut page = Page {
        next: next(&rows, ENDPOINTS, |row| (row.app_id.clone(), row.id.clone())),
        ..Page::default()
    };
    for row in rows {
        let mut secrets = row.secrets.0;
        let (mut changed, mut readable) = reseal_secrets(keys, &row.id, &mut secrets);
        let mut headers = row.headers.0;
        match headers.reseal(keys, &row.id) {
            Ok(Some(sealed)) => (headers, changed) = (sealed, true),
            Ok(None) => {}
            Err(_) => readable = false,
        }
        if changed {
            let anew = ActiveModel {
                secrets: Set(JsonText(secrets)),
                headers: Set(JsonText(headers)),
                ..Default::default()
            };
            Entity::update_many()
                .set(anew)
                .filter(Column::AppId.eq(&row.app_id))
                .filter(Column::Id.eq(&row.id))
                .exec(tx.conn())
                .await?;
            page.resealed += 1;
        }
        if !readable {
            page.unreadable.push((row.app_id, row.id));
        }
    }
    Ok(page)
}

/// Seals the secrets of the next pollers after `after` with the newest key.
pub async fn reseal_pollers(tx: &Tx, after: &Place) -> Result<Page> {
    use poller::{ActiveModel, Column, Entity};
    let keys = tx.store().keys()?;
    let rows = Entity::find()
        .filter(is_behind([Column::AppId, Column::Id], after))
        .order_by_asc(Column::AppId)
        .order_by_asc(Column::Id)
        .limit(ENDPOINTS)
        .lock(LockType::NoKeyUpdate)
        .all(tx.conn())
        .await?;
    let mut page = Page {
        next: next(&rows, ENDPOINTS, |row| (row.app_id.clone(), row.id.clone())),
        ..Page::default()
    };
    for row in rows {
        let mut secrets = row.secrets.0;
        let (changed, readable) = reseal_secrets(keys, &row.id, &mut secrets);
        if changed {
            let anew = ActiveModel {
                secrets: Set(JsonText(secrets)),
                ..Default::default()
            };
            Entity::update_many()
                .set(anew)
                .filter(Column::AppId.eq(&row.app_id))
                .filter(Column::Id.eq(&row.id))
                .exec(tx.conn())
                .await?;
            page.resealed += 1;
        }
        if !readable {
            page.unreadable.push((row.app_id, row.id));
        }
    }
    Ok(page)
}

/// Seals secrets with the newest key. Returns whether one has changed, and whether all could be opened.
fn reseal_secrets(keys: &EncryptionKeys, context: &str, secrets: &mut [StoredSecret]) -> (bool, bool) {
    let (mut changed, mut readable) = (false, true);
    for secret in secrets {
        match keys.reseal(&secret.sealed, context) {
            Ok(Some(sealed)) => (secret.sealed, changed) = (sealed, true),
            Ok(None) => {}
            Err(_) => readable = false,
        }
    }
    (changed, readable)
}

/// Seals the replies to the next idempotency keys after `after` with the newest key.
pub async fn reseal_replies(tx: &Tx, after: &Place) -> Result<Page> {
    use idempotency::{ActiveModel, Column, Entity};
    let keys = tx.store().keys()?;
    let rows = Entity::find()
        .filter(is_behind([Column::Scope, Column::Key], after))
        .order_by_asc(Column::Scope)
        .order_by_asc(Column::Key)
        .limit(REPLIES)
        .all(tx.conn())
        .await?;
    let mut page = Page {
        next: next(&rows, REPLIES, |row| (row.scope.clone(), row.key.clone())),
        ..Page::default()
    };
    for row in rows {
        match resealed(keys, &row) {
            Ok(Some(sealed)) => {
                let anew = ActiveModel {
                    reply: Set(sealed),
                    ..Default::default()
                };
                // If the stored reply is another one by now, this one had expired, and the other one is sealed with the
                // newest key.
                let updated = Entity::update_many()
                    .set(anew)
                    .filter(Column::Scope.eq(row.scope))
                    .filter(Column::Key.eq(row.key))
                    .filter(Column::Reply.eq(row.reply))
                    .exec(tx.conn())
                    .await?;
                page.resealed += updated.rows_affected;
            }
            Ok(None) => {}
            Err(_) => page.unreadable.push((row.scope, row.key)),
        }
    }
    Ok(page)
}

/// Returns the condition that a row comes after `place` in the order of its primary key.
fn is_behind(columns: [impl ColumnTrait; 2], place: &Place) -> Expr {
    let place = [&place.0, &place.1].map(Expr::val);
    Expr::tuple(columns.map(Expr::col)).gt(Expr::tuple(place))
}

/// Returns the row after which the next page begins; `None` if this page has fewer than `full` rows.
fn next<R>(rows: &[R], full: u64, place: impl FnOnce(&R) -> Place) -> Option<Place> {
    let last = rows.last().filter(|_| rows.len() as u64 == full);
    last.map(place)
}
