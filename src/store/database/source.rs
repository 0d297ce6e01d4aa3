//! What a query can read from: the store's readers, or a transaction that must see its own writes.
//! So that each `find_` and `list_` is written once. Implemented by `Store` and `Tx` only.

use sea_orm::{ConnectionTrait, Statement};

use super::backend::Backend;
use super::pool::{Pool, Transaction};
use super::store::Store;
use super::tx::Tx;
use crate::error::Result;

pub trait Source: Sync {
    #[doc(hidden)]
    type Conn: ConnectionTrait;
    #[doc(hidden)]
    fn source(&self) -> &Self::Conn;
    #[doc(hidden)]
    fn dialect(&self) -> Backend;
}

impl Source for Store {
    type Conn = Pool;

    fn source(&self) -> &Pool {
        self.reader()
    }

    fn dialect(&self) -> Backend {
        self.backend()
    }
}

impl Source for Tx {
    type Conn = Transaction;

    fn source(&self) -> &Transaction {
        self.conn()
    }

    fn dialect(&self) -> Backend {
        self.store().backend()
    }
}

/// Asks the database for nothing.
///
/// # Errors
/// `Database` when it does not answer.
pub async fn ping(source: &impl Source) -> Result<()> {
    source.source().execute_unprepared("select 1").await?;
    Ok(())
}

/// Whether the database has a schema of ours, whatever its version: what a probe asks again and again.
///
/// # Errors
/// `Database` when it does not answer.
pub async fn is_prepared(source: &impl Source) -> Result<bool> {
    let one = "select 1 from installation where id = 1";
    let statement = Statement::from_string(source.dialect().orm(), one);
    Ok(source.source().query_one_raw(statement).await?.is_some())
}
