//! Stores a usual batch on Postgres by one statement, which is a transaction of its own and costs one round trip.
//!
//! The statement first compares the revisions of the applications with those that are remembered. If one differs, it
//! stores nothing. Each worker sends it over a connection of its own, directly through sqlx: SeaORM copies every value
//! twice, and its pool pings the server whenever a connection comes back.
//!
//! Must not decide what is stored.

use std::ops::RangeFrom;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Row, query};
use sea_orm::{DbErr, RuntimeErr};

use super::apps::Named;
use super::columns::{self, EVENT_ID, Field, NamedColumn, TAGS, Table};
use super::place::DeliveryRow;
use super::plan::Plan;
use crate::domain::timestamp::Timestamp;
use crate::domain::typed_id::AppId;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::database::pool::silent;
use crate::store::database::rows::Column;
use crate::store::database::store::Pools;
use crate::store::idempotency::{KEPT, Key};
use crate::store::message_reply::MessageReply;
use crate::store::poll::epoch;

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
    /// Nothing was stored, because these applications have changed. If there are none, the epoch of the transactions has
    /// no number yet.
    Stale(Vec<AppId>),
}

/// A batch that one statement can store: no message has an event id, no earlier try may have stored one, and either
/// each has an idempotency key of its own or none has a key.
pub(super) struct UsualBatch<'a> {
    /// The instant by which keys expire.
    pub now: Timestamp,
    /// The remembered applications of all messages.
    pub apps: &'a Named<'a>,
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
            None => {
                let ids: Option<Vec<String>> = row.try_get(1).map_err(failed)?;
                Stored::Stale(ids.into_iter().flatten().map(AppId::from).collect())
            }
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
    let parts = Parts {
        keys: !batch.keyed.is_empty(),
        deliveries: !batch.deliveries.is_empty(),
        tags: columns::has_tags(batch.fresh),
        items: columns::has_items(batch.fresh),
    };
    let text = &TEXTS[parts.index()];
    let apps = batch.apps;
    let uids = apps
        .iter()
        .map(|(named, app)| (named.name != app.id.as_str()).then_some(named.name));
    let mut query = query(AssertSqlSafe(text.as_str()))
        .bind(apps.values().map(|app| app.id.as_str()).collect::<Vec<_>>())
        .bind(apps.keys().map(|named| named.org_id).collect::<Vec<_>>())
        .bind(uids.collect::<Vec<_>>())
        .bind(apps.values().map(|app| app.revision).collect::<Vec<_>>())
        .bind(batch.now.0)
        .bind(batch.now.plus(KEPT).0);
    let mut columns: Vec<Column> = fields(batch.fresh, parts).map(|field| field.values).collect();
    if parts.keys {
        columns.extend(columns::of_keys(batch.keyed).map(|(_, values)| values));
    }
    if parts.deliveries {
        columns.extend(columns::of_deliveries(batch.deliveries).map(|(_, values)| values));
    }
    if parts.tags {
        columns.extend(columns::of_tags(batch.fresh).map(|(_, values)| values));
    }
    if parts.items {
        columns.extend(columns::of_items(batch.fresh).map(|(_, values)| values));
    }
    for column in columns {
        query = match column {
            Column::Text(values) => query.bind(values),
            Column::MaybeText(values) => query.bind(values),
            Column::Int(values) => query.bind(values),
            Column::MaybeInt(values) => query.bind(values),
        };
    }
    query.fetch_one(connection).await
}

