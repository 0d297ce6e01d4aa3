//! Organizations, made by the operator and not by the API. Called by cli and app.

use crate::error::{Kind, Result};
use crate::store::entity::organization::Model;
use crate::store::{Store, organization};

/// The organization of this name, made if it is new.
pub async fn get_or_create(store: &Store, name: &str) -> Result<Model> {
    if let Some(known) = organization::find_by_name(store, name).await? {
        return Ok(known);
    }
    let tx = store.begin().await?;
    match organization::insert(&tx, name).await {
        Ok(made) => {
            tx.commit().await?;
            Ok(made)
        }
        // Another process was first.
        Err(err) if err.kind == Kind::Conflict => {
            drop(tx);
            organization::find_by_name(store, name).await?.ok_or(err)
        }
        Err(err) => Err(err),
    }
}
