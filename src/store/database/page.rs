//! A page of a list: where it begins, which way it goes, how much it holds. Called by every `list_` of store;
//! api makes the request from the query and the answer from the page.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect, Select};

use super::request;
use super::source::Source;
use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// Bytes of one page, as it is read and again as it is written, whatever its `limit`. Some ten pages at once must fit into a
/// container of 512 MB beside all else, and a client that reads 70 kB/s gets one in a minute.
const PAGE_BYTES: usize = 4 << 20;

/// Which part of a list is asked for.
#[derive(Clone, Debug)]
pub struct PageRequest {
    pub limit: u64,
    /// The key to go on after; none: from the start, or, backwards, from the end.
    pub after: Option<String>,
    /// Away from the list's end, towards its start; the page is in the list's order all the same.
    pub backwards: bool,
    /// The order of the list itself.
    pub ascending: bool,
}

/// Bounds of a list by instants, both exclusive. A row's instant is the one that its id begins with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Between {
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
}

impl Between {
    /// Keeps what lies within, for a list by ids of this kind.
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

/// Some rows in the list's order.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Nothing further in the direction that was asked for.
    pub done: bool,
}

impl<T> Page<T> {
    /// Of a list that holds nothing.
    pub fn empty() -> Self {
        Self {
            rows: Vec::new(),
            done: true,
        }
    }

    /// The part next to where reading began that is no larger than 4 MiB; one row at least. `f` makes of each row
    /// what the page is to hold, and tells its bytes.
    ///
    /// # Errors
    /// What `f` answers for the first row that it refuses.
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

    /// Without the rows that `f` leaves out.
    pub fn filter_map<U>(self, f: impl FnMut(T) -> Option<U>) -> Page<U> {
        Page {
            rows: self.rows.into_iter().filter_map(f).collect(),
            done: self.done,
        }
    }
}

impl PageRequest {
    /// Whether keys grow in the direction that is read.
    pub(crate) fn reads_upwards(&self) -> bool {
        self.ascending != self.backwards
    }

    /// The order of keys in the direction that is read.
    pub(crate) fn order(&self) -> Order {
        if self.reads_upwards() { Order::Asc } else { Order::Desc }
    }

    /// Keeps what lies beyond the key that the page begins after.
    pub(crate) fn begin<E: EntityTrait>(&self, query: Select<E>, key: impl ColumnTrait) -> Select<E> {
        match &self.after {
            Some(after) if self.reads_upwards() => query.filter(key.gt(after)),
            Some(after) => query.filter(key.lt(after)),
            None => query,
        }
    }

    /// The page from what a query with one row more than `limit` found, in the direction of reading.
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

/// One page of `query`, by the unique column `key`.
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

/// The same, but no more than 4 MiB are read. `size` is SQL for the bytes that are read of a row; `columns` narrows
/// what that is.
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

/// Reserves what a page of so many bytes takes: once as it is read, once as it is written.
pub(crate) async fn reserve(bytes: usize) -> Result<()> {
    request::reserve(2 * bytes).await
}

/// The condition, order and size that make a query one page.
pub(crate) fn window<E: EntityTrait, C: ColumnTrait>(query: Select<E>, key: C, request: &PageRequest) -> Select<E> {
    let query = request.begin(query, key);
    query.order_by(key, request.order()).limit(request.limit + 1)
}
