//! Operational webhooks: the application that holds an organization's operational endpoints, and what it is told of
//! changes of endpoints. Called by api and by the service of endpoints.

use super::once_more;
use crate::domain::operational::{AboutEndpoint, Event, is_operational};
use crate::error::Result;
use crate::store::entity::application::Model as Application;
use crate::store::entity::endpoint::Model as Endpoint;
use crate::store::operational::{find_application, insert_application};
use crate::store::{Store, Tx, operational};

/// The application of an organization's operational endpoints, made if there is none yet.
pub async fn get_or_create(store: &Store, org_id: &str) -> Result<Application> {
    if let Some(known) = find_application(store, org_id).await? {
        return Ok(known);
    }
    // If another request was first, a transaction of one's own sees what it made, also where it is not durable yet.
    once_more(|| try_get_or_create(store, org_id)).await
}

async fn try_get_or_create(store: &Store, org_id: &str) -> Result<Application> {
    let tx = store.begin().await?;
    let found = match find_application(&tx, org_id).await? {
        Some(known) => known,
        None => insert_application(&tx, org_id).await?,
    };
    tx.commit().await?;
    Ok(found)
}

/// Tells the organization what happened to an endpoint of `app`, with what happened itself or not at all.
pub(super) async fn tell(
    tx: &Tx,
    app: &Application,
    endpoint: &Endpoint,
    event: fn(AboutEndpoint) -> Event,
) -> Result<()> {
    if is_operational(&app.id) {
        return Ok(());
    }
    let about = AboutEndpoint {
        app_id: app.id.clone(),
        app_uid: app.uid.clone(),
        endpoint_id: endpoint.id.clone(),
        endpoint_uid: endpoint.uid.clone(),
        fail_since: None,
    };
    operational::tell(tx, &[(app.org_id.clone(), event(about))]).await
}
