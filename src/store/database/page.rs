//! Reads one page of a list: from a key onwards, in either direction, up to a number of rows and of bytes.
//!
//! Every list is in the order of a unique column. A query reads one row more than the page holds, which shows whether
//! the list goes on. A list with large rows reads their sizes first ([`fetch_within`]), so that no more than 4 MiB are
//! read.
//!
//! Must not know the parameters of the API's queries, or what its responses look like.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect, Select};

use super::request;
use super::source::Source;
use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// The most bytes of one page, as it is read and again as it is written, whatever its `limit`. Some ten pages at once
/// must fit into a container of 512 MB beside everything else, and a client that reads 70 kB/s gets one in a minute.
const PAGE_BYTES: usize = 4 << 20;

/// The part of a list that is asked for.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// The most rows of the page.
    pub limit: u64,
    /// The key after which the page begins. `None` means the start of the list, or its end if `backwards`.
    pub after: Option<String>,
    /// Whether the list is read towards its start. The rows of the page are in the list's order all the same.
    pub backwards: bool,
    /// Whether the list is in ascending order of its keys.
    pub ascending: bool,
}

/// Bounds of a list in time, both exclusive; `None` means no bound. The instant of a row is the one with which its id
/// begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Between {
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
}

impl Between {
    /// Limits `query` to rows within the bounds. `key` is the column of the ids, `prefix` their kind.
    pub(crate) fn apply<E: EntityTrait>(
        &self,
        mut query: Select<E>,
        key: impl ColumnTrait,
        prefix: Prefix,
    ) -> Select<E> {
        if let Some(after) = self.after {
            query = query.filter(key.gte(prefix.first_id_at(Timestamp(after.0.saturating_add(1)))));
        }
        if let Some(before) = self.before {
            query = query.filter(key.lt(prefix.first_id_at(before)));
        }
        query
    }
}

/// One page: rows in the order of their list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Whether the list has nothing more in the direction that was asked for.
    pub done: bool,
}

impl<T> Page<T> {
    /// Returns the page of an empty list.
    pub fn empty() -> Self {
        Self {
            rows: Vec::new(),
            done: true,
        }
    }

    /// Cuts the page to 4 MiB, counted from where reading began; at least one row stays. `f` turns each row into what
    /// the page is to hold, and returns its size in bytes too.
    ///
    /// # Errors
    /// The error of `f` for the first row that it refuses.
    pub fn within<U>(self, request: &PageRequest, mut f: impl FnMut(T) -> Result<(U, usize)>) -> Result<Page<U>> {
        let mut page = Page {
            rows: Vec::with_capacity(self.rows.len()),
            done: self.done,
        };
        let mut rows = self.rows;
        if request.backwards {
            rows.reverse();
        }
        let mut sum = 0;
        for row in rows {
            let (made, size) = f(row)?;
            sum += size;
            if sum > PAGE_BYTES && !page.rows.is_empty() {
                page.done = false;
                break;
            }
            page.rows.push(made);
        }
        if request.backwards {
            page.rows.reverse();
        }
        Ok(page)
    }

    /// Returns the page of a list that was read up to `reach`, and the key after which it goes on, if that is not its last
    /// row.
    pub(crate) fn reaching(mut self, reach: Option<String>) -> (Self, Option<String>) {
        let reach = reach.filter(|_| self.done);
        self.done &= reach.is_none();
        (self, reach)
    }

    /// Turns each row into what `f` returns, and leaves out the rows for which that is `None`.
    pub fn filter_map<U>(self, f: impl FnMut(T) -> Option<U>) -> Page<U> {
        Page {
            rows: self.rows.into_iter().filter_map(f).collect(),
            done: self.done,
        }
    }
}

impl PageRequest {
    /// Returns whether keys grow in the direction of reading.
    pub(crate) fn reads_upwards(&self) -> bool {
        self.ascending != self.backwards
    }

    /// Limits `query` to rows up to the key, which [`find_reach`] has returned.
    pub(crate) fn reach<E: EntityTrait>(
        &self,
        query: Select<E>,
        key: impl ColumnTrait,
        last: Option<&str>,
    ) -> Select<E> {
        match last {
            Some(last) if self.reads_upwards() => query.filter(key.lte(last)),
            Some(last) => query.filter(key.gte(last)),
            None => query,
        }
    }

