//! Stores a usual batch on Postgres by one statement, which is a transaction of its own and costs one round trip.
//!
//! The statement first compares the revisions of the applications with those that are remembered. If one differs, it
//! stores nothing. Each worker sends it over a connection of its own, directly through sqlx: SeaORM copies every value
//! twice, and its pool pings the server whenever a connection comes back.
//!
//! Must not decide what is stored.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Row, query};
use sea_orm::{DbErr, RuntimeErr};

use super::apps::App;
use super::place::DeliveryRow;
use super::plan::Plan;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::database::pool::silent;
use crate::store::database::store::Pools;
use crate::store::idempotency::{KEPT, Key};
use crate::store::message_reply::MessageReply;

/// One worker's connection. It is opened at the first batch, and again after each failure.
pub(super) struct WorkerConnection {
    options: PgConnectOptions,
    /// `None` before the first batch, and after a failure.
    open: Option<PgConnection>,
    /// Whether there was a connection before.
    was_open: bool,
    /// How long opening a connection, and an answer on it, may take.
    deadline: Duration,
}

/// The result of a statement that succeeded.
pub(super) enum Stored {
    /// This many messages were stored, each with its payload, deliveries and reply. Messages whose idempotency key has
    /// a reply already were left out.
    Messages(usize),
    /// Nothing was stored, because these applications, given by their ids, have changed.
    Stale(Vec<String>),
}

/// A batch that one statement can store: no message has an event id, no earlier try may have stored one, and either
/// each has an idempotency key of its own or none has a key.
pub(super) struct UsualBatch<'a> {
    /// The instant by which keys expire.
    pub now: Timestamp,
    /// The remembered applications of all messages.
    pub apps: &'a HashMap<(&'a str, &'a str), Arc<App>>,
    /// The keys, with the replies that they are to have.
    pub keyed: &'a [(&'a Key, String)],
    /// The messages to store.
    pub fresh: &'a [&'a Plan<'a>],
    pub deliveries: &'a [DeliveryRow],
}

impl WorkerConnection {
    /// Prepares a connection, and opens none yet. `None` on SQLite.
    pub fn new(store: &Store) -> Option<Self> {
        match store.pools() {
            Pools::Postgres {
                options,
                answer_deadline,
                ..
            } => Some(Self {
                options: (**options).clone(),
                open: None,
                was_open: false,
                deadline: *answer_deadline,
            }),
            Pools::Sqlite { .. } => None,
        }
    }

    /// Returns whether the connection has failed, so that the next batch opens another one.
    pub fn is_lost(&self) -> bool {
        self.was_open && self.open.is_none()
    }

    /// Stores a batch. The connection is dropped unless the statement succeeds.
    ///
    /// # Errors
    /// `Database`. The statement may have committed all the same, unless the connection could not be opened.
    pub async fn store(&mut self, batch: &UsualBatch<'_>) -> Result<Stored> {
        let mut connection = match self.open.take() {
            Some(open) => open,
            None => tokio::time::timeout(self.deadline, self.options.connect())
                .await
                .map_err(|_| silent(self.deadline))?
                .map_err(|err| DbErr::Conn(RuntimeErr::SqlxError(Arc::new(err))))?,
        };
        self.was_open = true;
        let stored = tokio::time::timeout(self.deadline, insert(&mut connection, batch)).await;
        let row = stored.map_err(|_| silent(self.deadline))?.map_err(failed)?;
        self.open = Some(connection);
        let stored: Option<i64> = row.try_get(0).map_err(failed)?;
        Ok(match stored {
            None => Stored::Stale(row.try_get::<Option<_>, _>(1).map_err(failed)?.unwrap_or_default()),
            Some(count) => Stored::Messages(usize::try_from(count).unwrap_or(0)),
        })
    }
}

/// Turns an error of the driver into one of the store.
fn failed(err: sea_orm::sqlx::Error) -> Error {
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(err))).into()
}

