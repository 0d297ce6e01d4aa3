//! Knows which encryption key the database is written with, and which key that one is replacing.
//!
//! The table has one row, with check values of keys and never a key. A write that seals reads the check value of the
//! current key and holds a shared lock on the row until it ends; a rotation changes the row, so it waits for all such
//! writes, and later ones seal with the new key. Must not seal or open anything itself.

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::database::source::Source;
use super::entity::installation::{ActiveModel, Column, Entity, Model};
use super::{Store, Tx};
use crate::domain::encryption_keys::EncryptionKeys;
use crate::domain::secret::Encryptor;
use crate::error::{Error, Result};

/// The id of the only row.
const ID: i32 = 1;

impl Store {
    /// Returns whether the database was ever given an encryption key.
    pub async fn is_keyed(&self) -> Result<bool> {
        Ok(get(self).await?.key_check.is_some())
    }

    /// Checks that these are the keys that the database is written with, and keeps them: from then on [`Store::keys`]
    /// returns them.
    ///
    /// # Errors
    /// As [`Store::prove`].
    pub async fn unlock(&self, keys: EncryptionKeys) -> Result<()> {
        self.prove(&keys).await?;
        self.keep_keys(keys);
        Ok(())
    }

    /// Checks that these are the keys that the database is written with. If it has none yet, stores the check value of
    /// the newest one.
    ///
    /// # Errors
    /// `Config` if the key that seals is not among them, or if a rotation has not ended and the former key is not.
    pub async fn prove(&self, keys: &EncryptionKeys) -> Result<()> {
        let tx = self.begin().await?;
        let first = ActiveModel {
            key_check: Set(Some(keys.newest().check_value())),
            ..Default::default()
        };
        Entity::update_many()
            .set(first)
            .filter(Column::Id.eq(ID))
            .filter(Column::KeyCheck.is_null())
            .exec(tx.conn())
            .await?;
        let row = get(&tx).await?;
        tx.commit().await?;
        let is_held = |check: Option<&str>| check.is_none_or(|check| keys.find(check).is_some());
        if !is_held(row.key_check.as_deref()) {
            return Err(Error::config(
                "POSTRIDER_ENCRYPTION_KEY is not the key that this database was written with: its secrets cannot be read. \
                 Nothing was started",
            ));
        }
        if !is_held(row.former_key_check.as_deref()) {
            return Err(Error::config(
                "a rotation of POSTRIDER_ENCRYPTION_KEY has not ended, and some secrets are still encrypted with the former \
                 key: give both, one a line, the new one first, and run `app rotate-key` again. Nothing was started",
            ));
        }
        Ok(())
    }
}

impl Tx {
    /// Returns the key that seals what this transaction writes. A rotation waits until the transaction ends, so the key
    /// remains the right one.
    ///
    /// # Errors
    /// `Unavailable` if the key was rotated and this process, which started before, does not hold the new one.
    pub async fn sealing_key(&self) -> Result<&Encryptor> {
        let row = Entity::find_by_id(ID).lock_shared().one(self.conn()).await?;
        let check = row.and_then(|row| row.key_check).unwrap_or_default();
        self.store().keys()?.find(&check).ok_or_else(|| {
            tracing::error!(
                "POSTRIDER_ENCRYPTION_KEY was rotated to a key that this process does not hold: start it again with the new \
                 key; until then it refuses every write that would be stored encrypted"
            );
            Error::unavailable("the encryption key was rotated, and this process does not hold the new one yet: try again")
        })
    }
}

/// Returns the only row.
async fn get(source: &impl Source) -> Result<Model> {
    let row = Entity::find_by_id(ID).one(source.source()).await?;
    row.ok_or_else(|| Error::internal("the table installation has lost its row"))
}

/// Begins a rotation from `former` to `newest`. From the commit on everything is sealed with `newest`, and until
/// [`end_key_rotation`] a process that starts must hold both keys. Returns false, and changes nothing, if `newest`
/// seals already.
///
/// # Errors
/// `Config` if a third key seals: another rotation has begun since the keys were proven.
pub async fn begin_key_rotation(tx: &Tx, newest: &Encryptor, former: &Encryptor) -> Result<bool> {
    let begun = ActiveModel {
        key_check: Set(Some(newest.check_value())),
        former_key_check: Set(Some(former.check_value())),
        ..Default::default()
    };
    let begun = Entity::update_many()
        .set(begun)
        .filter(Column::Id.eq(ID))
        .filter(Column::KeyCheck.eq(former.check_value()))
        .exec(tx.conn())
        .await?;
    if begun.rows_affected == 0 && get(tx).await?.key_check != Some(newest.check_value()) {
        return Err(Error::config(
            "another rotation of POSTRIDER_ENCRYPTION_KEY has begun in the meantime, to another new key. Nothing was changed",
        ));
    }
    Ok(begun.rows_affected > 0)
}

/// Ends a rotation, once nothing is sealed with another key than `newest`: the former key is not needed any more. On
/// SQLite the commit cuts the log too, which may still hold texts sealed with the former key. Returns whether there was
/// a rotation to end.
pub async fn end_key_rotation(tx: &Tx, newest: &Encryptor) -> Result<bool> {
    let ended = ActiveModel {
        former_key_check: Set(None),
        ..Default::default()
    };
    let ended = Entity::update_many()
        .set(ended)
        .filter(Column::Id.eq(ID))
        .filter(Column::KeyCheck.eq(newest.check_value()))
        .filter(Column::FormerKeyCheck.is_not_null())
        .exec(tx.conn())
        .await?;
    tx.forget_on_commit();
    Ok(ended.rows_affected > 0)
}
