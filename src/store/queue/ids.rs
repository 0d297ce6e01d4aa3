//! Reads ids from rows, without the copy as a `String` that SeaORM would make of each.
//!
//! Must not query.

use std::sync::Arc;

use sea_orm::sqlx::Row;
use sea_orm::{ColIdx, DbErr, QueryResult, RuntimeErr, TryGetError, TryGetable};

use crate::domain::id::Id;
use crate::domain::typed_id::{AppId, DeliveryId, EndpointId, MessageId};

macro_rules! columns {
    ($($id:ty),+) => {$(
        impl TryGetable for $id {
            fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
                read(row, index)
            }
        }
    )+};
}

columns!(AppId, EndpointId, MessageId, DeliveryId);

fn read<T: Id, I: ColIdx>(row: &QueryResult, index: I) -> Result<T, TryGetError> {
    let text: Result<Option<&str>, _> = match (row.try_as_pg_row(), row.try_as_sqlite_row()) {
        (Some(row), _) => row.try_get(index.as_sqlx_postgres_index()),
        (None, Some(row)) => row.try_get(index.as_sqlx_sqlite_index()),
        (None, None) => Ok(None),
    };
    let failed = |err| TryGetError::DbErr(DbErr::Query(RuntimeErr::SqlxError(Arc::new(err))));
    let text = text.map_err(failed)?;
    text.map(T::from).ok_or_else(|| TryGetError::Null(format!("{index:?}")))
}
