//! Records batches of outcomes.
//!
//! A batch is written in one transaction: an `attempt` row for each outcome, the latest result of the message at that
//! endpoint, and either the end of the delivery row or its next due time. Returned leases are released in the same
//! transaction.
//!
//! A failure counts only while its lease still holds. If another process has taken the delivery over in the meantime,
//! the attempt is still recorded, because it happened, but the schedule does not move. A success always counts: the
//! receiver has the message.
//!
//! During an outage of the database the transaction is repeated until it succeeds or the dispatcher ends. If it fails
//! for another reason, the outcomes are written one by one, so that a single bad row cannot block the others.
//!
//! Must not decide what an outcome means: the domain has done so when the sender hands it over.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::done::Done;
use super::extension;
use super::shared::Shared;
use crate::crash_point;
use crate::domain::typed_id::DeliveryId;
use crate::error::{Error, Kind, Result};
use crate::store::database::outage;
use crate::store::queue::{self, AttemptRow, LeaseKey, Settled};
use crate::store::{is_system_error, took_too_long};

/// The pause after a settlement that the database did not take.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How often a batch is tried if the system below the database fails, before its outcomes are tried one by one: a disk
/// that is being replaced fails for all of them, a damaged block only for one.
const TRIES_OF_A_BATCH: usize = 5;
/// Stored in place of an answer's text that the database refuses.
const NOT_STORABLE: &str = "(the answer could not be stored)";

/// Returns whether an error may concern only some outcomes of a batch, or pass with time: the database waited too long
/// for a lock or worked too long, or the system below it failed.
fn waits_apart(err: &Error) -> bool {
    took_too_long(err) || is_system_error(err)
}

/// Settles a batch. Returns the outcomes that the database does not take even alone but may take later; this process
/// stays responsible for their deliveries. All others were stored, or refused alone and given up.
pub(super) async fn settle(shared: &Shared, mut batch: Vec<Done>) -> Vec<Done> {
    let mut overdue: Vec<Done> = Vec::new();
    match write(shared, &mut batch).await {
        Ok(()) => {}
        Err(err) if batch.len() == 1 && waits_apart(&err) => return batch,
        Err(err) => {
            tracing::error!(
                %err,
                outcomes = batch.len(),
                "a batch of outcomes was not stored; storing them one by one"
            );
            for sent in &mut batch {
                let has_company = overdue.iter().any(|other| other.app_id() == sent.app_id());
                if has_company || sent.log_fields().scope(settle_one(shared, sent)).await.is_err() {
                    overdue.push(sent.clone());
                }
            }
        }
    }
    let waits: HashSet<&DeliveryId> = overdue.iter().map(Done::delivery_id).collect();
    let settled = batch.iter().filter(|sent| !waits.contains(sent.delivery_id()));
    let_go(shared, settled).await;
    overdue
}

/// Ends the responsibility for settled deliveries, and gives back newer leases of them that have come since.
async fn let_go(shared: &Shared, settled: impl IntoIterator<Item = &Done>) {
    let newer = |settled: &Done| shared.held.let_go(settled);
    let mut unsent: Vec<_> = settled.into_iter().filter_map(newer).collect();
    while !unsent.is_empty() {
        if let Err(err) = write(shared, &mut unsent).await {
            let what = "leases could not be given back; they will end by themselves";
            outage::note_failure(&err, what);
            for sent in &unsent {
                shared.held.forget(sent.delivery_id());
            }
            return;
        }
        unsent = unsent.iter().filter_map(newer).collect();
    }
}

/// Settles one outcome, if necessary without the answer's text.
///
/// # Errors
/// Only errors after which the outcome waits apart.
async fn settle_one(shared: &Shared, sent: &mut Done) -> Result<()> {
    let Err(err) = write(shared, std::slice::from_mut(sent)).await else {
        return Ok(());
    };
    if waits_apart(&err) {
        tracing::warn!(
            %err,
            "an outcome could not be stored; trying again apart from the others"
        );
        return Err(err);
    }
    tracing::error!(%err, "an outcome was refused; storing it without the answer's text");
    let mut without = sent.clone();
    if let Done::Attempted(settlement) = &mut without
        && let Some(attempt) = &mut settlement.attempt
    {
        attempt.response = NOT_STORABLE.to_owned();
        attempt.detail = None;
    }
    match write(shared, std::slice::from_mut(&mut without)).await {
        Err(err) if waits_apart(&err) => return Err(err),
        Err(err) => {
            tracing::error!(%err, "an outcome is lost; the delivery is sent again when its lease ends");
        }
        Ok(()) => {}
    }
    *sent = without;
    Ok(())
}

