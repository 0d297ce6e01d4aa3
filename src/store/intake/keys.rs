//! Claims the idempotency keys of a batch, and compares repeated messages with the stored ones.
//!
//! One statement claims all keys of a batch and stores their replies. A reply holds only ids and an instant, so it is
//! known before its message is stored. No hash of a message is stored. If a key comes again, the database compares the
//! messages themselves.
//!
//! Must not decide which result a caller gets.

use std::collections::{HashMap, HashSet};

use sea_orm::ConnectionTrait;

use super::columns;
use super::replies::{Repeat, Replies};
use crate::domain::typed_id::MessageId;
use crate::error::Result;
use crate::store::Tx;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::idempotency::{KEPT, Key};

/// Claims the keys that are absent or have expired, with their replies. Returns the stored reply of every key. It
/// differs from the given one if an earlier request has the key.
pub(super) async fn claim_keys<'a>(tx: &Tx, keyed: Vec<(&'a Key, String)>) -> Result<Replies<'a>> {
    if keyed.is_empty() {
        return Ok(Replies::new());
    }
    let rows = Rows::new(columns::of_keys(&keyed));
    let claim = columns::claim_of_keys("{t}", "true", "$1", "$2") + " returning scope, key";
    let times = [tx.now.plus(KEPT).0.into(), tx.now.0.into()];
    let claimed = tx
        .conn()
        .query_all_raw(statement(tx.backend(), &claim, &[("t", &rows)], times))
        .await?
        .len();
    // If the batch has claimed all keys, their replies are those in `keyed`; only others have to be read.
    if claimed == keyed.len() {
        return Ok(keyed.into_iter().collect());
    }
    let read = "select i.scope, i.key, i.reply from {t} join idempotency i on i.scope = t.scope and i.key = t.key";
    let stored = tx
        .conn()
        .query_all_raw(statement(tx.backend(), read, &[("t", &rows)], []))
        .await?;
    let given: HashMap<_, _> = keyed.iter().map(|(key, _)| ((&*key.scope, &*key.key), *key)).collect();
    let mut replies = Replies::new();
    for row in stored {
        let (scope, key): (String, String) = (row.try_get("", "scope")?, row.try_get("", "key")?);
        replies.insert(given[&(&*scope, &*key)], row.try_get("", "reply")?);
    }
    Ok(replies)
}

/// Returns the ids of the members that differ from the message that has their key. A payload that was removed counts as
/// equal. The database compares, because the stored payloads may be as large as a whole batch.
pub(super) async fn find_different(tx: &Tx, repeats: &[Repeat<'_>]) -> Result<HashSet<MessageId>> {
    if repeats.is_empty() {
        return Ok(HashSet::new());
    }
    let messages = || repeats.iter().map(|repeat| &*repeat.plan.member.message);
    let retention = messages().map(|message| i64::try_from(message.retention.as_micros()).unwrap_or(i64::MAX));
    let rows = Rows::new([
        (
            "app_id",
            Column::Text(repeats.iter().map(|repeat| repeat.reply.app_id).collect()),
        ),
        (
            "id",
            Column::Text(repeats.iter().map(|repeat| repeat.reply.message_id).collect()),
        ),
        (
            "member",
            Column::Text(repeats.iter().map(|repeat| repeat.plan.member.id.as_str()).collect()),
        ),
        (
            "event_type",
            Column::Text(messages().map(|message| message.event_type.as_str()).collect()),
        ),
        (
            "event_id",
            Column::MaybeText(messages().map(|message| message.event_id.as_deref()).collect()),
        ),
        (
            "channels",
            Column::MaybeText(repeats.iter().map(|repeat| repeat.plan.channels.as_deref()).collect()),
        ),
        (
            "tags",
            Column::MaybeText(repeats.iter().map(|repeat| repeat.plan.tags.as_deref()).collect()),
        ),
        ("retention", Column::Int(retention.collect())),
        (
            "body",
            Column::Text(messages().map(|message| message.body.as_str()).collect()),
        ),
        (
            "content_type",
            Column::MaybeText(messages().map(|message| message.content_type.as_deref()).collect()),
        ),
    ]);
    let sql = "select t.member from {t} join message m on m.app_id = t.app_id and m.id = t.id \
               left join message_content c on c.app_id = m.app_id and c.message_id = m.id \
               where m.event_type <> t.event_type or m.event_id is distinct from t.event_id \
               or m.channels is distinct from t.channels or m.expires_at - m.created_at <> t.retention \
               or c.body <> t.body or (c.body is not null and (c.content_type is distinct from t.content_type \
               or m.tags is distinct from t.tags))";
    let found = tx
        .conn()
        .query_all_raw(statement(tx.backend(), sql, &[("t", &rows)], []))
        .await?;
    found.iter().map(|row| Ok(row.try_get("", "member")?)).collect()
}

/// Deletes keys that were claimed for members which are refused: a refused request leaves no key behind.
pub(super) async fn delete_keys(tx: &Tx, keys: impl Iterator<Item = &Key>) -> Result<()> {
    let (scopes, keys): (Vec<_>, Vec<_>) = keys.map(|key| (key.scope.as_str(), key.key.as_str())).unzip();
    if scopes.is_empty() {
        return Ok(());
    }
    let rows = Rows::new([("scope", Column::Text(scopes)), ("key", Column::Text(keys))]);
    let sql = "delete from idempotency where (scope, key) in (select scope, key from {t})";
    tx.conn()
        .execute_raw(statement(tx.backend(), sql, &[("t", &rows)], []))
        .await?;
    Ok(())
}
