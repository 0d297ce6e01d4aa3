//! Abstracts what a query reads from: the store's readers, or a transaction that must see its own writes. So each
//! `find_` and `list_` function is written once.
//!
//! Must not be implemented by anything but `Store` and `Tx`.

use sea_orm::{ConnectionTrait, Statement};

use super::backend::Backend;
use super::pool::{Pool, Transaction};
use super::store::Store;
use super::tx::Tx;
use crate::error::Result;

/// A store or a transaction, as far as a query needs to know it.
pub trait Source: Sync {
    #[doc(hidden)]
    type Conn: ConnectionTrait;
    /// Returns the pool or the transaction that runs the query's statements.
    #[doc(hidden)]
    fn source(&self) -> &Self::Conn;
    /// Returns the kind of database, for SQL that differs.
    #[doc(hidden)]
    fn dialect(&self) -> Backend;
}

impl Source for Store {
    type Conn = Pool;

    fn source(&self) -> &Pool {
        self.pool()
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

/// Runs a statement that reads nothing, to see whether the database answers.
///
/// # Errors
/// `Database` if it does not answer.
pub async fn ping(source: &impl Source) -> Result<()> {
    source.source().execute_unprepared("select 1").await?;
    Ok(())
}

/// Returns whether the database has a schema of ours, of any version. Cheap, because probes ask it again and again.
///
/// # Errors
/// `Database` if it does not answer, `Internal` if the schema is missing altogether.
pub async fn is_prepared(source: &impl Source) -> Result<bool> {
    let sql = "select 1 from installation where id = 1";
    let statement = Statement::from_string(source.dialect().orm(), sql);
    Ok(source.source().query_one_raw(statement).await?.is_some())
}
