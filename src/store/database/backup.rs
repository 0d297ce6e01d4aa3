//! A copy of an SQLite database while others write to it. Must not decide where it goes or who may read it. Called by cli.

use std::path::Path;

use sea_orm::{ConnectionTrait, Statement};

use super::store::Pools;
use crate::error::{Error, Result};
use crate::store::{Backend, Store};

/// Writes the database as it is at one instant to `file`, which is empty or not there. Holds up no writer.
///
/// # Errors
/// `Config` on Postgres, `Internal` when the file cannot be written.
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
