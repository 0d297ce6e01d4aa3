//! Stores the replies to requests that carried an idempotency key.
//!
//! A key is claimed, and its reply stored, in the transaction of the request's effect, so that neither exists without
//! the other. Messages are not claimed here: the intake claims the keys of a whole batch by one statement.
//!
//! Must not hash requests: the API does.

use std::time::Duration;

use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, Statement, TryInsertResult};

use super::database::store::Store;
use super::database::tx::Tx;
use super::entity::idempotency::{ActiveModel, Column, Entity, Model};
use super::message_reply::MessageReply;
use super::retention::delete_found;
use crate::domain::encryption_keys::EncryptionKeys;
use crate::domain::secret::SealError;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};

/// How long a key counts as used: in this time a repeated request gets the stored reply.
pub const KEPT: Duration = Duration::from_secs(12 * 3600);

/// An idempotency key, which decides whether two requests are the same one.
///
/// The same key with another body is refused and not answered with the first reply: the caller would believe that
/// something was done which was not. The published SDKs make a key for each call and repeat the same body under it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// The id of the request's token.
    pub scope: String,
    /// SHA-256, in hex, of the URI, a line feed and the value of the key's header.
    pub key: String,
    /// The hash of the request's body. `None` means there is no body, or the request is a message: the intake compares
    /// those with the stored message instead, so accepting need not hash the body.
    pub body_hash: Option<String>,
}

/// A response as it was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

/// Runs `write` in a transaction, once for a key, and returns its reply. If an earlier request has claimed the key, runs
/// nothing and returns the reply to that request. Without a key, `write` runs each time.
///
/// # Errors
/// Those of `write`, which leaves nothing behind then, not even the claim; `Conflict` if the earlier request had another
/// body; `Unavailable` if the earlier request has just failed.
pub async fn once(store: &Store, key: Option<&Key>, write: impl AsyncFnOnce(&Tx) -> Result<Reply>) -> Result<Reply> {
    let tx = store.begin().await?;
    let reply = match claim(&tx, key).await? {
        Some(earlier) => earlier,
        None => {
            let reply = write(&tx).await?;
            keep(&tx, key, &reply).await?;
            reply
        }
    };
    // Also if nothing was written: on SQLite both requests may be in one shared transaction, and what the earlier reply
    // reports is durable only once that has committed.
    tx.commit().await?;
    Ok(reply)
}

/// Claims the key for this transaction; `None` means that the request is the first one with the key, or has no key. If
/// another request has claimed the key, returns the reply to it. While that request is still running, this waits until
/// it has ended.
///
/// # Errors
/// `Conflict` if the other request had another body.
async fn claim(tx: &Tx, key: Option<&Key>) -> Result<Option<Reply>> {
    let Some(key) = key else { return Ok(None) };
    let row = ActiveModel {
        scope: Set(key.scope.clone()),
        key: Set(key.key.clone()),
        reply: Set(String::new()),
        body_hash: Set(key.body_hash.clone()),
        expires_at: Set(tx.now.plus(KEPT)),
    };
    let expired_gives_way = OnConflict::columns([Column::Scope, Column::Key])
        .update_columns([Column::Reply, Column::BodyHash, Column::ExpiresAt])
        .action_and_where(Column::ExpiresAt.lte(tx.now))
        .to_owned();
    let claimed = Entity::insert(row)
        .on_conflict(expired_gives_way)
        .try_insert()
        .exec_without_returning(tx.conn())
        .await?;
    match claimed {
        TryInsertResult::Inserted(rows) if rows > 0 => Ok(None),
        _ => stored(tx, key).await.map(Some),
    }
}

/// Stores the reply, sealed, under a key that this transaction has claimed. Does nothing without a key.
async fn keep(tx: &Tx, key: Option<&Key>, reply: &Reply) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    let clear = format!("{} {}", reply.status, reply.body);
    let sealed = tx.sealing_key().await?.seal(clear.as_bytes(), &context(key));
    let row = ActiveModel {
        reply: Set(sealed),
        ..Default::default()
    };
    Entity::update_many()
        .set(row)
        .filter(Column::Scope.eq(&key.scope))
        .filter(Column::Key.eq(&key.key))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Opens the reply that is stored under a key.
///
/// # Errors
/// `Conflict` if it belongs to another body; `Unavailable` if the key's row is gone, as after a rollback of the request
/// that had claimed it; `Internal` if no encryption key opens it.
async fn stored(tx: &Tx, key: &Key) -> Result<Reply> {
    let row = Entity::find_by_id((key.scope.clone(), key.key.clone()))
        .one(tx.conn())
        .await?
        .ok_or_else(|| Error::unavailable("the first request with this idempotency key has just failed: try again"))?;
    if let (Some(before), Some(now)) = (&row.body_hash, &key.body_hash)
        && before != now
    {
        return Err(another_body());
    }
    let clear = tx.store().keys()?.open(&row.reply, &context(key));
    clear
        .ok()
        .and_then(|clear| String::from_utf8(clear).ok())
        .and_then(|clear| {
            let (status, body) = clear.split_once(' ')?;
            Some(Reply {
                status: status.parse().ok()?,
                body: body.to_owned(),
            })
        })
        .ok_or_else(|| Error::internal("the stored reply of this idempotency key cannot be opened"))
}

/// Returns the error that the key came with another body before.
pub(super) fn another_body() -> Error {
    let message = "this idempotency key came with another body before: what is not the same request needs another key";
    Error::new(Kind::Conflict, message)
}

/// Returns the context that a reply is sealed with, so that it opens under its own key only.
fn context(key: &Key) -> String {
    format!("{}/{}", key.scope, key.key)
}

/// Returns a stored reply sealed with the newest encryption key. `None` means that it is so already, or that it is the
/// reply to a message, which is not sealed.
pub(super) fn resealed(keys: &EncryptionKeys, row: &Model) -> Result<Option<String>, SealError> {
    if MessageReply::try_from(&*row.reply).is_ok() {
        return Ok(None);
    }
    let key = Key {
        scope: row.scope.clone(),
        key: row.key.clone(),
        body_hash: None,
    };
    keys.reseal(&row.reply, &context(&key))
}

/// Removes up to `most` keys that had expired at `at`. Returns how many. A key that another transaction has locked
/// stays.
pub async fn prune(tx: &Tx, at: Timestamp, most: u64) -> Result<u64> {
    let lock = tx.backend().skip_locked();
    let sql = format!("select scope, key from idempotency where expires_at <= $1 order by expires_at limit $2 {lock}");
    let values = [at.0.into(), (most as i64).into()];
    let found = Statement::from_sql_and_values(tx.backend().orm(), sql, values);
    delete_found(tx, "idempotency", &["scope", "key"], found).await
}