/// Writes a batch, and during an outage repeats that until the database answers. If the dispatcher ends first, returns
/// `Ok` although the outcomes may not be stored: their rows are due when the leases end.
///
/// # Errors
/// If the database refuses the batch, or ends the transaction because it took too long. If the system below the
/// database fails: for one outcome at once, for a batch after some tries.
async fn write(shared: &Shared, batch: &mut [Done]) -> Result<()> {
    let (mut tries, mut is_stuck) = (0, false);
    let answer = loop {
        shared.held.renew(batch);
        let Err(err) = write_once(shared, batch).await else {
            break Ok(());
        };
        tries += 1;
        if waits_apart(&err) {
            // The failed statement has unlocked the rows, and other processes could claim those whose lease has ended.
            extension::extend(shared).await;
        }
        let is_an_outage = matches!(err.kind, Kind::Database | Kind::Unavailable) && !took_too_long(&err);
        let is_damage = is_system_error(&err) && (batch.len() == 1 || tries >= TRIES_OF_A_BATCH);
        if !is_an_outage || is_damage {
            break Err(err);
        }
        if !is_stuck {
            is_stuck = true;
            shared.stuck.fetch_add(1, Ordering::Relaxed);
        }
        let count = batch.len();
        outage::note_failure(&err, format_args!("{count} outcomes could not be stored; trying again"));
        if shared.ended.is_cancelled() {
            break Ok(());
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    };
    if is_stuck {
        shared.stuck.fetch_sub(1, Ordering::Relaxed);
    }
    answer
}

/// Writes a batch in one transaction, and logs what an operator should know of it.
async fn write_once(shared: &Shared, batch: &[Done]) -> Result<()> {
    crash_point::pass("sent.before_settle");
    let began = Instant::now();
    let tx = shared.store.begin().await?;
    let settled = batch.iter().filter_map(|sent| match sent {
        Done::Attempted(settlement) => Some(&**settlement),
        Done::Returned { .. } => None,
    });
    let settled = queue::settle(&tx, settled.collect()).await?;
    let unsent: Vec<_> = batch
        .iter()
        .filter_map(|sent| match sent {
            Done::Returned {
                delivery_id, lease_id, ..
            } => Some(LeaseKey {
                delivery_id: delivery_id.clone(),
                lease_id: *lease_id,
            }),
            Done::Attempted(_) => None,
        })
        .collect();
    if !unsent.is_empty() {
        queue::release(&tx, &unsent).await?;
    }
    crash_point::pass("settle.before_commit");
    tx.commit().await?;
    shared.store.metrics().settle.observe_time(began.elapsed());
    crash_point::pass("settle.after_commit");
    shared.rollup.add(batch);
    // Logs what the statements returned: a query for it would cost time in every batch. If the answer to a commit is
    // lost, the second try changes nothing, and these lines are missing.
    log(&settled);
    Ok(())
}

/// Logs what an operator should know of: endpoints that begin to fail, work again or are disabled, and messages that
/// are given up.
fn log(settled: &Settled<'_>) {
    for endpoint in &settled.endpoints {
        let (app_id, endpoint_id) = (endpoint.app_id.as_str(), endpoint.endpoint_id.as_str());
        let endpoint_uid = &endpoint.uid;
        let reason = &endpoint.summary;
        let since = endpoint.failing_since.map(|at| at.to_rfc3339());
        match since {
            Some(since) if endpoint.disabled => {
                let what = "an endpoint is disabled";
                tracing::warn!(app_id, endpoint_id, endpoint_uid, since, reason, "{what}");
            }
            Some(_) => tracing::warn!(app_id, endpoint_id, endpoint_uid, reason, "an endpoint begins to fail"),
            None => tracing::info!(app_id, endpoint_id, endpoint_uid, reason, "an endpoint works again"),
        }
    }
    for settlement in &settled.given_up {
        let attempts = settlement.attempts_made + 1;
        let reason = settlement.attempt.as_ref().map(AttemptRow::summary);
        let fields = settlement.log_fields();
        fields.sync_scope(|| tracing::warn!(attempts, reason, "a message is given up"));
    }
}