/// Returns the columns of a usual batch's messages.
fn fields<'a>(plans: &'a [&Plan<'_>], parts: Parts) -> impl Iterator<Item = Field<'a>> {
    let fields = columns::of_messages(plans).into_iter();
    fields.filter(move |field| match field.message {
        Some(EVENT_ID) => false,
        Some(TAGS) => parts.tags,
        _ => true,
    })
}

/// The parts of the statement that only some batches need.
#[derive(Clone, Copy)]
struct Parts {
    keys: bool,
    deliveries: bool,
    tags: bool,
    /// Rows for pollers.
    items: bool,
}

impl Parts {
    fn index(self) -> usize {
        let parts = [self.keys, self.deliveries, self.tags, self.items];
        parts
            .into_iter()
            .rev()
            .fold(0, |index, part| index * 2 + usize::from(part))
    }

    /// Returns the parts with this index.
    fn at(index: usize) -> Self {
        Self {
            keys: index & 1 > 0,
            deliveries: index & 2 > 0,
            tags: index & 4 > 0,
            items: index & 8 > 0,
        }
    }
}

/// The texts of the statement, one for each choice of parts. They do not depend on the number of rows, so a connection
/// prepares each of them only once.
static TEXTS: LazyLock<[String; 16]> = LazyLock::new(|| std::array::from_fn(|index| text(Parts::at(index))));

/// Builds the text of the statement, with or without keys and deliveries. Its part `stale` finds the applications that
/// have changed; the other parts insert only if it finds none. With keys, a message is inserted only if its key was
/// claimed: the part `k` returns the replies of the claimed keys. $5 and $6 are used with keys only.
///
/// The result is the number of stored messages, or null if none was stored, and the ids of the applications that have
/// changed.
fn text(parts: Parts) -> String {
    const STALE: &str = "with stale as (select t.id \
        from unnest($1::text[], $2::text[], $3::text[], $4::int8[]) as t(id, org_id, uid, revision) \
        left join application a on a.id = t.id and a.org_id = t.org_id and a.revision = t.revision \
        and a.deleted_at is null and (t.uid is null or a.uid = t.uid) where a.id is null)";
    // An epoch that has no number yet stores nothing either: the batch then goes step by step, which gives it one. Each part
    // then asks one question, as without pollers.
    let fresh = match parts.items {
        true => "exists (select from e)",
        false => "not exists (select from stale)",
    };
    let mut numbers = 7..;
    let (mut in_message, mut in_content) = (Arrays::default(), Arrays::default());
    for (field, number) in fields(&[], parts).zip(&mut numbers) {
        field
            .message
            .iter()
            .for_each(|name| in_message.push(name, number, &field.values));
        field
            .content
            .iter()
            .for_each(|name| in_content.push(name, number, &field.values));
    }
    let mut text = STALE.to_owned();
    if parts.items {
        let present = epoch::present_tx();
        text += &format!(", e as ({present} and not exists (select from stale))");
    }
    let (messages, others) = match parts.keys {
        true => {
            let keys = Arrays::of(columns::of_keys(&[]), &mut numbers);
            text += &format!(
                ", k as ({} returning reply)",
                columns::claim_of_keys(&keys.table(), fresh, "$6", "$5")
            );
            let claimed = format!("{} in (select reply from k) returning id", MessageReply::SQL);
            (claimed, "message_id in (select id from m)")
        }
        false => (fresh.to_owned(), fresh),
    };
    text += &format!(", m as ({} where {messages})", in_message.insert(Table::Message));
    text += &format!(", c as ({} where {others})", in_content.insert(Table::Content));
    if parts.deliveries {
        let deliveries = Arrays::of(columns::of_deliveries(&[]), &mut numbers);
        text += &format!(", d as ({} where {others})", deliveries.insert(Table::Delivery));
    }
    if parts.tags {
        let tags = Arrays::of(columns::of_tags(&[]), &mut numbers);
        text += &format!(", g as ({} where {others})", tags.insert(Table::Tag));
    }
    if parts.items {
        let items = Arrays::of(columns::of_items(&[]), &mut numbers);
        let insert = items.insert(Table::Item);
        text += &match parts.keys {
            true => format!(", p as ({insert} where {others})"),
            // The join with `e` leaves nothing if `e` is empty.
            false => format!(", p as ({insert})"),
        };
    }
    let count = match parts.keys {
        true => "(select count(*) from m)".to_owned(),
        false => format!("cardinality({})::int8", in_message.arrays[0]),
    };
    text + &format!(" select case when {fresh} then {count} end, (select array_agg(id) from stale)")
}

/// Columns that are bound as an array each.
#[derive(Default)]
struct Arrays {
    names: Vec<&'static str>,
    /// The parameters with their types.
    arrays: Vec<String>,
}

impl Arrays {
    /// Takes a number for each of the columns.
    fn of<'a>(columns: impl IntoIterator<Item = NamedColumn<'a>>, numbers: &mut RangeFrom<usize>) -> Self {
        let mut arrays = Self::default();
        for ((name, values), number) in columns.into_iter().zip(numbers) {
            arrays.push(name, number, &values);
        }
        arrays
    }

    fn push(&mut self, name: &'static str, number: usize, values: &Column) {
        self.names.push(name);
        self.arrays.push(format!("${number}::{}[]", values.postgres_type()));
    }

    /// Returns the SQL of the arrays as one table.
    fn table(&self) -> String {
        format!("unnest({}) as t({})", self.arrays.join(", "), self.names.join(", "))
    }

    fn insert(&self, table: Table) -> String {
        table.insert(&self.names, &self.table())
    }
}
