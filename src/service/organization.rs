//! Creates organizations. The operator does this; the API has no operation for it.

use super::audit;
use crate::domain::audit::Origin;
use crate::error::{Kind, Result};
use crate::store::entity::organization::Model;
use crate::store::{Store, organization};

/// Returns the organization of this name. Creates it if there is none.
pub async fn get_or_create(store: &Store, origin: &Origin<'_>, name: &str) -> Result<Model> {
    if let Some(known) = organization::find_by_name(store, name).await? {
        return Ok(known);
    }
    let tx = store.begin().await?;
    match organization::insert(&tx, name).await {
        Ok(made) => {
            audit::created(&tx, origin, &made.id, (&made).into()).await?;
            tx.commit().await?;
            Ok(made)
        }
        // Another process has created it in the meantime.
        Err(err) if err.kind == Kind::Conflict => {
            drop(tx);
            organization::find_by_name(store, name).await?.ok_or(err)
        }
        Err(err) => Err(err),
    }
}