    /// Returns that of two keys which [`find_reach`] has returned at which reading ends earlier.
    pub(crate) fn nearer(&self, one: Option<String>, other: Option<String>) -> Option<String> {
        match (one, other) {
            (Some(one), Some(other)) if self.reads_upwards() => Some(one.min(other)),
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        }
    }

    /// Returns the order of keys in the direction of reading.
    pub(crate) fn order(&self) -> Order {
        if self.reads_upwards() { Order::Asc } else { Order::Desc }
    }

    /// Limits `query` to rows beyond the key after which the page begins.
    pub(crate) fn begin<E: EntityTrait>(&self, query: Select<E>, key: impl ColumnTrait) -> Select<E> {
        match &self.after {
            Some(after) if self.reads_upwards() => query.filter(key.gt(after)),
            Some(after) => query.filter(key.lt(after)),
            None => query,
        }
    }

    /// Makes the page of `rows`, which a query for one row more than `limit` found, in the direction of reading.
    pub(crate) fn page<T>(&self, mut rows: Vec<T>) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let done = rows.len() <= limit;
        rows.truncate(limit);
        if self.backwards {
            rows.reverse();
        }
        Page { rows, done }
    }
}

/// How many rows a page of a filtered list looks through: it ends there, even if it is not full.
const LOOKED_THROUGH: u64 = 10_000;

/// Returns the key at which a page that looks through all rows of `query` has looked through enough; `None` means that
/// fewer rows are left. An index must find the rows without what they are filtered by.
pub(crate) async fn find_reach<E, C>(
    source: &impl Source,
    query: Select<E>,
    key: C,
    request: &PageRequest,
) -> Result<Option<String>>
where
    E: EntityTrait,
    C: ColumnTrait,
{
    let last = request.begin(query, key).select_only().column(key);
    let last = last.order_by(key, request.order()).offset(LOOKED_THROUGH - 1).limit(1);
    Ok(last.into_tuple().one(source.source()).await?)
}

/// Reads one page of `query`, in the order of the unique column `key`.
pub(crate) async fn fetch<E, C>(
    source: &impl Source,
    query: Select<E>,
    key: C,
    request: &PageRequest,
) -> Result<Page<E::Model>>
where
    E: EntityTrait,
    C: ColumnTrait,
{
    let rows = window(query, key, request).all(source.source()).await?;
    Ok(request.page(rows))
}

/// Reads one page of `query` as [`fetch`] does, but ends it at 4 MiB; at least one row stays. Reads the sizes of the
/// rows first, and waits for room in the budget before it reads the rows. `size` is the SQL for the bytes that are read
/// of a row; `columns` selects the columns that are read.
///
/// # Errors
/// `Unavailable` if there is no room in time.
pub(crate) async fn fetch_within<E, C>(
    source: &impl Source,
    query: Select<E>,
    key: C,
    request: &PageRequest,
    size: &str,
    columns: impl FnOnce(Select<E>) -> Select<E>,
) -> Result<Page<E::Model>>
where
    E: EntityTrait,
    C: ColumnTrait,
{
    let sizes: Vec<(String, i64)> = window(query.clone(), key, request)
        .select_only()
        .column(key)
        .expr(Expr::cust(format!("cast({size} as bigint)")))
        .into_tuple()
        .all(source.source())
        .await?;
    let page = request.page(sizes).within(request, |(key, size)| {
        let size = usize::try_from(size).unwrap_or_default();
        Ok(((key, size), size))
    })?;
    if page.rows.is_empty() {
        return Ok(Page::empty());
    }
    reserve(page.rows.iter().map(|(_, size)| size).sum()).await?;
    let keys = page.rows.into_iter().map(|(key, _)| key);
    let order = if request.ascending { Order::Asc } else { Order::Desc };
    let rows = columns(query).filter(key.is_in(keys)).order_by(key, order);
    Ok(Page {
        rows: rows.all(source.source()).await?,
        done: page.done,
    })
}

/// Reserves memory for a page of `bytes`, twice its size: the page is held as rows, and then as the response too.
pub(crate) async fn reserve(bytes: usize) -> Result<()> {
    request::reserve(2 * bytes).await
}

/// Adds the condition, the order and the limit of a page to `query`. The limit is one row more than the page holds.
pub(crate) fn window<E: EntityTrait, C: ColumnTrait>(query: Select<E>, key: C, request: &PageRequest) -> Select<E> {
    let query = request.begin(query, key);
    query.order_by(key, request.order()).limit(request.limit + 1)
}
