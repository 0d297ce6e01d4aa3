//! What the database as a whole remembers: which encryption key it was written with. Called by app and cli at start.

use sea_orm::{ConnectionTrait, EntityTrait, Statement};

use super::Store;
use super::entity::installation;
use crate::domain::secret::Encryptor;
use crate::error::{Error, Result};

impl Store {
    /// Whether a key was ever taken into use.
    pub async fn is_keyed(&self) -> Result<bool> {
        let row = installation::Entity::find_by_id(1).one(self.reader()).await?;
        Ok(row.is_some_and(|row| row.key_check.is_some()))
    }

    /// Takes `encryptor` into use, after proving that it is the one this database was written with.
    /// The first key ever given is remembered by its check value.
    ///
    /// # Errors
    /// `Config` when it is another key.
    pub async fn unlock(&self, encryptor: Encryptor) -> Result<()> {
        let own = encryptor.check_value();
        let tx = self.begin().await?;
        let first = "update installation set key_check = $1 where id = 1 and key_check is null";
        tx.conn()
            .execute_raw(Statement::from_sql_and_values(
                self.backend().orm(),
                first,
                [own.clone().into()],
            ))
            .await?;
        let row = installation::Entity::find_by_id(1).one(tx.conn()).await?;
        tx.commit().await?;
        match row.and_then(|row| row.key_check) {
            Some(known) if known == own => {
                self.keep_encryptor(encryptor);
                Ok(())
            }
            _ => Err(Error::config(
                "POSTRIDER_ENCRYPTION_KEY is not the key that this database was written with: its secrets cannot be read. \
                 Nothing was started",
            )),
        }
    }
}