/// Sends the statement. The order of the values is that of [`text`].
async fn insert(connection: &mut PgConnection, batch: &UsualBatch<'_>) -> sea_orm::sqlx::Result<PgRow> {
    let (has_keys, has_deliveries) = (!batch.keyed.is_empty(), !batch.deliveries.is_empty());
    let text = &TEXTS[usize::from(has_keys) * 2 + usize::from(has_deliveries)];
    let (apps, fresh) = (batch.apps, batch.fresh);
    let messages = || fresh.iter().map(|row| (row.member, &row.member.message));
    let app_ids: Vec<_> = fresh.iter().map(|plan| plan.app.id.as_str()).collect();
    let ids: Vec<_> = messages().map(|(member, _)| member.id.as_str()).collect();
    let expires_at = fresh.iter().map(|plan| plan.expires_at());
    let channels = fresh.iter().map(|plan| plan.channels.as_deref());
    let is_uid = |name: &str, app: &App| name != app.id;
    let mut query = query(AssertSqlSafe(text.as_str()))
        .bind(apps.values().map(|app| app.id.as_str()).collect::<Vec<_>>())
        .bind(apps.keys().map(|(org_id, _)| *org_id).collect::<Vec<_>>())
        .bind(
            apps.iter()
                .map(|((_, name), app)| is_uid(name, app).then_some(*name))
                .collect::<Vec<_>>(),
        )
        .bind(apps.values().map(|app| app.revision).collect::<Vec<_>>())
        .bind(app_ids)
        .bind(ids)
        .bind(
            messages()
                .map(|(_, message)| message.event_type.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(channels.collect::<Vec<_>>())
        .bind(messages().map(|(member, _)| member.created_at.0).collect::<Vec<_>>())
        .bind(expires_at.collect::<Vec<_>>())
        .bind(messages().map(|(_, message)| message.body.as_str()).collect::<Vec<_>>())
        .bind(
            messages()
                .map(|(_, message)| message.content_type.as_deref())
                .collect::<Vec<_>>(),
        );
    if has_keys {
        let mut sorted: Vec<_> = batch.keyed.iter().collect();
        sorted.sort_by_key(|(key, _)| (&key.scope, &key.key));
        query = query
            .bind(batch.now.0)
            .bind(batch.now.plus(KEPT).0)
            .bind(sorted.iter().map(|(key, _)| key.scope.as_str()).collect::<Vec<_>>())
            .bind(sorted.iter().map(|(key, _)| key.key.as_str()).collect::<Vec<_>>())
            .bind(sorted.iter().map(|(_, reply)| reply.as_str()).collect::<Vec<_>>());
    }
    if has_deliveries {
        let rows = batch.deliveries;
        let lease = |row: &DeliveryRow| row.lease.as_ref().map(|(_, id)| *id);
        query = query
            .bind(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.app_id.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.message_id.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| &*row.endpoint_id).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.due_at.map(|at| at.0)).collect::<Vec<_>>())
            .bind(
                rows.iter()
                    .map(|row| row.lease.as_ref().map(|(owner, _)| &**owner))
                    .collect::<Vec<_>>(),
            )
            .bind(rows.iter().map(lease).collect::<Vec<_>>());
    }
    query.fetch_one(connection).await
}

/// The four texts of the statement: plain, with deliveries, with keys, with both. They do not depend on the number of
/// rows, so a connection prepares each of them only once.
static TEXTS: LazyLock<[String; 4]> = LazyLock::new(|| {
    [
        text(false, false),
        text(false, true),
        text(true, false),
        text(true, true),
    ]
});

/// Builds the text of the statement. Its part `stale` finds the applications that have changed, and all others insert
/// only if it finds none.
fn text(has_keys: bool, has_deliveries: bool) -> String {
    const STALE: &str = "with stale as (select t.id \
        from unnest($1::text[], $2::text[], $3::text[], $4::int8[]) as t(id, org_id, uid, revision) \
        left join application a on a.id = t.id and a.org_id = t.org_id and a.revision = t.revision \
        and a.deleted_at is null and (t.uid is null or a.uid = t.uid) where a.id is null)";
    const KEYS: &str = ", k as (insert into idempotency (scope, key, reply, expires_at) \
        select scope, key, reply, $14 from unnest($15::text[], $16::text[], $17::text[]) as t(scope, key, reply) \
        where not exists (select from stale) order by scope, key \
        on conflict (scope, key) do update set reply = excluded.reply, expires_at = excluded.expires_at \
        where idempotency.expires_at <= $13 returning reply)";
    const MESSAGES: &str = ", m as (insert into message (app_id, id, event_type, channels, created_at, expires_at) \
        select app_id, id, event_type, channels, created_at, expires_at \
        from unnest($5::text[], $6::text[], $7::text[], $8::text[], $9::int8[], $10::int8[]) \
        as t(app_id, id, event_type, channels, created_at, expires_at) where ";
    const CONTENTS: &str = ", c as (insert into message_content (app_id, message_id, body, content_type, expires_at) \
        select app_id, message_id, body, content_type, expires_at \
        from unnest($5::text[], $6::text[], $11::text[], $12::text[], $10::int8[]) \
        as t(app_id, message_id, body, content_type, expires_at) where ";
    const FRESH: &str = "not exists (select from stale)";
    let stored = match has_keys {
        true => "message_id in (select id from m)",
        false => FRESH,
    };
    let mut text = STALE.to_owned();
    if has_keys {
        text += KEYS;
    }
    text += MESSAGES;
    text += &match has_keys {
        true => format!("{} in (select reply from k) returning id)", MessageReply::SQL),
        false => format!("{FRESH})"),
    };
    text = text + CONTENTS + stored + ")";
    if has_deliveries {
        let at = |n: u32| n + if has_keys { 18 } else { 13 };
        text += &format!(
            ", d as (insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at, owner, lease_id) \
             select id, app_id, message_id, endpoint_id, 0, 0, due_at, owner, lease_id \
             from unnest(${}::text[], ${}::text[], ${}::text[], ${}::text[], ${}::int8[], ${}::text[], ${}::int8[]) \
             as t(id, app_id, message_id, endpoint_id, due_at, owner, lease_id) where {stored})",
            at(0),
            at(1),
            at(2),
            at(3),
            at(4),
            at(5),
            at(6)
        );
    }
    let count = match has_keys {
        true => "(select count(*) from m)",
        false => "cardinality($6::text[])::int8",
    };
    text + " select case when " + FRESH + " then " + count + " end, (select array_agg(id) from stale)"
}
