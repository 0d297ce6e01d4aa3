//! Finds the events of a batch of outcomes that the organization is notified of: deliveries that begin to fail, are
//! given up or recover, and endpoints that were disabled.
//!
//! Outcomes that are worth no notice cost nothing. For all other attempts one statement reads what the notices say, and
//! for each disabled endpoint another one. They must run before the batch's results are written, because the former
//! result notice_of whether the message was delivered before. Must not store the notices: `store/operational.rs` does.

use sea_orm::{ConnectionTrait, EntityTrait};

use super::settlement::{AttemptRow, Changed, Settlement};
use crate::domain::delivery::{ResultState, Trigger};
use crate::domain::operational::{AboutAttempt, AboutEndpoint, Event, LastAttempt, Notice, is_operational, notice_of};
use crate::error::Result;
use crate::store::Tx;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::entity::application;

/// An event, behind the id of the organization that it is for.
type AddressedEvent = (String, Event);

/// A settlement that is worth a notice.
struct Worth<'a> {
    settlement: &'a Settlement,
    attempt: &'a AttemptRow,
    notice: Notice,
}

impl<'a> Worth<'a> {
    /// Returns `None` if the settlement is worth no notice, or nothing was sent.
    fn of(settlement: &'a Settlement) -> Option<Self> {
        Some(Self {
            notice: notice_of(settlement.decision, settlement.trigger, settlement.attempts_made)?,
            attempt: settlement.attempt.as_ref()?,
            settlement,
        })
    }
}

/// Returns the events of the batch's attempts, and those of the endpoints that it has disabled.
pub(super) async fn find_events(
    tx: &Tx,
    batch: &[&Settlement],
    disabled: Vec<&Changed>,
) -> Result<Vec<AddressedEvent>> {
    let mut events = find_attempt_events(tx, batch).await?;
    events.extend(find_endpoint_events(tx, disabled).await?);
    Ok(events)
}

/// Returns the events of attempts, for organizations with an operational endpoint that may be called.
async fn find_attempt_events(tx: &Tx, batch: &[&Settlement]) -> Result<Vec<AddressedEvent>> {
    let worth = batch
        .iter()
        .filter(|settlement| !is_operational(settlement.app_id.as_str()));
    let worth: Vec<Worth> = worth.filter_map(|settlement| Worth::of(settlement)).collect();
    if worth.is_empty() {
        return Ok(Vec::new());
    }
    let text = |of: fn(&Settlement) -> &str| Column::Text(worth.iter().map(|worth| of(worth.settlement)).collect());
    let rows = Rows::new([
        ("place", Column::Int((0..worth.len() as i64).collect())),
        ("app_id", text(|settlement| settlement.app_id.as_str())),
        ("message_id", text(|settlement| settlement.message_id.as_str())),
        ("endpoint_id", text(|settlement| settlement.endpoint_id.as_str())),
        (
            "manual",
            Column::Int(
                worth
                    .iter()
                    .map(|worth| i64::from(worth.settlement.trigger == Trigger::Manual))
                    .collect(),
            ),
        ),
    ]);
    let found = tx
        .conn()
        .query_all_raw(statement(tx.backend(), FACTS, &[("t", &rows)], []))
        .await?;
    let mut events = Vec::new();
    for row in &found {
        let place: i64 = row.try_get("", "place")?;
        let Worth {
            settlement,
            attempt,
            notice,
        } = &worth[usize::try_from(place).unwrap_or(0)];
        let state: Option<ResultState> = row.try_get("", "state")?;
        let is_unannounced = *notice == Notice::Recovered && row.try_get::<i32>("", "notified_before")? == 0;
        if state == Some(ResultState::Delivered) || is_unannounced {
            continue;
        }
        let about = AboutAttempt {
            app_id: settlement.app_id.to_string(),
            app_uid: row.try_get("", "uid")?,
            msg_id: settlement.message_id.to_string(),
            msg_event_id: row.try_get("", "event_id")?,
            endpoint_id: settlement.endpoint_id.to_string(),
            last_attempt: LastAttempt {
                id: attempt.id.to_string(),
                response_status_code: attempt.response_status,
                timestamp: attempt.created_at.to_rfc3339(),
            },
        };
        events.push((row.try_get("", "org_id")?, notice.event(about)));
    }
    Ok(events)
}

/// Reads what the notices of attempts say, for organizations with an operational endpoint that may be called.
///
/// `notified_before` is 1 if the organization was notified of the delivery's failures: four scheduled attempts have failed,
/// or one after which no other was scheduled. It is counted for manual attempts only, because a manual success is a
/// recovery only then. A message has few attempts and an endpoint may have many, so `x.endpoint_id || ''` keeps the
/// planner from the index that begins with the endpoint.
const FACTS: &str = "select t.place, a.org_id, a.uid, m.event_id, r.state, \
    case when t.manual = 0 then 1 else (select case when count(*) >= 4 or count(*) > count(x.next_at) then 1 else 0 end \
    from attempt x where x.app_id = t.app_id and x.message_id = t.message_id and x.endpoint_id || '' = t.endpoint_id \
    and x.trigger = 0 and not x.delivered) end as notified_before \
    from {t} join application a on a.id = t.app_id and a.deleted_at is null \
    join message m on m.app_id = t.app_id and m.id = t.message_id \
    left join delivery_result r on r.app_id = t.app_id and r.message_id = t.message_id and r.endpoint_id = t.endpoint_id \
    where (select l.id from endpoint l where l.app_id = a.org_id and l.deleted_at is null and not l.disabled \
    order by l.id limit 1) is not null";

/// Returns the events of disabled endpoints. The notice is stored only if an operational endpoint wants it.
async fn find_endpoint_events(tx: &Tx, disabled: Vec<&Changed>) -> Result<Vec<AddressedEvent>> {
    let mut events = Vec::new();
    for endpoint in disabled
        .into_iter()
        .filter(|endpoint| !is_operational(endpoint.app_id.as_str()))
    {
        let Some(app) = application::Entity::find_by_id(endpoint.app_id.as_str())
            .one(tx.conn())
            .await?
        else {
            continue;
        };
        let about = AboutEndpoint {
            app_id: endpoint.app_id.to_string(),
            app_uid: app.uid,
            endpoint_id: endpoint.endpoint_id.to_string(),
            endpoint_uid: endpoint.uid.clone(),
            fail_since: endpoint.failing_since.map(|at| at.to_rfc3339()),
            disabled_at: Some(tx.now.to_rfc3339()),
            disabled_reason: endpoint.disabled_reason,
        };
        events.push((app.org_id, Event::EndpointDisabled(about)));
    }
    Ok(events)
}
