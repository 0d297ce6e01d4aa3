//! Operational webhooks: creates the application that holds an organization's operational endpoints, and notifies these
//! endpoints of changes to other endpoints.
//!
//! Must not notify of attempts: the queue's settlement does.

use super::once_more;
use crate::domain::operational::{AboutEndpoint, Event, is_operational};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::entity::application::Model as Application;
use crate::store::entity::endpoint::Model as Endpoint;
use crate::store::operational::{find_application, insert_application};
use crate::store::{Store, Tx, operational};

/// Returns the application of an organization's operational endpoints. Creates it if there is none yet.
pub async fn get_or_create(store: &Store, org_id: &str) -> Result<Application> {
    if let Some(known) = find_application(store, org_id).await? {
        return Ok(known);
    }
    // If another request creates it at the same time, the second transaction finds it, even before it is durable.
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

/// Notifies the organization of an event at an endpoint of `app`, in the transaction of the event itself. Changes of
/// operational endpoints cause no notice.
pub(super) async fn notify(
    tx: &Tx,
    app: &Application,
    endpoint: &Endpoint,
    event: fn(AboutEndpoint) -> Event,
) -> Result<()> {
    if is_operational(&app.id) {
        return Ok(());
    }
    let mut event = event(AboutEndpoint {
        app_id: app.id.clone(),
        app_uid: app.uid.clone(),
        endpoint_id: endpoint.id.clone(),
        endpoint_uid: endpoint.uid.clone(),
        fail_since: None,
        disabled_at: None,
        disabled_reason: None,
    });
    if let Event::EndpointDisabled(about) = &mut event {
        let disabling = endpoint.disabling().unwrap_or_default();
        about.disabled_at = disabling.at.map(Timestamp::to_rfc3339);
        about.disabled_reason = disabling.reason;
    }
    operational::notify(tx, &[(app.org_id.clone(), event)]).await
}
