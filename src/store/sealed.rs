//! Whatever lies sealed in the database, a page at a time, to be sealed anew. Called by service while the encryption key
//! is rotated: everything that is written meanwhile is sealed with the new key already.

use sea_orm::sea_query::{Expr, ExprTrait, LockType};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::database::tx::Tx;
use super::entity::json_text::JsonText;
use super::entity::{endpoint, idempotency};
use super::idempotency::resealed;
use crate::error::Result;

/// Rows of a page: locked for no longer than a few milliseconds.
const ENDPOINTS: u64 = 100;
/// Most of them are messages' replies, which are in clear and only read.
const REPLIES: u64 = 1_000;

/// Where a page ends, as both columns of the primary key.
pub type Place = (String, String);

/// What was done to a page of rows.
#[derive(Debug, Default)]
pub struct Page {
    pub resealed: u64,
    /// Rows in which something is sealed that no key of this process opens; that is left as it is.
    pub unreadable: Vec<Place>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<Place>,
}

/// Seals the secrets and own headers of the endpoints behind `after` with the newest key, deleted endpoints' too.
pub async fn reseal_endpoints(tx: &Tx, after: &Place) -> Result<Page> {
    use endpoint::{ActiveModel, Column, Entity};
    let keys = tx.store().keys()?;
    // Locked: another writer carries secrets that were sealed before over into the list that it writes.
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
        let (mut changed, mut readable) = (false, true);
        let mut secrets = row.secrets.0;
        for secret in &mut secrets {
            match keys.reseal(&secret.sealed, &row.id) {
                Ok(Some(sealed)) => (secret.sealed, changed) = (sealed, true),
                Ok(None) => {}
                Err(_) => readable = false,
            }
        }
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

/// Seals the replies of idempotency keys behind `after` with the newest key.
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
                // One that is another by now has expired and given way, to one that is sealed with the newest key.
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

fn is_behind(columns: [impl ColumnTrait; 2], place: &Place) -> Expr {
    let place = [&place.0, &place.1].map(Expr::val);
    Expr::tuple(columns.map(Expr::col)).gt(Expr::tuple(place))
}

fn next<R>(rows: &[R], full: u64, place: impl FnOnce(&R) -> Place) -> Option<Place> {
    let last = rows.last().filter(|_| rows.len() as u64 == full);
    last.map(place)
}
