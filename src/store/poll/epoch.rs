//! Epochs: each history of transaction numbers has a number of its own, which the intake puts above those of its
//! transactions.
//!
//! A restored dump or a promoted standby may count transactions from a smaller number than the database before it, so
//! that new messages would come before places that readers have passed. The epoch is found by the identity of the history
//! within the statement that stores messages, so no message is ever stored under an older one.
//!
//! The present epoch is the one with the largest number, if it has the identity of the history that is written now. If it
//! has another, the present one has no number yet, and gets the next. A database that comes back to a cluster thus gets a
//! new number there: its old one is below those of the messages that were stored elsewhere.

use sea_orm::{ConnectionTrait, Statement};

use crate::domain::cursor::TX_BITS;
use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::database::backend::Backend;

/// SQL for the identity of the history that is being written. SQLite counts by a row of its own, which goes with the file.
///
/// It is what `poll_identity()` returns, without the 15 to 25 microseconds that a call takes. The first time in a session
/// of the server, which has no name of the cluster yet, it calls the function. On a standby, which never has the name, the
/// function returns null.
pub(in crate::store) fn identity(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => "'sqlite'",
        Backend::Postgres => {
            "case when coalesce(current_setting('postrider.cluster', true), '') = '' then poll_identity() \
             else current_setting('postrider.cluster') || '.' \
             || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) end"
        }
    }
}

/// SQL for the number of the present transaction, with that of its epoch, on Postgres. It finds no row if the epoch has
/// no number yet.
pub(in crate::store) fn present_tx() -> String {
    format!(
        "select (number << {TX_BITS}) | pg_current_xact_id()::text::int8 as tx from {}",
        present(Backend::Postgres)
    )
}

/// SQL for the identity of the present epoch, and the horizon: all transactions below it have ended, and what
/// they have stored can be seen. It finds no row if the epoch has no number yet.
pub(super) fn here(backend: Backend) -> String {
    let horizon = match backend {
        Backend::Sqlite => i64::MAX.to_string(),
        Backend::Postgres => {
            format!("(number << {TX_BITS}) | pg_snapshot_xmin(pg_current_snapshot())::text::int8")
        }
    };
    format!("select identity, {horizon} as horizon from {}", present(backend))
}

/// SQL for the row of the present epoch, as a table with a condition to which others may be added.
fn present(backend: Backend) -> String {
    let identity = identity(backend);
    format!(
        "(select number, identity from poll_epoch order by number desc limit 1) as newest where identity = {identity}"
    )
}

/// Gives the present epoch a number, unless it has one.
///
/// # Errors
/// `Database` if there is no number left: above 32,767 it would not fit above that of a transaction.
pub async fn register(tx: &Tx) -> Result<()> {
    let sql = format!(
        "insert into poll_epoch (number, identity, last) select n.newest + 1, n.identity, 0 \
         from (select coalesce(max(number), 0) as newest, {} as identity from poll_epoch) as n \
         where not exists (select 1 from poll_epoch e where e.number = n.newest and e.identity = n.identity) \
         on conflict do nothing",
        identity(tx.backend())
    );
    let statement = Statement::from_string(tx.backend().orm(), sql);
    tx.conn().execute_raw(statement).await?;
    Ok(())
}

/// Takes the next number of a transaction, with that of its epoch. For SQLite, whose transactions have no numbers: they
/// run one after the other, so the numbers are in the order of the commits.
pub(in crate::store) async fn next_tx(tx: &Tx) -> Result<i64> {
    if let Some(next) = count(tx).await? {
        return Ok(next);
    }
    register(tx).await?;
    let next = count(tx).await?;
    next.ok_or_else(|| Error::internal("the epoch of polls has no number"))
}

/// Counts one transaction more. `None` means that there is no epoch yet.
async fn count(tx: &Tx) -> Result<Option<i64>> {
    let sql = format!(
        "update poll_epoch set last = last + 1 where number = (select max(number) from poll_epoch) \
         returning (number << {TX_BITS}) | last as tx"
    );
    let statement = Statement::from_string(tx.backend().orm(), sql);
    let row = tx.conn().query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get("", "tx")).transpose()?)
}
