//! Copies an SQLite database while it is written to. Must not decide where the copy goes or who may read it.

use std::path::Path;

use sea_orm::{ConnectionTrait, Statement};

use super::store::Pools;
use crate::error::{Error, Result};
use crate::store::{Backend, Store};

/// Writes the database as it is at one instant to `file`, which must be empty or missing. Writers go on meanwhile.
///
/// # Errors
/// `Config` on Postgres and for a name that is not UTF-8; `Database` or `Internal` if the copy fails.
pub async fn copy(store: &Store, file: &Path) -> Result<()> {
    let (Pools::Sqlite { own, .. }, Some(name)) = (store.pools(), file.to_str()) else {
        return Err(Error::config(
            "only an SQLite database is copied, and to a name in UTF-8",
        ));
    };
    let vacuum = Statement::from_sql_and_values(Backend::Sqlite.orm(), "vacuum into $1", [name.into()]);
    own.execute_raw(vacuum).await?;
    Ok(())
}
