//! Writes the audit entries of endpoints that a settlement has disabled.
//!
//! Costs nothing if none was. Must not disable endpoints: health.rs does.

use sea_orm::EntityTrait;

use super::settlement::Changed;
use crate::domain::audit::{Fields, ObjectKind, Origin};
use crate::domain::operational::is_operational;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::Tx;
use crate::store::audit::{Written, record};
use crate::store::entity::application;

/// The origin of these entries.
const ORIGIN: Origin<'static> = Origin::system("system.endpoint.disable");

/// Writes an entry for each of these endpoints.
pub(super) async fn record_disabled(tx: &Tx, disabled: &[&Changed]) -> Result<()> {
    for endpoint in disabled {
        let app_id = endpoint.app_id.as_str();
        let Some(app) = application::Entity::find_by_id(app_id).one(tx.conn()).await? else {
            continue;
        };
        let failing_since = endpoint.failing_since.map(Timestamp::to_rfc3339);
        let written = Written {
            org_id: &app.org_id,
            app_id: Some(app_id).filter(|app_id| !is_operational(app_id)),
            kind: ObjectKind::Endpoint,
            id: endpoint.endpoint_id.as_str(),
            before: Some(Fields::default().with("disabled", &false)),
            after: Some(
                Fields::default()
                    .with("disabled", &true)
                    .with("disabledReason", &endpoint.disabled_reason)
                    .with("failingSince", &failing_since),
            ),
        };
        record(tx, &ORIGIN, written).await?;
    }
    Ok(())
}
